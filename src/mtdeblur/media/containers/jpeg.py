"""JPEG files: segments before the samples, read and inserted."""

import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from mtdeblur.media.containers import photoshop
from mtdeblur.media.directories import MALFORMED, Data, header, read
from mtdeblur.media.facts import Coding, Facts, Resolution, Unit, resolution

_JFIF, _EXIF, _PHOTOSHOP = b"JFIF\0", b"Exif\0\0", b"Photoshop 3.0\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_ISO_GAIN_MAP, _MULTI = b"urn:iso:std:iso:ts:21496", b"MPF\0"
_APP0, _APP1, _APP2, _APP13, _COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_PICTURES, _PREVIEW = 0xB002, 1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES = 0xDB
_LONGEST = 0xFFFF - 2
_MOST_PICTURES = 100
_UNITS: dict[int, Unit] = {0: "none", 1: "inch", 2: "cm"}
GAIN_MAP_SIGNS = (b"ns.adobe.com/hdr-gain-map", b"ns.apple.com/HDRGainMap", b"hdrgainmap", _ISO_GAIN_MAP)
"""Bytes near the start of an appended picture that is a gain map."""

Table = tuple[int, ...]


class Segment(NamedTuple):
    """A segment before the samples: its marker, where its content is, and the content."""

    marker: int
    position: int
    content: bytes


