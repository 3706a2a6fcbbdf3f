"""Directories of tags, the structure of TIFF files and of EXIF blocks: reading, building, byte order.

A block begins with a header, which says the byte order and where the first directory is. A directory is a
table of entries (tag, type, number of values, and the values or their offset) and a link to the next one.
"""

import mmap
import struct
from collections.abc import Container, Iterator
from typing import NamedTuple

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
_POINTERS = {EXIF, GPS, INTEROPERABILITY}
# For each TIFF type: size of the unit that byte order reverses (_UNITS) and of one value (SIZES), in bytes.
_UNITS = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 4,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
SIZES = _UNITS | {5: 8, 10: 8}
BYTE, SHORT, LONG, RATIONAL, UNDEFINED, _LONG8 = 1, 3, 4, 5, 7, 16
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_DIRECTORIES = 100_000
_MOST_ENTRIES = 4096
_DEEPEST = 3
MALFORMED = (struct.error, KeyError, RecursionError, IndexError, ValueError, OverflowError)
"""What reading a malformed block raises."""

Data = bytes | memoryview | mmap.mmap


class Layout(NamedTuple):
    """Byte order ("<" or ">") of a block, and whether it is a BigTIFF with its 8-byte offsets."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        """Format of an offset."""
        return self.order + ("Q" if self.big else "I")

    @property
    def length(self) -> str:
        """Format of the number of entries."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Format of an entry."""
        return self.order + ("HHQ8s" if self.big else "HHI4s")

    @property
    def inline(self) -> int:
        """Bytes of a value that fit in an entry."""
        return 8 if self.big else 4


class Entry(NamedTuple):
    """A tag's type, number of values and their bytes, or the directory that it points to."""

    kind: int
    values: int
    value: "bytes | dict[int, Entry]"


Directory = dict[int, Entry]


def header(data: Data) -> tuple[Layout, int]:
    """Layout of a block and the offset of its first directory."""
    order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]
    (magic,) = struct.unpack_from(order + "H", data, 2)
    layout = Layout(order, {42: False, 43: True}[magic])
    (start,) = struct.unpack_from(layout.offset, data, 8 if layout.big else 4)
    return layout, start


def entries(data: Data, layout: Layout, start: int) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Position of the field, tag, type, number of values and field of each entry of a directory."""
    (number,) = struct.unpack_from(layout.length, data, start)
    if number > _MOST_ENTRIES:
        raise ValueError("too many entries")
    start += struct.calcsize(layout.length)
    step = struct.calcsize(layout.entry)
    for position in range(start, start + number * step, step):
        tag, kind, count, field = struct.unpack_from(layout.entry, data, position)
        yield position + step - layout.inline, tag, kind, count, field


def chain(data: Data, layout: Layout, start: int) -> list[int]:
    """Offsets of the directory at `start` and of those that it links to, as far as they can be read.

    Together they are not longer than the file: others overlap, and might be without end.
    """
    found: dict[int, None] = {}
    room = len(data)
    try:
        while start and start not in found and len(found) < _MOST_DIRECTORIES:
            position = link(data, layout, start)
            room -= position - start
            if room < 0:
                break
            found[start] = None
            (start,) = struct.unpack_from(layout.offset, data, position)
    except MALFORMED:
        pass
    return list(found)


def link(data: Data, layout: Layout, start: int) -> int:
    """Position of a directory's link to the next one."""
    (number,) = struct.unpack_from(layout.length, data, start)
    position = start + struct.calcsize(layout.length) + number * struct.calcsize(layout.entry)
    struct.unpack_from(layout.offset, data, position)
    return position


def find(data: Data, wanted: int) -> tuple[int, Layout]:
    """Position of a tag's field in the first directory, and the block's layout."""
    layout, start = header(data)
    for position, tag, *_ in entries(data, layout, start):
        if tag == wanted:
            return position, layout
    raise KeyError(wanted)


def read(
    data: Data,
    layout: Layout,
    start: int,
    wanted: Container[int] | None = None,
    *,
    longest: int | None = None,
    depth: int = 0,
) -> Directory:
    """A directory with its sub-directories.

    Args:
        data: the block.
        layout: its layout.
        start: offset of the directory.
        wanted: tags of the directory itself; None for all.
        longest: bytes of a value; longer ones are left out, and those that make it longer than the block.
        depth: number of the directories above it.
    """
    directory: Directory = {}
    room = len(data)
    for position, tag, kind, count, field in entries(data, layout, start):
        if (wanted is not None and tag not in wanted) or kind not in SIZES or tag in directory:
            continue
        if tag in _POINTERS:
            if depth < _DEEPEST:
                (below,) = struct.unpack(layout.order + ("Q" if kind > 15 else "I"), field[: SIZES[kind]])
                directory[tag] = Entry(LONG, 1, read(data, layout, below, depth=depth + 1))
            continue
        size = count * SIZES[kind]
        if size > (room if longest is None else min(room, longest)):
            continue
        room -= size
        if size > layout.inline:
            (position,) = struct.unpack(layout.offset, field)
        value = bytes(data[position : position + size])
        if len(value) == size:
            directory[tag] = Entry(kind, count, value)
    return directory


def numbers(entry: Entry | None, layout: Layout) -> list[int]:
    """The whole numbers of an entry; none of an entry of another type."""
    if entry is None or isinstance(entry.value, dict) or entry.kind not in _NUMBERS:
        return []
    return list(struct.unpack(f"{layout.order}{entry.values}{_NUMBERS[entry.kind]}", entry.value))


def rational(entry: Entry | None, layout: Layout) -> float | None:
    """The first value of an entry of rationals; None without one, or if its divisor is 0."""
    if entry is None or entry.kind != RATIONAL or not isinstance(entry.value, bytes):
        return None
    above, below = struct.unpack_from(layout.order + "II", entry.value)
    return above / below if below else None


def build(directory: Directory, layout: Layout, start: int) -> bytes:
    """A directory at offset `start`, followed by the data that its entries point to."""
    table = bytearray(struct.pack(layout.length, len(directory)))
    end = start + len(table) + len(directory) * struct.calcsize(layout.entry) + layout.inline
    data = bytearray()
    for tag in sorted(directory):
        kind, count, value = directory[tag]
        position = end + len(data)
        if isinstance(value, dict):
            data += build(value, layout, position)
            kind = _LONG8 if layout.big else LONG
            field = struct.pack(layout.offset, position)
        elif len(value) > layout.inline:
            data += value + b"\0" * (len(value) % 2)
            field = struct.pack(layout.offset, position)
        else:
            field = value
        table += struct.pack(layout.entry, tag, kind, count, field)
    return bytes(table + b"\0" * layout.inline + data)


def block(directory: Directory, layout: Layout) -> bytes:
    """A whole block of one directory, as in EXIF."""
    classic = Layout(layout.order, big=False)
    mark = b"II" if layout.order == "<" else b"MM"
    return mark + struct.pack(layout.order + "HI", 42, 8) + build(directory, classic, 8)


def swapped(directory: Directory) -> Directory:
    """The directory in the other byte order."""
    turned: Directory = {}
    for tag, (kind, count, value) in directory.items():
        if isinstance(value, dict):
            turned[tag] = Entry(kind, count, swapped(value))
        else:
            unit = _UNITS[kind]
            pieces = (value[i : i + unit][::-1] for i in range(0, len(value), unit))
            turned[tag] = Entry(kind, count, b"".join(pieces))
    return turned


def patched(data: bytes, position: int, value: bytes) -> bytes:
    """The data with other bytes at a position."""
    return data[:position] + value + data[position + len(value) :]
