"""Exact row bands: all iterations of a picture in a pipeline, in memory bounded by the picture's width.

A band of rows of iteration i needs only the same rows of iteration i - 1 and one halo above and below. So
each iteration runs one halo behind the one before, and of its estimate and state only two halos of rows are
kept, plus the band in work. A band is run tile by tile along the width, each tile with its halo. The result
equals that of the whole picture up to rounding.

A network that is compiled for each size (attribute `one_size`) gets windows of one size, which are moved
inwards at the picture's edges, and bands of full height, so that an iteration may run up to one band further
ahead.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtdeblur.inference.strips import Report, Source, Strip
from mtdeblur.inference.tiling import Span, overlapping
from mtdeblur.media import spool
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, same_state
from mtdeblur.networks.unroll import Step

_STRIP = 2**23  # bytes of a map that are copied at once


def allowed(networks: Sequence[ProgressiveNetwork], steps: Sequence[Step]) -> bool:
    """Whether a model can run in bands: all steps at full resolution, by alike and local networks."""
    contracts = [networks[step.network].contract for step in steps]
    alike = {(contract.multiple, contract.state_scales) for contract in contracts}
    local = all(not contract.global_operation and contract.estimate_scale == 1 for contract in contracts)
    return local and len(alike) == 1 and all(step.scale == 1 for step in steps)


def unroll_bands(
    networks: Sequence[ProgressiveNetwork],
    source: Source,
    steps: Sequence[Step],
    tile: tuple[int, int],
    wanted: Collection[int],
    report: Report | None = None,
    *,
    spooled: bool = False,
) -> Iterator[Strip]:
    """Yield the finished rows of the wanted steps, in order for each step.

    Args:
        networks: the members of a model.
        source: the blurred picture.
        steps: one or more for which `allowed` holds.
        tile: rows of a band and width of a tile, in pixels without halo; rounded up to the multiple.
        wanted: numbers of steps, from 0.
        report: receives the finished share of the work, from 0 to 1.
        spooled: keep the rows between the iterations in temporary files instead of on the device.

    Yields:
        a strip for each band of each wanted step.
    """
    plan = [networks[step.network] for step in steps]
    multiple = plan[0].contract.multiple
    rows, columns = (-(-side // multiple) * multiple for side in tile)
    pipeline = _Pipeline(plan, source, rows, columns, wanted, report, spooled)
    yield from pipeline.advance(len(plan) - 1, source.height)


class _Map(NamedTuple):
    """Geometry of the estimate, of the picture's size, or of a map of the state, of the padded picture."""

    scale: int
    multiple: int

    def cut(self, start: int, stop: int, first: int = 0) -> slice:
        """Rows or columns of the map for those of the picture, in a map that begins at `first`."""
        stop = -(-stop // self.multiple) * self.multiple
        return slice((start - first) // self.scale, (stop - first) // self.scale)


def _maps(contract: Contract) -> list[_Map]:
    return [_Map(1, 1), *(_Map(scale, contract.multiple) for scale in contract.state_scales)]


class _Kept:
    """Rows [start, stop) of one iteration's estimate and state."""

    def __init__(self, geometry: list[_Map], spooled: bool) -> None:
        self.geometry, self.spooled = geometry, spooled
        self.start = self.stop = 0
        self.maps: list[Tensor] = []
        self.files: list[spool.Array] = []  # of the maps, if spooled
        self.kind: State = None
        self.device = torch.device("cpu")

    def window(self, rows: Span, columns: Span) -> tuple[Tensor, State]:
        """Estimate and state of a window."""
        estimate, *state = (
            x[..., place.cut(*rows[2:], self.start), place.cut(*columns[2:])].to(self.device)
            for x, place in zip(self.maps, self.geometry, strict=True)
        )
        return estimate, same_state(self.kind, state)

    def grow(self, stop: int, width: int, like: Sequence[Tensor]) -> None:
        """Make room for more rows of maps like those of a tile."""
        self.device = like[0].device
        old, old_files = self.maps, self.files
        self.maps, self.files = [], []
        for number, (part, place) in enumerate(zip(like, self.geometry, strict=True)):
            rows, columns = place.cut(self.start, stop, self.start), place.cut(0, width)
            x = self._empty((*part.shape[:2], rows.stop, columns.stop), part)
            if old:
                _copy(old[number], x, [*self.files, *old_files])
                old[number] = part  # frees the old rows
            self.maps.append(x)
        self.stop = stop

    def put(self, parts: Sequence[Tensor], rows: Span, columns: Span) -> None:
        """Store a tile without its halo."""
        for x, part, place in zip(self.maps, parts, self.geometry, strict=True):
            inner = part[..., place.cut(*rows[:2], rows[2]), place.cut(*columns[:2], columns[2])]
            x[..., place.cut(*rows[:2], self.start), place.cut(*columns[:2])] = inner
        self.release()

    def drop(self, start: int) -> None:
        """Forget the rows above `start`."""
        if start <= self.start:
            return
        old, old_files = self.maps, self.files
        self.maps, self.files = [], []
        for number, place in enumerate(self.geometry):
            rest = old[number][..., (start - self.start) // place.scale :, :]
            self.maps.append(self._empty(rest.shape, rest))
            _copy(rest, self.maps[-1], [*self.files, *old_files])
            old[number] = self.maps[-1]
        self.start = start
        self.release()

    def release(self) -> None:
        """Take rows in files out of the process's memory."""
        spool.release(*self.files)

    def _empty(self, size: Sequence[int], like: Tensor) -> Tensor:
        batch, channels, height, width = size
        if not self.spooled:
            return like.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
        shape = batch, height, width, channels * like.element_size()
        file = spool.temporary_file(math.prod(shape))
        array = spool.mapped(file, shape, "uint8")
        self.files.append(array)
        x = torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]
        return x.view(like.dtype).permute(0, 3, 1, 2)


def _copy(source: Tensor, target: Tensor, files: Sequence[spool.Array]) -> None:
    """Copy rows to the first rows of a map, a few at a time so that little of files is in memory."""
    height = source.shape[-2]
    rows = max(1, _STRIP * height // max(1, source.nbytes) if files else height)
    for start in range(0, height, rows):
        part = slice(start, min(start + rows, height))
        target[..., part, :] = source[..., part, :]
        spool.release(*files)


class _Pipeline:
    """The iterations of one picture, and how far each has come."""

    def __init__(
        self,
        plan: Sequence[ProgressiveNetwork],
        source: Source,
        rows: int,
        columns: int,
        wanted: Collection[int],
        report: Report | None,
        spooled: bool,
    ) -> None:
        self.plan, self.source, self.rows, self.columns = plan, source, rows, columns
        self.one_size = any(getattr(network, "one_size", False) for network in plan)
        self.wanted, self.report = wanted, report
        self.kept = [_Kept(_maps(network.contract), spooled) for network in plan]

    def advance(self, step: int, stop: int) -> Iterator[Strip]:
        """Run one step up to a row or beyond it, and those before it as far as it needs them."""
        kept, height = self.kept[step], self.source.height
        while kept.stop < stop:
            start = kept.stop
            end = min(start + self.rows, height if self.one_size else stop)
            first, last = self.window(step, start, end)
            if step > 0:
                yield from self.advance(step - 1, last)
            self.run(step, Span(start, end, first, last))
            if step > 0:
                self.kept[step - 1].drop(self.window(step, end, end)[0])
            if step in self.wanted:
                yield Strip(step, start, kept.maps[0][..., start - kept.start : end - kept.start, :])
            if step == len(self.plan) - 1:
                kept.start, kept.maps = end, []

    def window(self, step: int, start: int, stop: int) -> tuple[int, int]:
        """First row, and row behind the last, of a band with its halo."""
        contract, height = self.plan[step].contract, self.source.height
        first, last = max(start - contract.halo, 0), min(stop + contract.halo, height)
        if self.one_size:
            padded = -(-height // contract.multiple) * contract.multiple
            longest = min(self.rows + 2 * contract.halo, padded)
            first = min(first, padded - longest)
            last = min(first + longest, height)
        return first, last

    def run(self, step: int, rows: Span) -> None:
        """Run one step on a band, tile by tile."""
        network, kept, width = self.plan[step], self.kept[step], self.source.width
        multiple = network.contract.multiple
        padded = -(-width // multiple) * multiple
        for tile in overlapping(padded, self.columns, network.contract.halo, one_size=self.one_size):
            columns = tile._replace(stop=min(tile.stop, width), window_stop=min(tile.window_stop, width))
            image = self.source(slice(*rows[2:]), slice(*columns[2:]))
            before, state = self.kept[step - 1].window(rows, columns) if step else (image, None)
            estimate, state = network(image, before, state)
            parts = [estimate, *(state or ())]
            if kept.stop < rows.stop:
                kept.kind = same_state(state, [part[..., :1, :1].clone() for part in parts[1:]])
                kept.grow(rows.stop, width, parts)
            kept.put(parts, rows, columns)
            if step:
                self.kept[step - 1].release()
        if self.report is not None:
            done = sum(kept.stop for kept in self.kept)
            self.report(done / (len(self.plan) * self.source.height))
