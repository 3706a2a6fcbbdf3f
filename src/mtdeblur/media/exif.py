"""Byte-exact reading and patching of EXIF blocks, and their conversion from and to TIFF files.

An EXIF block has the structure of a TIFF file: a header and directories of tags. JPEG, PNG and WebP files
contain it as a whole; in a TIFF file its tags are in the file's own directory and are copied one by one.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

ORIENTATION = 274
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_POINTERS = {_EXIF, _GPS, _INTEROPERABILITY}
# Tags of the first directory that describe the picture, not how its samples are stored: title, camera,
# resolution, software, date, artist, computer, rating, copyright.
_DESCRIPTIVE = {270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, _EXIF, _GPS}
_RESOLUTION = {282, 283, 296}
# For each TIFF type: size of the unit that byte order reverses (_UNITS) and of one value (_SIZES), in bytes.
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
_SIZES = _UNITS | {5: 8, 10: 8}
_LONG, _LONG8 = 4, 16
_MALFORMED = (struct.error, KeyError, RecursionError)


class _Layout(NamedTuple):
    """Byte order ("<" or ">") of a block, and whether it is a BigTIFF with its 8-byte offsets."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def length(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        return self.order + ("HHQ8s" if self.big else "HHI4s")

    @property
    def inline(self) -> int:
        return 8 if self.big else 4


class _Entry(NamedTuple):
    """A tag's type, number of values and their bytes, or the directory that it points to."""

    kind: int
    values: int
    value: "bytes | dict[int, _Entry]"


_Directory = dict[int, _Entry]


def orientation(exif: bytes | None) -> int:
    """The orientation tag, 1 to 8; 1 (upright) if it is missing or the block is malformed."""
    try:
        position, layout = _find(exif or b"", ORIENTATION)
        value = struct.unpack_from(layout.order + "H", exif or b"", position)[0]
    except _MALFORMED:
        return 1
    return value if 1 <= value <= 8 else 1


def upright(exif: bytes | None) -> bytes | None:
    """The block with an orientation of 1, for pixels that have been turned upright."""
    if exif is None or orientation(exif) == 1:
        return exif
    position, layout = _find(exif, ORIENTATION)
    return _patched(exif, position, struct.pack(layout.order + "H", 1))


def without_thumbnail(exif: bytes | None) -> bytes | None:
    """The block without the link to its second directory, which contains the thumbnail."""
    try:
        layout, start = _header(exif or b"")
        (entries,) = struct.unpack_from(layout.length, exif or b"", start)
        link = start + struct.calcsize(layout.length) + entries * struct.calcsize(layout.entry)
        struct.unpack_from(layout.offset, exif or b"", link)
    except _MALFORMED:
        return exif
    return _patched(exif or b"", link, struct.pack(layout.offset, 0))


def from_tiff(tiff: bytes) -> bytes | None:
    """The descriptive tags of a TIFF file's first picture as an EXIF block; None if it has none."""
    try:
        layout, start = _header(tiff)
        directory = _read(tiff, layout, start, _DESCRIPTIVE | _RESOLUTION | {ORIENTATION})
    except _MALFORMED:
        return None
    if not directory.keys() - _RESOLUTION:
        return None
    classic = _Layout(layout.order, big=False)
    mark = b"II" if layout.order == "<" else b"MM"
    return mark + struct.pack(layout.order + "HI", 42, 8) + _build(directory, classic, 8)


def into_tiff(tiff: bytes, exif: bytes) -> bytes:
    """Copy the descriptive tags of an EXIF block to a TIFF file of one picture, without malformed ones."""
    layout, start = _header(tiff)
    try:
        source, source_start = _header(exif)
        tags = _read(exif, source, source_start, _DESCRIPTIVE)
    except _MALFORMED:
        return tiff
    if source.order != layout.order:
        tags = _swapped(tags)
    # The file's own tags are kept; offsets in them remain valid because data is only appended.
    existing = {
        tag: _Entry(kind, count, field) for _, tag, kind, count, field in _entries(tiff, layout, start)
    }
    end = len(tiff) + len(tiff) % 2
    header = struct.pack(layout.offset, end)
    tiff = _patched(tiff, 8 if layout.big else 4, header)
    return tiff.ljust(end, b"\0") + _build({**tags, **existing}, layout, end)


def _header(data: bytes) -> tuple[_Layout, int]:
    """Layout of a block and the offset of its first directory."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    (magic,) = struct.unpack_from(order + "H", data, 2)
    layout = _Layout(order, {42: False, 43: True}[magic])
    (start,) = struct.unpack_from(layout.offset, data, 8 if layout.big else 4)
    return layout, start


def _entries(data: bytes, layout: _Layout, start: int) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Position of the field, tag, type, number of values and field of each entry of a directory."""
    (entries,) = struct.unpack_from(layout.length, data, start)
    start += struct.calcsize(layout.length)
    step = struct.calcsize(layout.entry)
    for position in range(start, start + entries * step, step):
        tag, kind, count, field = struct.unpack_from(layout.entry, data, position)
        yield position + step - layout.inline, tag, kind, count, field


def _find(data: bytes, wanted: int) -> tuple[int, _Layout]:
    """Position of a tag's field in the first directory, and the block's layout."""
    layout, start = _header(data)
    for position, tag, *_ in _entries(data, layout, start):
        if tag == wanted:
            return position, layout
    raise KeyError(wanted)


def _read(data: bytes, layout: _Layout, start: int, wanted: set[int] | None = None) -> _Directory:
    """A directory with its sub-directories; in the directory itself only the wanted tags."""
    directory: _Directory = {}
    for position, tag, kind, count, field in _entries(data, layout, start):
        if (wanted is not None and tag not in wanted) or kind not in _SIZES:
            continue
        if tag in _POINTERS:
            (start,) = struct.unpack(layout.order + ("Q" if kind > 15 else "I"), field[: _SIZES[kind]])
            directory[tag] = _Entry(_LONG, 1, _read(data, layout, start))
            continue
        size = count * _SIZES[kind]
        if size > layout.inline:
            (position,) = struct.unpack(layout.offset, field)
        value = data[position : position + size]
        if len(value) == size and kind < 16:
            directory[tag] = _Entry(kind, count, value)
    return directory


def _build(directory: _Directory, layout: _Layout, start: int) -> bytes:
    """A directory at offset `start`, followed by the data that its entries point to."""
    table = struct.pack(layout.length, len(directory))
    end = start + len(table) + len(directory) * struct.calcsize(layout.entry) + layout.inline
    data = b""
    for tag in sorted(directory):
        kind, count, value = directory[tag]
        position = end + len(data)
        if isinstance(value, dict):
            data += _build(value, layout, position)
            kind = _LONG8 if layout.big else _LONG
            field = struct.pack(layout.offset, position)
        elif len(value) > layout.inline:
            data += value + b"\0" * (len(value) % 2)
            field = struct.pack(layout.offset, position)
        else:
            field = value
        table += struct.pack(layout.entry, tag, kind, count, field)
    return table + b"\0" * layout.inline + data


def _swapped(directory: _Directory) -> _Directory:
    """The directory in the other byte order."""
    swapped: _Directory = {}
    for tag, (kind, count, value) in directory.items():
        if isinstance(value, dict):
            swapped[tag] = _Entry(kind, count, _swapped(value))
        else:
            unit = _UNITS[kind]
            turned = b"".join(value[i : i + unit][::-1] for i in range(0, len(value), unit))
            swapped[tag] = _Entry(kind, count, turned)
    return swapped


def _patched(data: bytes, position: int, value: bytes) -> bytes:
    return data[:position] + value + data[position + len(value) :]
