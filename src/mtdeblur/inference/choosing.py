"""The choice of parts for each picture: exact tiles and bands, windows, or the whole picture."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from mtdeblur.errors import UserError, whole_number
from mtdeblur.inference.memory import Need, measure, usable
from mtdeblur.inference.parts import Model, Parts, work
from mtdeblur.inference.windows import spans
from mtdeblur.media import spool

WHOLE_UP_TO = 4_000_000
"""Pixels of the largest picture that a CPU runs at once; tiles are faster there."""
UNMEASURED_UP_TO = 1_000_000
"""Pixels of the largest picture for which the default needs no estimate of memory."""


class Choice:
    """Chooses the parts in which pictures are deblurred.

    Args:
        model: gives the model.
        device: of the computation.
        tile: side of tiles or windows in pixels, "off" or "auto".
        memory: limit in bytes, or None for a share of what is free.
    """

    def __init__(
        self, model: Callable[[], Model], device: torch.device, tile: int | str, memory: int | None
    ) -> None:
        self._model, self._device, self._tile, self._memory = model, device, tile, memory
        self._kept: dict[tuple[int, int], Parts] = {}

    def keep(self, height: int, width: int, kept: Sequence[Any]) -> list[Any]:
        """Choose the same parts for all pictures of a size; see `Deblurrer.keep_parts`."""
        self._kept[height, width] = Parts(*kept) if kept else self.parts(height, width)
        return list(self._kept[height, width])

    def parts(self, height: int, width: int, results: int = 1) -> Parts:
        """The parts of a picture; see `Deblurrer.parts`."""
        if (height, width) in self._kept:
            return self._kept[height, width]
        model = self._model()
        windowed = model.contract.global_operation is not None
        if self._tile == "off" or (self._tile == "auto" and model.contract.size and not windowed):
            return Parts("whole")
        if isinstance(self._tile, int):
            parts = model.parts(self._tile)
            return Parts("whole") if windowed and max(height, width) <= parts.rows else parts
        area, side = height * width, model.contract.window if windowed else None
        if area <= UNMEASURED_UP_TO and self._memory is None:
            return Parts("whole") if side is None or max(height, width) <= side else model.parts(side)
        at_once = max(height, width) <= side if side else area <= WHOLE_UP_TO or self._device.type != "cpu"
        whole, memory = Parts("whole"), self._usable - _samples(height, width, self._device)
        if at_once and model.bytes(whole, height, width, self._need, results) <= memory:
            return whole
        return model.fitting(height, width, self._need, results, memory)

    def pixels_run(self, height: int, width: int) -> int:
        """Pixels of all windows of a picture, or of all tiles with their halos."""
        parts, contract = self.parts(height, width), self._model().contract
        if parts.kind != "windows":
            return int(height * width * work(parts, contract.halo))
        axes = (spans(length, parts.rows, contract.multiple) for length in (width, height))
        across, down = (sum(len(span.weights) for span in axis) for axis in axes)
        return across * down

    @cached_property
    def _need(self) -> Need:
        model = self._model()
        return measure(model.networks, model.steps, self._device)

    @cached_property
    def _usable(self) -> int:
        return usable(self._memory, self._device)


def _samples(height: int, width: int, device: torch.device) -> int:
    """Bytes of a result in 8 bits, which is in memory on a CPU unless it is large."""
    size = 3 * height * width
    return size if device.type == "cpu" and size <= spool.LARGE else 0


def check_tile(tile: object) -> int | str:
    """The setting `tile` of `mtdeblur.inference.deblurrer.load`: a number of pixels, "off" or "auto".

    Raises:
        UserError: if it is none of these.
    """
    if isinstance(tile, str) and tile in ("auto", "off"):
        return tile
    try:
        return whole_number("pixels", int(tile) if isinstance(tile, str) else tile)
    except (UserError, ValueError):
        raise UserError(f"tile must be 'auto', 'off' or a number of pixels from 1 up, not {tile!r}") from None
