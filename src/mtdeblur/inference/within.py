"""Deblurring of a part of a picture: how much around it is computed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtdeblur.media import spool
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.unroll import Step


class Box(NamedTuple):
    """A part of a picture, in pixels: rows from `top` to before `bottom`, columns from `left` to `right`."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> tuple[int, int]:
        """Its height and width."""
        return self.bottom - self.top, self.right - self.left


def around(box: Box, contract: Contract, steps: Sequence[Step], height: int, width: int) -> Box:
    """What is computed, so that the estimates in a box are about those of the whole picture.

    Networks with a halo see no further than the sum of the halos of their steps, so that estimates at full
    resolution are the same. Blended windows get a quarter of a window around the box.

    Args:
        box: the part that is wanted; it may reach out of the picture.
        contract: of the networks.
        steps: that run.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """
    if contract.size or (contract.global_operation is not None and contract.window is None):
        return Box(0, height, 0, width)
    grid = contract.multiple * max(step.scale for step in steps)
    margin, least = sum(contract.halo * step.scale for step in steps), 1
    if contract.window is not None:
        margin, least = contract.window // 4, contract.window
    top, bottom = _extended(box.top, box.bottom, margin, least, grid, height)
    left, right = _extended(box.left, box.right, margin, least, grid, width)
    return Box(top, bottom, left, right)


def _extended(start: int, stop: int, margin: int, least: int, grid: int, length: int) -> tuple[int, int]:
    """A span and its surroundings, beginning on the network's grid."""
    start, stop = min(max(0, start), length - 1), max(1, min(stop, length))
    margin = max(margin, -(-(least - (stop - start)) // 2))
    start = max(0, start - margin) // grid * grid
    stop = min(length, max(stop + margin, start + least))
    return max(0, min(start, stop - least)) // grid * grid, stop


def copied(pixels: NDArray[Any]) -> NDArray[Any]:
    """A copy for an estimate, in a file if the picture is in one."""
    result = spool.like(pixels, pixels.shape, pixels.dtype.newbyteorder("="))
    for rows in spool.strips(result, pixels):
        np.copyto(result[rows], pixels[rows])
    return result
