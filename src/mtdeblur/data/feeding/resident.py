"""Decoded pictures on the device, and batches of crops in a constant number of operations."""

import io
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import IO, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from mtdeblur.data.disk.decode import Entry, Pixels, decode
from mtdeblur.errors import UserError
from mtdeblur.exposure.draws import Draws


class Corners(NamedTuple):
    """Top and left of crops in pixels, (B,) integers each; negative ones are outside the picture."""

    top: Tensor
    left: Tensor


class Turn(NamedTuple):
    """Flips and turns of crops, (B,) bool each: rows flipped, columns flipped, rows and columns swapped."""

    rows: Tensor
    columns: Tensor
    swapped: Tensor


class Resident:
    """Pictures concatenated in one tensor of bytes on the device.

    If they do not fit there, the tensor is in host memory or, if still too large, in a memory-mapped file;
    crops are then copied to the device one batch at a time.

    Args:
        entries: the pictures, of any sizes.
        device: of the crops.
        read: returns a picture's samples, (H, W, 3) uint8.
        folder: of the memory-mapped file; by default the system's temporary folder.
        report: receives a line for each picture that cannot be read.

    Attributes:
        entries: the pictures.
        shapes: height and width of each; (0, 0) if it could not be read.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        device: torch.device | str,
        read: Callable[[Entry], Pixels] = decode,
        *,
        folder: Path | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.entries, self.device = entries, torch.device(device)
        with ThreadPoolExecutor() as threads:
            sizes = list(threads.map(_bytes_of, entries))
            first = [0, *accumulate(sizes)]
            bytes_, self._file = _room_for(first[-1], self.device, folder)

            def place(number: int) -> tuple[int, int] | str:
                """Copy a picture into the tensor; its shape, or the error if it cannot be read."""
                try:
                    picture = read(entries[number])
                except UserError as error:
                    return str(error)
                if picture.size != sizes[number]:
                    return f"{entries[number]} differs in size from its header"
                start = first[number]
                flat = torch.tensor(picture).flatten()
                bytes_[start : start + len(flat)] = flat.to(bytes_.device)
                return picture.shape[0], picture.shape[1]

            placed = list(threads.map(place, range(len(entries))))
        for problem in placed:
            if isinstance(problem, str):
                report(problem)
        self.shapes = [(0, 0) if isinstance(shape, str) else shape for shape in placed]
        self._bytes, home = bytes_, bytes_.device
        self._first = torch.tensor(first[:-1], dtype=torch.int64, device=home)
        self.height, self.width = (
            torch.tensor([shape[axis] for shape in self.shapes], dtype=torch.int64, device=home)
            for axis in (0, 1)
        )

    def readable(self, number: int) -> bool:
        """Whether a picture could be read."""
        return self.shapes[number] != (0, 0)

    def corners(self, draws: Draws, index: Tensor, side: int | Tensor) -> Corners:
        """Random corners of square crops inside pictures; a picture that is too small is centred."""
        corners: list[Tensor] = []
        for length in (self.height, self.width):
            gap = length[index.to(length.device)].to(index.device) - side  # (B,)
            corners.append(torch.where(gap < 0, gap // 2, (draws.uniform() * (gap + 1)).long()))
        return Corners(*corners)

    def crops(self, index: Tensor, corners: Corners, side: int, turn: Turn | None = None) -> Tensor:
        """Square crops; pictures are continued outside by their mirror image.

        Args:
            index: (B,) numbers of pictures.
            corners: of each crop.
            side: of the crops, in pixels.
            turn: flip and turn of each crop; none by default.

        Returns:
            (B, 3, side, side) uint8, channels last in memory.
        """
        home, target = self._bytes.device, index.device
        index = index.to(home)
        rows, columns = (
            _mirrored(places.to(home), length[index][:, None, None])
            for places, length in zip(
                turned_places(corners, side, turn, target), (self.height, self.width), strict=True
            )
        )
        pixel = self._first[index][:, None, None] + 3 * (rows * self.width[index][:, None, None] + columns)
        crops = self._bytes[pixel[..., None] + torch.arange(3, device=home)]
        return crops.movedim(-1, 1).to(target)


def turned_places(
    corners: Corners, side: int, turn: Turn | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels of crops, broadcastable to (B, side, side)."""
    along = torch.arange(side, device=device)
    rows, columns = along[None, :, None], along[None, None, :]
    if turn is not None:
        flip_rows, flip_columns, swapped = (which[:, None, None] for which in turn)
        rows, columns = torch.where(swapped, columns, rows), torch.where(swapped, rows, columns)
        rows = torch.where(flip_rows, side - 1 - rows, rows)
        columns = torch.where(flip_columns, side - 1 - columns, columns)
    return rows + corners.top[:, None, None], columns + corners.left[:, None, None]


def random_turn(draws: Draws) -> Turn:
    """A random symmetry of the square (one of eight) for each sample."""
    return Turn(*(draws.uniform() < 0.5 for _ in range(3)))


def detail(crops: Tensor, within: Tensor | None = None) -> Tensor:
    """(B,) mean difference of neighbouring pixels of crops (B, 3, H, W) uint8, within masks (B, H, W)."""
    green = crops[:, 1, ::2, ::2].float()
    inside = torch.ones_like(green) if within is None else within[:, ::2, ::2].to(green)
    across = (green.diff(dim=2).abs() * inside[:, :, 1:]).sum(dim=(1, 2))
    along = (green.diff(dim=1).abs() * inside[:, 1:]).sum(dim=(1, 2))
    return (across + along) / inside.sum(dim=(1, 2)).clamp(min=1)


def _mirrored(places: Tensor, length: Tensor) -> Tensor:
    """Indices outside [0, length) reflected into it, with the border pixel repeated."""
    wrapped = places % (2 * length)
    return torch.minimum(wrapped, 2 * length - 1 - wrapped)


def _bytes_of(entry: Entry) -> int:
    """Number of a picture's samples by its header; 0 if the header cannot be read."""
    try:
        with Image.open(io.BytesIO(entry.read_bytes())) as image:
            return 3 * image.width * image.height
    except Exception:  # reported when it is decoded
        return 0


def _room_for(size: int, device: torch.device, folder: Path | None) -> tuple[Tensor, IO[bytes] | None]:
    """Bytes on the device, in host memory or in a memory-mapped file, and the file."""
    if device.type == "cuda" and size <= _SHARE * torch.cuda.mem_get_info(device)[0]:
        return torch.empty(size, dtype=torch.uint8, device=device), None
    if size <= _SHARE * _free_memory():
        return torch.empty(size, dtype=torch.uint8), None
    try:
        file = tempfile.NamedTemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the pictures are used
        file.truncate(size)
    except OSError as error:
        raise UserError(
            f"the pictures take {size / 1e9:.1f} GB, which does not fit in memory, and no file can be made "
            f"for them ({error.strerror}): give a folder on a large disk with --cache"
        ) from error
    return torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8), file


def _free_memory() -> float:
    """Free memory in bytes; infinite if the system does not report it."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows, macOS
        return math.inf


_SHARE = 0.6
"""Maximum share of the free memory for pictures."""
