"""Blended windows, for networks with a global operation, for which exact tiles are not possible.

Each window is deblurred as a separate picture through all steps; overlapping estimates are averaged with
weights that decrease linearly towards a window's edge. Memory is bounded, and networks trained on small
patches usually give better results than on the whole picture (Chu et al., ECCV 2022), but different ones.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtdeblur.inference.stopping import Settle, every_step
from mtdeblur.inference.strips import Report, Source, Strip, TensorSource
from mtdeblur.networks.contract import ProgressiveNetwork
from mtdeblur.networks.unroll import Step, resize, unroll

OVERLAP = 64
"""Minimum overlap of neighbouring windows in pixels, but at most a quarter of a window."""
TOGETHER_UP_TO = 1_500_000
"""Up to this many pixels, all windows of a picture advance together, step by step: estimates are available
early, and all states are in memory. The windows of larger pictures run one after the other."""


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
    settle: Settle = every_step,
) -> Iterator[Tensor]:
    """Yield the blended estimate of every step.

    Args:
        networks: the members of a model.
        blurred: I0, (B, 3, H, W) in [0, 1], float.
        steps: one or more.
        side: maximum side of a window, in pixels.
        report: receives the finished share of the work, from 0 to 1.
        settle: decides in each window which steps run, see `mtdeblur.inference.stopping`; by default all.

    Yields:
        (B, 3, H, W), not clamped; estimates at a lower scale are enlarged bilinearly.
    """
    height, width = blurred.shape[-2:]
    if height * width <= TOGETHER_UP_TO:
        yield from _together(networks, blurred, steps, side, report, settle)
        return
    totals = [torch.empty_like(blurred) for _ in steps]
    for step, start, rows in unroll_rows(
        networks, TensorSource(blurred), steps, side, range(len(steps)), report, settle
    ):
        totals[step][..., start : start + rows.shape[-2], :] = rows
    while totals:
        yield totals.pop(0)


def unroll_rows(
    networks: Sequence[ProgressiveNetwork],
    source: Source,
    steps: Sequence[Step],
    side: int,
    wanted: Collection[int],
    report: Report | None = None,
    settle: Settle = every_step,
) -> Iterator[Strip]:
    """Yield the finished rows of the blended estimates of the wanted steps, in order for each step.

    One window after the other runs through all steps, and only one row of windows is in memory.

    Args:
        networks: as for `unroll_windows`.
        source: the blurred picture.
        steps: as for `unroll_windows`.
        side: as for `unroll_windows`.
        wanted: numbers of steps, from 0.
        report: receives the finished share of the work, from 0 to 1.
        settle: as for `unroll_windows`.

    Yields:
        for each row of windows, the rows that no later window covers, of each wanted step.
    """
    multiple = networks[steps[0].network].contract.multiple
    rows, columns = (spans(length, side, multiple) for length in (source.height, source.width))
    work, done, start = len(rows) * len(columns) * len(steps), 0, 0
    ends = [*(row.place.start for row in rows[1:]), source.height]
    totals: dict[int, Tensor] = {}  # sums of the picture's rows from `start`
    for row, end in zip(rows, ends, strict=True):
        for column in columns:
            blurred = source(row.place, column.place)
            weights = torch.outer(row.weights, column.weights).to(blurred.device)
            for step, estimate in enumerate(settle(unroll(networks, blurred, steps), blurred)):
                if step in wanted:
                    total = _extended(totals.get(step), blurred, row.place.stop - start, source.width)
                    total[..., row.place.start - start :, column.place] += weights * resize(
                        estimate, *weights.shape
                    )
                    totals[step] = total
                done += 1
                if report is not None:
                    report(done / work)
        for step, total in totals.items():
            yield Strip(step, start, total[..., : end - start, :])
            totals[step] = total[..., end - start :, :].clone()
        start = end


def _extended(total: Tensor | None, like: Tensor, height: int, width: int) -> Tensor:
    """Sums (B, 3, height, width), with zeros below those so far."""
    if total is not None and total.shape[-2] == height:
        return total
    extended = torch.zeros(*like.shape[:2], height, width, dtype=like.dtype, device=like.device)
    if total is not None:
        extended[..., : total.shape[-2], :] = total
    return extended


def _together(
    networks: Sequence[ProgressiveNetwork],
    blurred: Tensor,
    steps: Sequence[Step],
    side: int,
    report: Report | None,
    settle: Settle,
) -> Iterator[Tensor]:
    """All windows of a small picture, step by step."""
    multiple = networks[steps[0].network].contract.multiple
    rows, columns = (spans(length, side, multiple) for length in blurred.shape[-2:])
    windows = [(row, column) for row in rows for column in columns]
    parts = [blurred[..., row.place, column.place] for row, column in windows]
    runs = [settle(unroll(networks, part, steps), part) for part in parts]
    for step in range(len(steps)):
        total = torch.zeros_like(blurred)
        for number, ((row, column), run) in enumerate(zip(windows, runs, strict=True), 1):
            weights = torch.outer(row.weights, column.weights).to(total.device)
            total[..., row.place, column.place] += weights * resize(next(run), *weights.shape)
            if report is not None:
                report((step * len(windows) + number) / (len(windows) * len(steps)))
        yield total
