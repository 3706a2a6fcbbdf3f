"""Checkpoints of TensorFlow (its second format), read without TensorFlow.

`PREFIX.index` says where in `PREFIX.data-00000-of-00001` and so on each tensor lies, as raw numbers with the
least significant byte first. It is a table of LevelDB's, see `_table`, whose values are protocol buffers: a
header under the empty key, and an entry for each tensor under its name. Everything but the table's last 48
bytes has a CRC-32C.
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
_TRAILER = 5  # after each block: how it is compressed, and its checksum
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
    """Whether a path is that of an index, of a folder with one, or what a checkpoint's files begin with."""
    return bool(_indices(path))


def checkpoint_parts(path: Path) -> list[Path]:
    """Every index at a path, and the data that belongs to it."""
    return sorted(
        file
        for index in _indices(path)
        for file in index.parent.iterdir()
        if file == index or file.name.startswith(f"{index.stem}.data-")
    )


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors, those of the optimiser with them.

    Args:
        path: see `is_checkpoint`.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is damaged or missing, the folder holds several checkpoints, or a tensor is of a
            type that is not known here.
    """
    indices = _indices(path)
    if len(indices) > 1:
        raise ValueError(f"it holds {len(indices)} checkpoints; name one, such as {indices[-1]}")
    index = indices[0]
    try:
        table = _table(index.read_bytes())
        header, _ = _fields(table.pop(b""))
        entries = {name.decode(): _entry(value) for name, value in table.items()}
        if header.get(2):
            raise ValueError("its numbers have the most significant byte first")
    except LookupError:
        raise ValueError(f"{index.name} is damaged") from None
    except ValueError as error:
        raise ValueError(f"cannot read {index.name}: {error}") from None
    shards = [_shard(index, number, header.get(1, 0)) for number in range(header.get(1, 0))]
    return {name: _tensor(name, entry, shards) for name, entry in entries.items()}


class _Entry(NamedTuple):
    """What the index says about a tensor: `size` bytes at `offset` of a shard; `sliced` if it is in parts."""

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
        raise ValueError(f"there is no {path.name}, which {index.name} speaks of")
    return path.read_bytes()


def _tensor(name: str, entry: _Entry, shards: Sequence[bytes]) -> Tensor:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise ValueError(f"{name} is of a type not known here, number {entry.dtype} of TensorFlow's")
    if entry.sliced:
        raise ValueError(f"{name} is stored in several parts")
    if entry.shard >= len(shards) or entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"the index contradicts itself about {name}")
    data = shards[entry.shard][entry.offset : entry.offset + entry.size]
    if len(data) < entry.size:
        raise ValueError(f"the data is cut short: {name} is not whole")
    if _masked(crc32c(data)) != entry.checksum:
        raise ValueError(f"the data is damaged: the checksum of {name} is another")
    return to_tensor(data, dtype, entry.shape)


def _table(content: bytes) -> dict[bytes, bytes]:
    """The values of a table of LevelDB's by their keys.

    The last 48 bytes say where the block is that says where the others are.
    """
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(_MAGIC):
        raise ValueError("it does not end as the index of a checkpoint does")
    _, after = _handle(footer, 0)  # a block of further information, which has none
    place, _ = _handle(footer, after)
    found: dict[bytes, bytes] = {}
    for _, value in _block(content, *place):
        place, _ = _handle(value, 0)
        found.update(_block(content, *place))
    return found


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block, a key without what it has in common with the one before.

    At the end stand the places, four bytes each, of some keys that are written out, and how many these are.
    """
    end = offset + size
    trailer = content[end : end + _TRAILER]
    if size < 4 or len(trailer) < _TRAILER:
        raise ValueError("it is cut short")
    if int.from_bytes(trailer[1:], "little") != _masked(crc32c(content[offset : end + 1])):
        raise ValueError("it is damaged, a checksum is another")
    if trailer[0]:
        raise ValueError("it is compressed, which is not known here")
    written_out = int.from_bytes(content[end - 4 : end], "little")
    block = content[offset : end - 4 - 4 * written_out]
    key, position = b"", 0
    while position < len(block):
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Where a block is, offset and size, and the position after what says so."""
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
    """The fields of a protocol buffer by their numbers: those that are numbers, and those that are bytes."""
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
    """A number of seven bits a byte, the least significant first, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _masked(checksum: int) -> int:
    """A checksum as it is stored: rotated, and a constant added."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(byte: int) -> int:
    """What a byte makes of an empty register."""
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_REMAINDERS = np.array([_remainder(byte) for byte in range(256)], np.uint32)


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli's polynomial) of some bytes.

    They are cut into rows, about as many as a row is long, which go through a register each at the same time.
    The register after one row, moved over as many zeros as the next row is long, and that row's own register,
    which starts at zero, add up to the register after both.
    """
    rows = max(1, math.isqrt(len(data)))
    length = len(data) // rows
    registers = np.zeros(rows, np.uint32)
    registers[0] = 0xFFFFFFFF
    bytes_set = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], np.uint32)
    for column in np.frombuffer(data, np.uint8, rows * length).reshape(rows, length).T:
        registers = _REMAINDERS[(registers ^ column) & 0xFF] ^ (registers >> 8)
        bytes_set = _REMAINDERS[bytes_set & 0xFF] ^ (bytes_set >> 8)
    moved: list[list[int]] = (
        bytes_set.tolist()
    )  # (4, 256): each byte of a register, moved over a row of zeros
    register = 0
    for own in registers.tolist():
        low, second, third, high = register.to_bytes(4, "little")
        register = own ^ moved[0][low] ^ moved[1][second] ^ moved[2][third] ^ moved[3][high]
    remainders: list[int] = _REMAINDERS.tolist()
    for byte in data[rows * length :]:
        register = remainders[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF
