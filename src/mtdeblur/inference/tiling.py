"""Exact tiling: one iteration tile by tile, with the same result as on the whole picture."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mtdeblur.networks.contract import (
    Contract,
    ProgressiveNetwork,
    State,
    any_size,
    same_state,
)


class Span(NamedTuple):
    """A tile along one axis, in pixels: its core [start, stop) in its window, which includes the halo.

    The methods return slices for a map that is `scale` times smaller than the picture.
    """

    start: int
    stop: int
    window_start: int
    window_stop: int

    def core(self, scale: int) -> slice:
        """The core in the picture."""
        return slice(self.start // scale, self.stop // scale)

    def window(self, scale: int) -> slice:
        """The window in the picture."""
        return slice(self.window_start // scale, self.window_stop // scale)

    def inner(self, scale: int) -> slice:
        """The core in the window."""
        return slice((self.start - self.window_start) // scale, (self.stop - self.window_start) // scale)


class TiledNetwork:
    """A progressive network that runs each step tile by tile.

    Each tile has a halo as wide as the receptive field of one iteration, so the stitched estimate and state
    equal those of the whole picture up to rounding. The next step starts from the stitched estimate and
    state: a halo need not cover more than one iteration.

    A network that is compiled for each size (attribute `one_size`) gets windows of one size, which are moved
    inwards at the picture's edges.

    Besides the picture-sized estimate and state, memory contains one tile with its halo at a time.
    """

    def __init__(self, network: ProgressiveNetwork, tile: int) -> None:
        """Tile a network.

        Args:
            network: the network.
            tile: height and width of a tile without its halo, in pixels; rounded up to the network's
                multiple.

        Raises:
            ValueError: if the tile is smaller than one pixel, or the network has a global operation.
        """
        reason = network.contract.global_operation
        if reason is not None:
            raise ValueError(f"tiles cannot give the same result, because the network has {reason}")
        if tile < 1:
            raise ValueError(f"a tile is at least 1 pixel wide, not {tile}")
        self.network = network
        self.one_size = bool(getattr(network, "one_size", False))
        self.tile = -(-tile // network.contract.multiple) * network.contract.multiple

    @property
    def contract(self) -> Contract:
        """The tiled network's contract."""
        return self.network.contract

    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration; arguments, result and errors are those of the network."""
        halo, one_size = self.contract.halo, self.one_size
        whole, tile_state = list[Tensor](), state  # the estimate, then the maps of the state
        for rows in overlapping(blurred.shape[-2], self.tile, halo, one_size=one_size):
            for columns in overlapping(blurred.shape[-1], self.tile, halo, one_size=one_size):
                tile_state = run_tile(self.network, rows, columns, (blurred, estimate, state), whole)
        return whole[0], same_state(tile_state, whole[1:])


def run_tile(
    network: ProgressiveNetwork,
    rows: Span,
    columns: Span,
    before: tuple[Tensor, Tensor, State],
    whole: list[Tensor],
) -> State:
    """Run one iteration over a tile and its halo, and write the tile's part of the result.

    Args:
        network: the network.
        rows: of the tile.
        columns: of the tile.
        before: blurred image, estimate and state of the whole picture, as for the network.
        whole: estimate and maps of the state after the iteration, of the whole picture, which are written;
            an empty list is filled with new ones.

    Returns:
        The state of the tile with its halo.
    """
    blurred, estimate, state = before
    contract, smaller = network.contract, network.contract.estimate_scale
    scales = (1, *contract.state_scales)
    image = blurred[..., rows.window(1), columns.window(1)]
    seen = estimate[..., rows.window(smaller), columns.window(smaller)]
    tile, tile_state = network(image, seen, _window_of_state(state, rows, columns, contract.state_scales))
    parts = [tile, *(tile_state or ())]
    if not whole:
        whole += [_empty(part, blurred, scale) for part, scale in zip(parts, scales, strict=True)]
    for part, scale, target in zip(parts, scales, whole, strict=True):
        inner = part[..., rows.inner(scale), columns.inner(scale)]
        target[..., rows.core(scale), columns.core(scale)] = inner
    return tile_state


def overlapping(length: int, tile: int, halo: int, *, one_size: bool = False) -> Iterator[Span]:
    """Tiles with halos over an axis, in pixels; with `one_size`, all windows have one length."""
    longest = min(tile + 2 * halo, length)
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        first, last = max(start - halo, 0), min(stop + halo, length)
        if one_size:
            first = min(first, length - longest)
            last = first + longest
        yield Span(start, stop, first, last)


def _window_of_state(state: State, rows: Span, columns: Span, scales: tuple[int, ...]) -> State:
    if state is None:
        return None
    windows = (x[..., rows.window(s), columns.window(s)] for x, s in zip(state, scales, strict=True))
    return same_state(state, windows)


def _empty(part: Tensor, image: Tensor, scale: int) -> Tensor:
    """An empty picture-sized tensor for tiles like `part`: (B, C, H / scale, W / scale)."""
    size = (image.shape[0], part.shape[1], image.shape[-2] // scale, image.shape[-1] // scale)
    return torch.empty(size, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
