"""Blended windows: networks that take in the whole picture at once, run over parts of it.

Exact tiles (`mtdeblur.inference.tiling`) are not possible for such a network. Each window is deblurred as a
picture of its own, through all steps; where windows overlap, their estimates are averaged with weights that
fall off linearly towards a window's edge. So memory is bounded, and a network trained on small patches mostly
does better than on the whole picture (Chu et al., ECCV 2022); but the result is another one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtdeblur.networks.contract import ProgressiveNetwork
from mtdeblur.networks.unroll import Step, resize, unroll

OVERLAP = 64
"""Pixels that neighbouring windows share at least; no more than a quarter of a window."""
TOGETHER_UP_TO = 1_500_000
"""Pixels of a picture whose windows advance together, step by step, so that whole estimates come early; the
state of every window is kept. Windows of a larger picture go through all their steps one after the other."""

Report = Callable[[float], None]
"""Told the share of the work that is done, from 0 to 1."""


class Span(NamedTuple):
    """A window along one axis.

    Attributes:
        place: where it lies, in pixels.
        weights: of its pixels, (length,); those of all windows add up to 1 at each pixel of the picture.
    """

    place: slice
    weights: Tensor


def spans(length: int, side: int, multiple: int = 1) -> list[Span]:
    """Windows along one axis: all of one length, evenly spread, from the first pixel to the last.

    There are as many as windows of that side need to overlap enough; then they are made smaller while as many
    still do, down to three quarters.

    Args:
        length: of the picture, in pixels.
        side: of a window, at most; one window covers a picture that is not longer.
        multiple: of the network; smaller windows keep to it.
    """
    overlap = min(OVERLAP, side // 4)
    number = max(1, -(-(length - overlap) // (side - overlap)))
    enough = max(-(-(length + (number - 1) * overlap) // number), -(-3 * side // 4))
    side = min(-(-enough // multiple) * multiple, side, length)
    places = [round(n * (length - side) / max(1, number - 1)) for n in range(number)]
    ramp = torch.arange(1, side + 1, dtype=torch.float64)
    ramp = torch.minimum(ramp, ramp.flip(0)).clamp(max=overlap + 1)
    total = torch.zeros(length, dtype=torch.float64)
    for place in places:
        total[place : place + side] += ramp
    slices = [slice(place, place + side) for place in places]
    return [Span(place, (ramp / total[place]).float()) for place in slices]


def unroll_windows(
    networks: Sequence[ProgressiveNetwork],
    blurred: Tensor,
    steps: Sequence[Step],
    side: int,
    report: Report | None = None,
) -> Iterator[Tensor]:
    """Yield the blended estimate of every step.

    Args:
        networks: the members of a model.
        blurred: I0, (B, 3, H, W) in [0, 1], float.
        steps: one or more.
        side: of the windows, at most, in pixels.
        report: told how far the work is.

    Yields:
        (B, 3, H, W), not clamped; estimates at a lower scale are enlarged bilinearly.
    """
    multiple = networks[steps[0].network].contract.multiple
    rows, columns = (spans(length, side, multiple) for length in blurred.shape[-2:])
    windows = [(row, column) for row in rows for column in columns]
    runs = [unroll(networks, blurred[..., row.place, column.place], steps) for row, column in windows]
    work = len(windows) * len(steps)

    def add(total: Tensor, number: int, estimate: Tensor, done: int) -> None:
        row, column = windows[number]
        weights = torch.outer(row.weights, column.weights).to(total.device)
        total[..., row.place, column.place] += weights * resize(estimate, *weights.shape)
        if report is not None:
            report(done / work)

    if blurred.shape[-2] * blurred.shape[-1] <= TOGETHER_UP_TO:
        for step in range(len(steps)):
            total = torch.zeros_like(blurred)
            for number, run in enumerate(runs):
                add(total, number, next(run), step * len(windows) + number + 1)
            yield total
        return
    totals = [torch.zeros_like(blurred) for _ in steps]
    for number in range(len(windows)):
        run, runs[number] = runs[number], iter(())  # its state goes with it
        for step, estimate in enumerate(run):
            add(totals[step], number, estimate, number * len(steps) + step + 1)
    while totals:
        yield totals.pop(0)
