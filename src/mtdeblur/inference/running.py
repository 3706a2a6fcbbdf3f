"""A model on a picture in the chosen parts, and in smaller ones when memory runs out."""

from collections.abc import Callable, Collection, Iterator

import torch

from mtdeblur.inference import windows
from mtdeblur.inference.bands import unroll_bands
from mtdeblur.inference.devices import out_of_memory
from mtdeblur.inference.parts import Model, Parts
from mtdeblur.inference.strips import Report, Source, Strip
from mtdeblur.inference.tiling import TiledNetwork
from mtdeblur.inference.windows import unroll_rows, unroll_windows
from mtdeblur.networks.unroll import resize, unroll

Notify = Callable[[str], None]
"""Receives a one-line notice for the user."""


def in_turn(parts: Parts, height: int, width: int) -> bool:
    """Whether each of several steps is finished before the next begins, and not all of them row by row.

    Args:
        parts: in which a picture is deblurred.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """
    if parts.kind == "windows":
        return height * width <= windows.TOGETHER_UP_TO
    return parts.kind != "bands"


def run(
    model: Model,
    source: Source,
    parts: Parts,
    wanted: Collection[int],
    report: Report | None = None,
    notify: Notify | None = None,
) -> Iterator[Strip]:
    """Yield the rows of the wanted steps; without enough memory, begin again with smaller parts.

    Args:
        model: the model.
        source: the blurred picture.
        parts: how to deblur it.
        wanted: numbers of steps, from 0.
        report: receives the finished share of the work, from 0 to 1.
        notify: receives a notice before a new beginning.

    Yields:
        strips, in order for each step; after a new beginning, those of finished steps once more.

    Raises:
        MemoryError, RuntimeError: if memory does not suffice for the smallest parts either.
    """
    while True:
        try:
            yield from _run(model, source, parts, wanted, report)
            return
        except (MemoryError, RuntimeError) as error:
            smaller = parts.smaller(model) if out_of_memory(error) else None
            if smaller is None:
                raise
        # Here the error, which refers to the tensors of the failed attempt, is gone.
        if notify is not None:
            notify(f"not enough memory for {parts}; now trying {smaller}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        parts = smaller


def _run(
    model: Model, source: Source, parts: Parts, wanted: Collection[int], report: Report | None
) -> Iterator[Strip]:
    networks, steps = model.networks, model.steps
    if parts.kind == "bands":
        tile = parts.rows, parts.columns
        yield from unroll_bands(networks, source, steps, tile, wanted, report, spooled=parts.spooled)
        return
    row_by_row = not in_turn(parts, source.height, source.width) or len(wanted) == 1
    if parts.kind == "windows" and row_by_row:
        yield from unroll_rows(networks, source, steps, parts.rows, wanted, report, model.settle)
        return
    blurred = source(slice(None), slice(None))
    if parts.kind == "windows":
        estimates = unroll_windows(networks, blurred, steps, parts.rows, report, model.settle)
    else:
        if parts.kind == "tiles":
            networks = [TiledNetwork(network, parts.rows) for network in networks]
        estimates = model.settle(unroll(networks, blurred, steps), blurred)
    for step, estimate in enumerate(estimates):
        if parts.kind != "windows" and report is not None:
            report((step + 1) / len(steps))
        if step in wanted:
            corners = model.contract.corners
            yield Strip(step, 0, resize(estimate, source.height, source.width, corners=corners))
