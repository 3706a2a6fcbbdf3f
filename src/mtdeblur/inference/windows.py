"""Blended windows, for networks with a global operation, for which exact tiles are not possible.

Each window is deblurred as a separate picture through all steps; overlapping estimates are averaged with
weights that decrease linearly towards a window's edge. Memory is bounded, and networks trained on small
patches usually give better results than on the whole picture (Chu et al., ECCV 2022), but different ones.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtdeblur.networks.contract import ProgressiveNetwork
from mtdeblur.networks.unroll import Step, resize, unroll

OVERLAP = 64
"""Minimum overlap of neighbouring windows in pixels, but at most a quarter of a window."""
TOGETHER_UP_TO = 1_500_000
"""Up to this many pixels, all windows of a picture advance together, step by step: estimates are available
early, and all states are in memory. The windows of larger pictures run one after the other."""

Report = Callable[[float], None]
"""Receives the finished share of the work, from 0 to 1."""


class Span(NamedTuple):
    """A window along one axis.

    Attributes:
        place: its pixels in the picture.
        weights: of its pixels, (length,); the weights of all windows add up to 1 at each pixel.
    """

    place: slice
    weights: Tensor


def spans(length: int, side: int, multiple: int = 1) -> list[Span]:
    """Windows of equal length along one axis, evenly spaced over all pixels.

    Their number is the smallest with enough overlap for windows of `side`. The windows are then reduced as
    far as the overlap allows, to at least three quarters of `side`.

    Args:
        length: of the picture, in pixels.
        side: maximum length of a window; a shorter picture has one window.
        multiple: of the network, for the length of reduced windows.
    """
    overlap = min(OVERLAP, side // 4)
    number = max(1, -(-(length - overlap) // (side - overlap)))
    smallest = max(-(-(length + (number - 1) * overlap) // number), -(-3 * side // 4))
    side = min(-(-smallest // multiple) * multiple, side, length)
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
        side: maximum side of a window, in pixels.
        report: receives the finished share of the work, from 0 to 1.

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
        run, runs[number] = runs[number], iter(())  # to free its state afterwards
        for step, estimate in enumerate(run):
            add(totals[step], number, estimate, number * len(steps) + step + 1)
    while totals:
        yield totals.pop(0)
