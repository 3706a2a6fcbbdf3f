"""Pictures that lie decoded on the device, and crops of many of them in a fixed number of operations."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from mtdeblur.data.sources import Entry, Pixels, decode
from mtdeblur.exposure.draws import Draws


class Corners(NamedTuple):
    """Where crops lie: top and left in pixels, (B,) whole numbers each; below 0 they begin outside."""

    top: Tensor
    left: Tensor


class Turn(NamedTuple):
    """How crops are flipped and turned, (B,) bool each: rows, columns, and rows for columns."""

    rows: Tensor
    columns: Tensor
    swapped: Tensor


class Resident:
    """Pictures on the device, one after the other in one tensor of bytes.

    Args:
        entries: the pictures, of any size each.
        device: where they lie.
        read: gives a picture's samples, (H, W, 3) uint8.

    Raises:
        UserError: if a picture cannot be read.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        device: torch.device | str,
        read: Callable[[Entry], Pixels] = decode,
    ) -> None:
        self.entries, self.device = entries, torch.device(device)
        with ThreadPoolExecutor() as threads:
            pictures = [torch.tensor(picture) for picture in threads.map(read, entries)]
        self.shapes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        first = [0, *accumulate(picture.numel() for picture in pictures)]
        self._first = torch.tensor(first[:-1], dtype=torch.int64, device=self.device)
        self.height, self.width = (
            torch.tensor(sides, dtype=torch.int64, device=self.device)
            for sides in (zip(*self.shapes, strict=True) if pictures else ((), ()))
        )
        self._bytes = torch.empty(first[-1], dtype=torch.uint8, device=self.device)
        for start, picture in zip(first, pictures, strict=False):
            self._bytes[start : start + picture.numel()] = picture.flatten().to(self.device)

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.shapes)

    def corners(self, draws: Draws, index: Tensor, side: int | Tensor) -> Corners:
        """Random corners of square crops inside pictures; a picture that is too small is in the middle."""
        corners: list[Tensor] = []
        for length in (self.height, self.width):
            gap = length[index] - side  # (B,)
            corners.append(torch.where(gap < 0, gap // 2, (draws.uniform() * (gap + 1)).long()))
        return Corners(*corners)

    def crops(self, index: Tensor, corners: Corners, side: int, turn: Turn | None = None) -> Tensor:
        """Square crops; what lies outside of a picture is mirrored.

        Args:
            index: (B,) numbers of pictures.
            corners: of each crop.
            side: of the crops, in pixels.
            turn: how each is turned; not at all by default.

        Returns:
            (B, 3, side, side) uint8, channels last in memory.
        """
        rows, columns = turned_places(corners, side, turn, self.device)
        rows, columns = (
            _mirrored(places, length[index][:, None, None])
            for places, length in ((rows, self.height), (columns, self.width))
        )
        pixel = self._first[index][:, None, None] + 3 * (rows * self.width[index][:, None, None] + columns)
        channels = torch.arange(3, device=self.device)
        return self._bytes[pixel[..., None] + channels].movedim(-1, 1)


def turned_places(
    corners: Corners, side: int, turn: Turn | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels of crops, (B, side, side) or broadcast to it."""
    along = torch.arange(side, device=device)
    rows, columns = along[None, :, None], along[None, None, :]
    if turn is not None:
        flip_rows, flip_columns, swapped = (which[:, None, None] for which in turn)
        rows, columns = torch.where(swapped, columns, rows), torch.where(swapped, rows, columns)
        rows = torch.where(flip_rows, side - 1 - rows, rows)
        columns = torch.where(flip_columns, side - 1 - columns, columns)
    return rows + corners.top[:, None, None], columns + corners.left[:, None, None]


def random_turn(draws: Draws) -> Turn:
    """One of the eight ways to flip and turn a square, for each sample."""
    return Turn(*(draws.uniform() < 0.5 for _ in range(3)))


def detail(crops: Tensor, within: Tensor | None = None) -> Tensor:
    """(B,) mean difference of neighbouring pixels of crops (B, 3, H, W) uint8, where (B, H, W) says so."""
    green = crops[:, 1, ::2, ::2].float()
    inside = torch.ones_like(green) if within is None else within[:, ::2, ::2].to(green)
    across = (green.diff(dim=2).abs() * inside[:, :, 1:]).sum(dim=(1, 2))
    along = (green.diff(dim=1).abs() * inside[:, 1:]).sum(dim=(1, 2))
    return (across + along) / inside.sum(dim=(1, 2)).clamp(min=1)


def _mirrored(places: Tensor, length: Tensor) -> Tensor:
    """Places outside of [0, length) mirrored into it, the border pixel repeated, as often as needed."""
    wrapped = places % (2 * length)
    return torch.minimum(wrapped, 2 * length - 1 - wrapped)