def segments(data: Data) -> Iterator[Segment]:
    """The segments up to the samples, as far as they can be read."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == 0xDA:
            return
        length = int.from_bytes(data[position + 2 : position + 4])
        yield Segment(marker, position + 4, bytes(data[position + 4 : position + 2 + length]))
        position += 2 + max(2, length)


def inspect(data: Data) -> Facts:
    """What a file says before its samples."""
    found = list(segments(data))
    contents = [(segment.marker, segment.content) for segment in found]
    resources = b"".join(
        content.removeprefix(_PHOTOSHOP)
        for marker, content in contents
        if marker == _APP13 and content.startswith(_PHOTOSHOP)
    )
    iptc, others = photoshop.split(resources)
    blobs = {"iptc": iptc, "photoshop": others}
    pieces = [
        segment(marker, content)
        for marker, content in contents
        if marker == _COMMENT or (marker == _APP1 and content.startswith(_EXTENDED_XMP))
    ]
    quality, subsampled = _compression(contents)
    return Facts(
        Coding("jpeg", quality, subsampled, pieces=pieces),
        _density(contents),
        {name: blob for name, blob in blobs.items() if blob},
        notices=_appended(data, found),
        pictures=1,
    )


def _density(contents: list[tuple[int, bytes]]) -> Resolution | None:
    for marker, content in contents:
        if marker == _APP0 and content.startswith(_JFIF) and len(content) >= 12:
            unit, across, down = struct.unpack_from(">BHH", content, 7)
            return resolution(across, down, _UNITS[unit]) if unit in _UNITS else None
    return None


def _appended(data: Data, found: list[Segment]) -> tuple[str, ...]:
    """Notices of pictures behind the first one, which the multi-picture index lists; previews get none."""
    gain_map = any(each.marker == _APP2 and each.content.startswith(_ISO_GAIN_MAP) for each in found)
    pictures = 0
    for each in found:
        if each.marker == _APP2 and each.content.startswith(_MULTI):
            origin = each.position + len(_MULTI)
            try:
                offsets = _index(each.content[len(_MULTI) :])
            except MALFORMED:
                continue
            for offset in offsets:
                start = bytes(data[origin + offset : origin + offset + 65_536])
                is_map = any(sign in start for sign in GAIN_MAP_SIGNS)
                gain_map |= is_map
                pictures += not is_map
            break
    notices = ["its gain map (HDR) is left out"] if gain_map else []
    if pictures:
        notices.append(f"it contains {pictures + 1} pictures; only the first is deblurred")
    return tuple(notices)


def _index(block: bytes) -> list[int]:
    """Offsets of the pictures behind the first that are no previews, from CIPA's multi-picture index."""
    layout, start = header(block)
    entry = read(block, layout, start, {_PICTURES}).get(_PICTURES)
    if entry is None or not isinstance(entry.value, bytes):
        return []
    pictures = struct.iter_unpack(layout.order + "IIIHH", entry.value[: len(entry.value) // 16 * 16])
    behind = [
        offset for attribute, _, offset, *_ in pictures if offset and attribute >> 16 & 0xFF != _PREVIEW
    ]
    return behind[:_MOST_PICTURES]


def _compression(contents: list[tuple[int, bytes]]) -> tuple[int | None, bool]:
    """Quality by the quantisation tables (see `quality_of`), and whether chroma has half the resolution."""
    tables: dict[int, Table] = {}
    chosen: list[int] = []
    subsampled = False
    for marker, content in contents:
        if marker == _TABLES:
            tables.update(_quantisation(content))
        elif marker in _FRAMES and len(content) >= 6:
            components = [content[start : start + 3] for start in range(6, 6 + 3 * content[5], 3)]
            components = [each for each in components if len(each) == 3]
            chosen = [each[2] for each in components]
            sampling = [(each[1] >> 4, each[1] & 15) for each in components]
            subsampled = len(sampling) == 3 and sampling == [(2, 2), (1, 1), (1, 1)]
    if not chosen or any(number not in tables for number in chosen):
        return None, subsampled
    return quality_of(tables[chosen[0]], tables[chosen[1]] if len(chosen) > 1 else None), subsampled


def _quantisation(content: bytes) -> dict[int, Table]:
    """The tables of a segment by number, 64 steps each."""
    tables: dict[int, Table] = {}
    position = 0
    while position < len(content):
        wide, number = content[position] >> 4, content[position] & 15
        size = 128 if wide else 64
        values = content[position + 1 : position + 1 + size]
        if len(values) < size:
            break
        tables[number] = struct.unpack(">64H", values) if wide else tuple(values)
        position += 1 + size
    return tables


def quality_of(luma: Table, chroma: Table | None) -> int:
    """The lowest quality of the usual tables (Annex K, scaled as libjpeg does) that is nowhere coarser.

    Files with the usual tables get their own quality, others one at which nothing more is lost.

    Args:
        luma: steps of the first component, in the file's order.
        chroma: those of the second, or None.
    """
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        usual = usual_tables(middle)
        finer = all(mine <= step for mine, step in zip(usual[0], luma, strict=True))
        if chroma and finer:
            finer = all(mine <= step for mine, step in zip(usual[1], chroma, strict=True))
        low, high = (low, middle) if finer else (middle + 1, high)
    return low


@cache
def usual_tables(quality: int) -> tuple[Table, Table]:
    """Luma and chroma tables that the encoder writes at a quality, in the file's order."""
    from mtdeblur.media import libvips

    tables: dict[int, Table] = {}
    for each in segments(libvips.smallest_jpeg(quality)):
        if each.marker == _TABLES:
            tables.update(_quantisation(each.content))
    return tables[0], tables[1]


def complete(
    encoded: memoryview, blobs: dict[str, bytes], density: Resolution | None, coding: Coding
) -> bytes:
    """The segments to insert after a file's first two bytes: JFIF, EXIF, IPTC, comments.

    Args:
        encoded: a file without JFIF header.
        blobs: any of "exif", "iptc" and "photoshop"; EXIF is left out if it does not fit.
        density: for the JFIF header; None for square pixels of unknown size.
        coding: of the source; segments of another JPEG file are kept.
    """
    unit, across, down = 0, 1, 1
    if density:
        across, down, name = density.whole()
        unit = {"none": 0, "inch": 1, "cm": 2}[name]
    inserted = segment(_APP0, _JFIF + struct.pack(">BBBHHBB", 1, 1, unit, across, down, 0, 0))
    if exif := blobs.get("exif"):
        inserted += segment(_APP1, _EXIF + exif)
    resources = photoshop.joined(blobs.get("iptc"), blobs.get("photoshop"))
    room = _LONGEST - len(_PHOTOSHOP)
    for start in range(0, len(resources), room):
        inserted += segment(_APP13, _PHOTOSHOP + resources[start : start + room])
    return inserted + (b"".join(coding.pieces) if coding.container == "jpeg" else b"")


def segment(marker: int, content: bytes) -> bytes:
    """A segment; nothing if the content is too long for one."""
    if len(content) > _LONGEST:
        return b""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
