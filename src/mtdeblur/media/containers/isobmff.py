"""AVIF and HEIC files: boxes of the ISO base media file format, read and completed."""

import struct
from collections.abc import Iterator

from mtdeblur.media.directories import Data
from mtdeblur.media.facts import Coding, Facts
from mtdeblur.media.primaries import Colour, coded

_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}
"""Boxes of boxes, and the bytes before the first one."""
_DEEPEST = 8


def boxes(data: Data, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box, as far as they can be read, and of those inside."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        stop = end if size == 0 else start + size
        if stop < start + head or stop > end:
            return
        yield name, start + head, stop
        if name in _CONTAINERS and depth < _DEEPEST:
            yield from boxes(data, start + head + _CONTAINERS[name], stop, depth + 1)
        start = stop


def inspect(container: str, data: Data) -> Facts:
    """The colour encoding of a file without profile, and whether it has a gain map."""
    colour: Colour | None = None
    gain_map = False
    for name, start, end in boxes(data, 0, len(data)):
        content = bytes(data[start : min(end, start + 4096)])
        if name == b"colr" and content[:4] == b"nclx" and len(content) >= 8 and colour is None:
            colour = coded(*struct.unpack_from(">HH", content, 4))
        gain_map |= name == b"auxC" and b"hdrgainmap" in content.lower()
        gain_map |= name == b"iinf" and b"tmap" in content
    notices = ("its gain map (HDR) is left out",) if gain_map else ()
    return Facts(Coding(container), notices=notices, colour=None if colour and colour.is_srgb else colour)


def with_exif(encoded: memoryview, exif: bytes) -> list[bytes | memoryview]:
    """The parts of a file with another EXIF block, which is appended; unchanged if the file has none yet."""
    table, number = None, None
    for name, start, end in boxes(encoded, 0, len(encoded)):
        content = bytes(encoded[start:end]) if name in (b"iloc", b"iinf") else b""
        if name == b"iinf":
            number = _number_of_exif(content)
        elif name == b"iloc":
            table = start, content
    if table is None or number is None:
        return [encoded]
    start, content = table
    block = b"\0\0\0\6Exif\0\0" + exif
    patched = _relocated(content, number, len(encoded) + 8, len(block))
    box = struct.pack(">I4s", len(block) + 8, b"mdat") + block
    return [encoded[:start], patched, encoded[start + len(content) :], box]


def _number_of_exif(content: bytes) -> int | None:
    """Number of the EXIF item in the content of the box of items."""
    wide = content[0] > 0
    for name, start, _ in boxes(content, 8 if wide else 6, len(content)):
        version = content[start]
        kind = start + (8 if version > 2 else 6) + 2
        if name == b"infe" and version >= 2 and content[kind : kind + 4] == b"Exif":
            return int.from_bytes(content[start + 4 : kind - 2])
    return None


def _relocated(content: bytes, wanted: int, offset: int, length: int) -> bytes:
    """The content of the box of locations with another place for an item of one extent."""
    version, sizes, more = content[0], content[4], content[5]
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version else 0
    wide = 4 if version == 2 else 2
    result, position = bytearray(content), 6 + wide
    for _ in range(int.from_bytes(content[6 : 6 + wide])):
        number = int.from_bytes(content[position : position + wide])
        position += wide + (4 if version else 2)
        base = int.from_bytes(content[position : position + base_size])
        position += base_size
        extents = int.from_bytes(content[position : position + 2])
        position += 2
        if number == wanted and extents == 1:
            place = position + index_size
            result[place : place + offset_size] = (offset - base).to_bytes(offset_size)
            place += offset_size
            result[place : place + length_size] = length.to_bytes(length_size)
        position += extents * (index_size + offset_size + length_size)
    return bytes(result)
