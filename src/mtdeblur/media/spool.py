"""Arrays of large pictures in temporary files: memory then holds only the rows in use.

The arrays are ordinary NumPy arrays over a memory-mapped file that has no name and vanishes with them.
The file is in the folder of the environment variable TMPDIR; otherwise in /var/tmp, because /tmp is often
itself in memory.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason

LARGE = 2**26
"""Pictures of more bytes than this are kept in a file by those who ask for it."""
_STRIP = 2**23  # bytes

Array = NDArray[Any]


def temporary_folder() -> str:
    """The folder for temporary files that may be large."""
    given = os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else None)
    return given or tempfile.gettempdir()


def temporary_file(size: int = 0) -> BinaryIO:
    """An open temporary file without a name, of a size in bytes that the disk has room for.

    Raises:
        UserError: if it cannot be made.
    """
    folder = temporary_folder()
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            if size and hasattr(os, "posix_fallocate"):  # a file with holes would crash on a full disk
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            file.close()
            raise
    except OSError as error:
        raise UserError(
            f"cannot keep a large picture in {folder}: {reason(error)}; set TMPDIR to a folder on a disk "
            "with more room"
        ) from error
    return file


def mapped(file: BinaryIO, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """The array in a temporary file, which is closed; the array keeps it."""
    with file:
        return np.memmap(file, dtype, "r+", shape=shape)


def like(array: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """A new array without values: in a file if `array` is in one, otherwise in memory."""
    if _mapping(array) is None:
        return np.empty(shape, dtype)
    return mapped(temporary_file(math.prod(shape) * np.dtype(dtype).itemsize), shape, dtype)


def in_file(array: Array) -> bool:
    """Whether an array is in a file."""
    return _mapping(array) is not None


def release(*arrays: Any) -> None:
    """Take what arrays in files, or their views, use of the process's memory out of it; values stay."""
    for array in arrays:
        mapping = _mapping(array)
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


def strips(*arrays: Array) -> Iterator[slice]:
    """Slices of a few megabytes of rows, over arrays of one height, which are released after each."""
    height = len(arrays[0])
    bytes_a_row = max(1, *(array.nbytes // height for array in arrays))
    step = max(1, _STRIP // bytes_a_row)
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))
        release(*arrays)


def write(file: BinaryIO, parts: Sequence[bytes | memoryview]) -> None:
    """Write the parts of a file in order."""
    for part in parts:
        for start in range(0, len(part), _STRIP):
            file.write(part[start : start + _STRIP])
            release(part)


def _mapping(array: Any) -> mmap.mmap | None:
    """The mapping that an array or a memoryview is a view of."""
    while isinstance(array, np.ndarray | memoryview):
        array = cast("Any", array.obj if isinstance(array, memoryview) else array.base)
    return array if isinstance(array, mmap.mmap) else None
