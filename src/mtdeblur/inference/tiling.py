"""Exact tiling: one iteration carried out tile by tile gives what it gives on the whole picture."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mtdeblur.networks.contract import (
    Contract,
    ProgressiveNetwork,
    State,
    check_inputs,
    pad_to_multiple,
    same_state,
)


class Span(NamedTuple):
    """Along one axis, in pixels: the core [start, stop) that a tile answers for, in the window it looks at.

    The methods give the slices for a map that is `scale` times smaller than the picture.
    """

    start: int
    stop: int
    window_start: int
    window_stop: int

    def core(self, scale: int) -> slice:
        """The core, in the whole."""
        return slice(self.start // scale, self.stop // scale)

    def window(self, scale: int) -> slice:
        """The window, in the whole."""
        return slice(self.window_start // scale, self.window_stop // scale)

    def inner(self, scale: int) -> slice:
        """The core, in the window."""
        return slice((self.start - self.window_start) // scale, (self.stop - self.window_start) // scale)


class TiledNetwork:
    """A progressive network whose every step runs over tiles; again a progressive network.

    Each tile is cut with a halo as wide as one iteration sees, so what is stitched together, the estimate and
    both recurrent feature maps, equals the whole picture's step up to the rounding of floating point. The
    next step starts from the stitched picture and state: no halo has to cover more than one iteration.

    Besides the picture-sized estimate and state, memory holds one tile and its halo at a time.
    """

    def __init__(self, network: ProgressiveNetwork, tile: int) -> None:
        """Tile a network.

        Args:
            network: what runs over the tiles.
            tile: height and width of a tile in pixels without its halo; rounded up to the network's multiple.

        Raises:
            ValueError: if the tile is smaller than one pixel, or the network has a global operation.
        """
        reason = network.contract.global_operation
        if reason is not None:
            raise ValueError(f"tiles cannot give the same result, because the network has {reason}")
        if tile < 1:
            raise ValueError(f"a tile is at least 1 pixel wide, not {tile}")
        self.network = network
        self.tile = -(-tile // network.contract.multiple) * network.contract.multiple

    @property
    def contract(self) -> Contract:
        """The facts of the network that is tiled."""
        return self.network.contract

    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration; arguments, result and errors are the network's own."""
        contract, smaller = self.contract, self.contract.estimate_scale
        check_inputs(blurred, estimate, smaller)
        height, width = blurred.shape[-2:]
        blurred = pad_to_multiple(blurred, contract.multiple)
        estimate = pad_to_multiple(estimate, contract.multiple // smaller)
        scales = (1, *contract.state_scales)
        whole: list[Tensor] = []  # the estimate, then the maps of the state
        tile_state: State = None
        for rows in _spans(blurred.shape[-2], self.tile, contract.halo):
            for columns in _spans(blurred.shape[-1], self.tile, contract.halo):
                image = blurred[..., rows.window(1), columns.window(1)]
                before = estimate[..., rows.window(smaller), columns.window(smaller)]
                seen = _window_of_state(state, rows, columns, contract.state_scales)
                tile, tile_state = self.network(image, before, seen)
                parts = [tile, *(tile_state or ())]
                if not whole:
                    whole = [_room(part, blurred, scale) for part, scale in zip(parts, scales, strict=True)]
                for part, scale, target in zip(parts, scales, whole, strict=True):
                    inner = part[..., rows.inner(scale), columns.inner(scale)]
                    target[..., rows.core(scale), columns.core(scale)] = inner
        return whole[0][..., :height, :width], same_state(tile_state, whole[1:])


def _spans(length: int, tile: int, halo: int) -> Iterator[Span]:
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield Span(start, stop, max(start - halo, 0), min(stop + halo, length))


def _window_of_state(state: State, rows: Span, columns: Span, scales: tuple[int, ...]) -> State:
    if state is None:
        return None
    windows = (x[..., rows.window(s), columns.window(s)] for x, s in zip(state, scales, strict=True))
    return same_state(state, windows)


def _room(part: Tensor, image: Tensor, scale: int) -> Tensor:
    """Room for the whole picture's share of what `part` is a tile of: (B, C, H / scale, W / scale)."""
    size = (image.shape[0], part.shape[1], image.shape[-2] // scale, image.shape[-1] // scale)
    return torch.empty(size, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
