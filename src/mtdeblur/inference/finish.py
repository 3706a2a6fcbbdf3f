"""How much of an estimate a result keeps, and where: `--strength` and `--region`; and its JPEG quality."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mtdeblur.errors import UserError
from mtdeblur.files.digest import fingerprint
from mtdeblur.inference.within import Box
from mtdeblur.media import spool
from mtdeblur.media.picture import Picture
from mtdeblur.media.pictures import read_pixels

_SOFT = 0.01  # reach of the soft edge, as a share of the picture's shorter side
_STRIP = 256  # rows


class Rectangle(NamedTuple):
    """A rectangle in the upright picture, in pixels; x and y are those of the upper left corner."""

    x: int
    y: int
    width: int
    height: int

    @property
    def box(self) -> Box:
        """It, as rows and columns of an upright picture."""
        return Box(self.y, self.y + self.height, self.x, self.x + self.width)

    def __str__(self) -> str:
        """As given on the command line."""
        return ",".join(map(str, self))


def parse_region(text: str) -> Rectangle | Path:
    """The region that a user has named: `X,Y,W,H` in pixels, or the file of a mask.

    Raises:
        UserError: if it is neither, or a rectangle of no area.
    """
    if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*){3}", text):
        if Path(text).exists():
            return Path(text)
        raise UserError(f"the region {text!r} is no file, and not X,Y,W,H in pixels")
    rectangle = Rectangle(*map(int, text.split(",")))
    if min(rectangle.width, rectangle.height) < 1:
        raise UserError(f"the region {text!r} has no area: X,Y,W,H need a width and a height from 1 up")
    return rectangle


@dataclass(frozen=True)
class Finish:
    """What a result keeps of an estimate, and how it is written.

    Attributes:
        strength: from 0, the photograph, to 1, the estimate.
        region: outside it, the photograph stays as it is; None for everywhere. A mask is a picture of the
            photograph's size: white keeps the estimate, black the photograph. Coordinates and masks are
            those of the upright photograph.
        jpeg_quality: of JPEG files, 1 to 100; None for that of a JPEG photograph, otherwise 95.
    """

    strength: float = 1.0
    region: Rectangle | Path | None = None
    jpeg_quality: int | None = None

    def settings(self) -> dict[str, Any]:
        """What decides the result, of JSON's types; empty if it is the whole estimate, written as usual.

        Raises:
            UserError: if the mask cannot be read.
        """
        region = fingerprint(self.region) if isinstance(self.region, Path) else self.region
        given = {"strength": self.strength, "region": region and str(region)}
        if self.jpeg_quality is not None:
            given["jpeg_quality"] = self.jpeg_quality
        return {} if self == WHOLE else given

    def box(self, picture: Picture) -> Box | None:
        """The part of the stored pixels that may change; None for all of them.

        Args:
            picture: the photograph, which may be stored turned.

        Raises:
            UserError: as `__call__` does.
        """
        if self.region is None:
            return None
        mask = _mask(self.region, picture)
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not rows.size:  # nothing changes
            return Box(0, 1, 0, 1)
        return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)

    def __call__(self, picture: Picture, before: NDArray[Any], estimate: NDArray[Any]) -> NDArray[Any]:
        """The pixels of the result.

        Args:
            picture: the photograph, which may be stored turned.
            before: (H, W, 3) uint8 or uint16, its pixels as the network saw them, in stored orientation.
            estimate: of the same shape and dtype.

        Raises:
            UserError: if the mask cannot be read or has another size, or the rectangle is outside.
        """
        if self.strength == 1 and self.region is None:
            return estimate
        mask = None if self.region is None else _Soft(_mask(self.region, picture))
        result = spool.like(before, before.shape, before.dtype)
        for rows in spool.strips(result, before, estimate):
            for part, weights in _weights(mask, rows):
                change = np.subtract(estimate[part], before[part], dtype=np.float32)
                change *= self.strength * weights
                result[part] = np.rint(before[part] + change)
        return result


WHOLE = Finish()
"""Results are the estimates."""


def _weights(mask: "_Soft | None", rows: slice) -> Iterator[tuple[slice, Any]]:
    """Parts of a slice of rows, and the weights of the estimate there: 1, or (H, W, 1) in [0, 1]."""
    if mask is None:
        yield rows, np.float32(1)
        return
    for start in range(rows.start, rows.stop, _STRIP):
        stop = min(start + _STRIP, rows.stop)
        yield slice(start, stop), mask.rows(start, stop)[..., None]


class _Soft:
    """A mask with a soft edge.

    The edge is inside the mask: where the mask is black, the weights are exactly 0. The picture's own border
    is no edge.

    Args:
        mask: (H, W) uint8.
    """

    def __init__(self, mask: NDArray[np.uint8]) -> None:
        self._mask = mask
        self._reach = max(1, round(_SOFT * min(mask.shape)))
        whole = int(mask.sum(dtype=np.int64))
        while self._reach and 255 * self._sum() < whole / 2:  # small and thin regions keep their middle
            self._reach //= 2

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """The weights of some rows: (H, W) float32 in [0, 1]."""
        halo, height = 2 * self._reach, len(self._mask)
        first, last = max(0, start - halo), min(height, stop + halo)
        part = torch.as_tensor(self._mask[first:last].astype(np.float32) / 255)[None, None]
        above, below = halo - (start - first), halo - (last - stop)
        part = functional.pad(part, (halo, halo, above, below), mode="replicate")
        for across in ((1, 2 * self._reach + 1), (2 * self._reach + 1, 1)):
            part = -functional.max_pool2d(-part, across, stride=1)
        for across in ((1, 2 * self._reach + 1), (2 * self._reach + 1, 1)):
            part = functional.avg_pool2d(part, across, stride=1)
        return part[0, 0].numpy()

    def _sum(self) -> float:
        height = len(self._mask)
        starts = range(0, height, _STRIP)
        return sum(float(self.rows(start, min(start + _STRIP, height)).sum()) for start in starts)


def _mask(region: Rectangle | Path, picture: Picture) -> NDArray[np.uint8]:
    """The mask of a region in the stored orientation of a picture: (H, W)."""
    upright = _upright_shape(picture)
    mask = _drawn(region, *upright) if isinstance(region, Rectangle) else _read(region)
    if mask.shape != upright:
        raise UserError(
            f"the mask {region} has {mask.shape[1]} x {mask.shape[0]} pixels, but the photograph "
            f"{upright[1]} x {upright[0]}; they must be equal"
        )
    return np.ascontiguousarray(_turned_back(mask, picture.orientation))


def _upright_shape(picture: Picture) -> tuple[int, int]:
    height, width = picture.pixels.shape[:2]
    return (width, height) if picture.orientation > 4 else (height, width)


def _drawn(rectangle: Rectangle, height: int, width: int) -> NDArray[np.uint8]:
    """The mask of a rectangle, of which parts may be outside the picture."""
    mask = np.zeros((height, width), np.uint8)
    x, y = max(0, rectangle.x), max(0, rectangle.y)
    inside = mask[y : max(0, rectangle.y + rectangle.height), x : max(0, rectangle.x + rectangle.width)]
    if inside.size == 0:
        raise UserError(f"the region {rectangle} is outside the photograph of {width} x {height} pixels")
    inside[:] = 255
    return mask


@lru_cache(1)
def _read(path: Path) -> NDArray[np.uint8]:
    """A mask, upright: (H, W)."""
    pixels = read_pixels(path)
    mean = pixels.mean(axis=2, dtype=np.float32)
    return np.rint(mean * (255 / np.iinfo(pixels.dtype).max)).astype(np.uint8)


def _turned_back(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """An upright mask as it would be stored with an EXIF orientation."""
    if orientation in (2, 3, 6, 7):
        mask = mask[:, ::-1]
    if orientation in (3, 4, 7, 8):
        mask = mask[::-1]
    return mask.T if orientation > 4 else mask
