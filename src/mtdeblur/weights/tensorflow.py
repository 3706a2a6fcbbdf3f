"""A reader of TensorFlow checkpoints (second format) without TensorFlow.

`PREFIX.index` contains the position of each tensor in `PREFIX.data-00000-of-00001` and so on, where it is
stored as raw little-endian numbers. The index is a LevelDB table, see `_table`, whose values are protocol
buffers: a header with the empty key, and an entry for each tensor with its name as key. Everything but the
table's last 48 bytes has a CRC-32C.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtdeblur.weights.tensors import to_tensor

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_TRAILER = 5  # after each block: type of compression and checksum
_DTYPES = {
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    5: torch.int16,
    6: torch.int8,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    19: torch.float16,
}


def is_checkpoint(path: Path) -> bool:
    """Whether a path is an index, a folder with one, or the prefix of a checkpoint's files."""
    return bool(_indices(path))


def checkpoint_parts(path: Path) -> list[Path]:
    """The index files at a path, and their data files."""
    return sorted(
        file
        for index in _indices(path)
        for file in index.parent.iterdir()
        if file == index or file.name.startswith(f"{index.stem}.data-")
    )


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors, including those of the optimiser.

    Args:
        path: see `is_checkpoint`.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is damaged or missing, the folder contains several checkpoints, or a tensor's
            type is not supported.
    """
    indices = _indices(path)
    if len(indices) > 1:
        raise ValueError(f"it contains {len(indices)} checkpoints; give one, such as {indices[-1]}")
    index = indices[0]
    try:
        table = _table(index.read_bytes())
        header, _ = _fields(table.pop(b""))
        entries = {name.decode(): _entry(value) for name, value in table.items()}
        if header.get(2):
            raise ValueError("its numbers are big-endian, which is not supported")
    except LookupError:
        raise ValueError(f"{index.name} is damaged") from None
    except ValueError as error:
        raise ValueError(f"cannot read {index.name}: {error}") from None
    shards = [_shard(index, number, header.get(1, 0)) for number in range(header.get(1, 0))]
    return {name: _tensor(name, entry, shards) for name, entry in entries.items()}


class _Entry(NamedTuple):
    """The index entry of a tensor: `size` bytes at `offset` of a shard; `sliced` if stored in parts."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


def _indices(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and file.suffix == ".index")
    index = path if path.suffix == ".index" else Path(f"{path}.index")
    return [index] if index.is_file() else []


def _shard(index: Path, number: int, shards: int) -> bytes:
    path = index.with_suffix(f".data-{number:05}-of-{shards:05}")
    if not path.is_file():
        raise ValueError(f"there is no {path.name}, which {index.name} refers to")
    return path.read_bytes()


def _tensor(name: str, entry: _Entry, shards: Sequence[bytes]) -> Tensor:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise ValueError(f"{name} has TensorFlow's type {entry.dtype}, which is not supported")
    if entry.sliced:
        raise ValueError(f"{name} is stored in several parts, which is not supported")
    if entry.shard >= len(shards) or entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"the index is inconsistent about {name}")
    data = shards[entry.shard][entry.offset : entry.offset + entry.size]
    if len(data) < entry.size:
        raise ValueError(f"the data is truncated: {name} is incomplete")
    if _masked(crc32c(data)) != entry.checksum:
        raise ValueError(f"the data is damaged: the checksum of {name} differs")
    return to_tensor(data, dtype, entry.shape)


def _table(content: bytes) -> dict[bytes, bytes]:
    """The values of a LevelDB table by key.

    The last 48 bytes contain the position of the index block, which contains the positions of the others.
    """
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(_MAGIC):
        raise ValueError("it does not end as the index of a checkpoint does")
    _, after = _handle(footer, 0)  # the metadata block, which is empty
    place, _ = _handle(footer, after)
    table: dict[bytes, bytes] = {}
    for _, value in _block(content, *place):
        place, _ = _handle(value, 0)
        table.update(_block(content, *place))
    return table


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block, in which a key is stored without its common prefix with the one before.

    The block ends with the positions of some complete keys, four bytes each, and their number.
    """
    end = offset + size
    trailer = content[end : end + _TRAILER]
    if size < 4 or len(trailer) < _TRAILER:
        raise ValueError("it is truncated")
    if int.from_bytes(trailer[1:], "little") != _masked(crc32c(content[offset : end + 1])):
        raise ValueError("it is damaged: a checksum differs")
    if trailer[0]:
        raise ValueError("it is compressed, which is not supported")
    complete_keys = int.from_bytes(content[end - 4 : end], "little")
    block = content[offset : end - 4 - 4 * complete_keys]
    key, position = b"", 0
    while position < len(block):
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the position after them."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _entry(message: bytes) -> _Entry:
    numbers, parts = _fields(message)
    shape = parts.get(2, [b""])[0]
    dimensions = _fields(shape)[1].get(2, [])
    return _Entry(
        dtype=numbers.get(1, 0),
        shape=tuple(_fields(dimension)[0].get(1, 0) for dimension in dimensions),
        shard=numbers.get(3, 0),
        offset=numbers.get(4, 0),
        size=numbers.get(5, 0),
        checksum=numbers.get(6, 0),
        sliced=7 in parts,
    )


def _fields(message: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """The fields of a protocol buffer by field number: numeric fields, and byte strings."""
    numbers: dict[int, int] = {}
    parts: dict[int, list[bytes]] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            numbers[field], position = _varint(message, position)
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"an entry has a field of kind {kind}")
        value = message[position : position + length]
        position += length
        if kind == 2:
            parts.setdefault(field, []).append(value)
        else:
            numbers[field] = int.from_bytes(value, "little")
    return numbers, parts


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A little-endian number of seven bits a byte, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _masked(checksum: int) -> int:
    """A checksum in stored form: rotated, plus a constant."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(byte: int) -> int:
    """The register after one byte, starting from zero."""
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_REMAINDERS = np.array([_remainder(byte) for byte in range(256)], np.uint32)


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli's polynomial) of bytes.

    The bytes are divided into a nearly square array of rows, which are processed in parallel with one
    register each. The register after two rows is the first row's register, advanced over a row of zeros, plus
    the second row's register, which starts at zero.
    """
    rows = max(1, math.isqrt(len(data)))
    length = len(data) // rows
    registers = np.zeros(rows, np.uint32)
    registers[0] = 0xFFFFFFFF
    bytes_set = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], np.uint32)
    for column in np.frombuffer(data, np.uint8, rows * length).reshape(rows, length).T:
        registers = _REMAINDERS[(registers ^ column) & 0xFF] ^ (registers >> 8)
        bytes_set = _REMAINDERS[bytes_set & 0xFF] ^ (bytes_set >> 8)
    # (4, 256): each byte of a register, advanced over a row of zeros
    advanced: list[list[int]] = bytes_set.tolist()
    register = 0
    for row in registers.tolist():
        low, second, third, high = register.to_bytes(4, "little")
        register = row ^ advanced[0][low] ^ advanced[1][second] ^ advanced[2][third] ^ advanced[3][high]
    remainders: list[int] = _REMAINDERS.tolist()
    for byte in data[rows * length :]:
        register = remainders[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF
