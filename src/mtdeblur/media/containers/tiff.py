"""TIFF files: the choice of the main picture, and its tags, read and inserted.

A file may begin with a thumbnail, have its main picture below the first directory (SubIFD), or hold smaller
versions of it (a pyramid). Directories say so by their type; where they do not, a picture of the same shape
and at least four times as many pixels is taken for the main one.
"""

import struct
from fractions import Fraction
from typing import NamedTuple

from mtdeblur.media import directories
from mtdeblur.media.containers import photoshop
from mtdeblur.media.directories import (
    BYTE,
    MALFORMED,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Data,
    Directory,
    Entry,
    Layout,
)
from mtdeblur.media.exif import ORIENTATION, RESOLUTION_UNIT, UNITS, X_RESOLUTION, Y_RESOLUTION
from mtdeblur.media.facts import Coding, Facts, Resolution, resolution

_NEW_TYPE, _OLD_TYPE, _WIDTH, _HEIGHT, _SUB = 254, 255, 256, 257, 330
_EXTRA_SAMPLES, _PREMULTIPLIED = 338, 1
_XMP, _IPTC, _PHOTOSHOP, _ICC = 700, 33723, 34377, 34675
_RESOLUTION = {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}
# Tags of the first directory that describe the picture, not how its samples are stored: title, camera,
# resolution, software, date, artist, computer, rating, copyright.
_DESCRIPTIVE = {
    270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, directories.EXIF, directories.GPS
}  # fmt: skip
_STRUCTURE = {_NEW_TYPE, _OLD_TYPE, _WIDTH, _HEIGHT, _SUB}
_LARGER = 4
_LONGEST, _MOST_ABOVE = 256, 16  # bytes of the offsets of pictures below one, and pictures that have some


class _Page(NamedTuple):
    """A directory of a picture: where it is, its size, whether it is a smaller version, and those below."""

    start: int
    size: tuple[int, int]
    reduced: bool
    below: list[int]


def inspect(data: Data) -> Facts:
    """What a file says, and which of its pictures is the main one; nothing if it is malformed."""
    try:
        layout, start = directories.header(data)
        pages = [_page(data, layout, offset) for offset in directories.chain(data, layout, start)]
        page, below, pictures = _main(data, layout, pages)
    except MALFORMED:
        return Facts(Coding("tiff"))
    chosen = pages[page].start if below is None else pages[page].below[below]
    tags: Directory = {}
    for offset in (start, chosen):  # what the chosen directory lacks is in the first one
        try:
            tags |= directories.read(data, layout, offset, _wanted())
        except MALFORMED:
            continue
    extra = directories.numbers(tags.get(_EXTRA_SAMPLES), layout)
    return Facts(
        Coding("tiff", premultiplied=_PREMULTIPLIED in extra[:1]),
        _resolution(tags, layout),
        _blobs(tags, layout),
        page=page,
        sub_page=below,
        pictures=pictures,
    )


def _wanted() -> set[int]:
    blobs = {_XMP, _IPTC, _PHOTOSHOP, _ICC}
    return _DESCRIPTIVE | _RESOLUTION | blobs | {ORIENTATION, _EXTRA_SAMPLES}


def _page(data: Data, layout: Layout, start: int) -> _Page:
    tags = directories.read(data, layout, start, _STRUCTURE, longest=_LONGEST)

    def first(tag: int) -> int:
        return next(iter(directories.numbers(tags.get(tag), layout)), 0)

    reduced = bool(first(_NEW_TYPE) & 0b101) or first(_OLD_TYPE) == 2  # a mask is no picture either
    return _Page(start, (first(_WIDTH), first(_HEIGHT)), reduced, directories.numbers(tags.get(_SUB), layout))


def _main(data: Data, layout: Layout, pages: list[_Page]) -> tuple[int, int | None, int]:
    """Number of the main picture's page, its number below that page, and the number of pictures."""
    whole = [number for number, page in enumerate(pages) if not page.reduced]
    if whole:
        return (
            max(whole, key=lambda number: _rank(pages[whole[0]].size, pages[number].size)),
            None,
            len(whole),
        )
    for number, page in enumerate(pages[:_MOST_ABOVE]):
        for below, offset in enumerate(page.below):
            if not _page(data, layout, offset).reduced:
                return number, below, 1
    return max(range(len(pages)), key=lambda number: pages[number].size), None, 1


def _rank(first: tuple[int, int], other: tuple[int, int]) -> int:
    """Pixels of a picture that is a larger version of the first one; otherwise 0."""
    (width, height), (wide, high) = first, other
    alike = abs(width * high - height * wide) <= max(wide, high)
    return wide * high if alike and wide * high >= _LARGER * width * height else 0


def _resolution(tags: Directory, layout: Layout) -> Resolution | None:
    across, down = (directories.rational(tags.get(tag), layout) for tag in (X_RESOLUTION, Y_RESOLUTION))
    unit = UNITS.get(next(iter(directories.numbers(tags.get(RESOLUTION_UNIT), layout)), 2))
    return resolution(across, down, unit) if unit else None


def _blobs(tags: Directory, layout: Layout) -> dict[str, bytes]:
    """The tags as blocks; the bytes of a block are never reversed, whatever type its tag has."""
    blobs: dict[str, bytes] = {}
    for name, tag in (("xmp", _XMP), ("icc", _ICC), ("photoshop", _PHOTOSHOP), ("iptc", _IPTC)):
        entry = tags.get(tag)
        if entry is not None and isinstance(entry.value, bytes):
            blobs[name] = entry.value
    iptc, others = photoshop.split(blobs.pop("photoshop", b""))
    if others:
        blobs["photoshop"] = others
    records = _in_order(blobs.pop("iptc", None) or iptc)
    if records:
        blobs["iptc"] = records
    described = {tag: tags[tag] for tag in _DESCRIPTIVE | _RESOLUTION | {ORIENTATION} if tag in tags}
    described = {tag: entry for tag, entry in described.items() if entry.kind < 16}
    if described.keys() - _RESOLUTION:
        blobs["exif"] = directories.block(described, layout)
    return blobs


def _in_order(iptc: bytes | None) -> bytes | None:
    """IPTC records, which begin with the byte 28, also where a program has reversed every four bytes."""
    if not iptc or iptc[0] == 28 or iptc[3:4] != b"\x1c":
        return iptc
    return b"".join(iptc[start : start + 4][::-1] for start in range(0, len(iptc), 4))


def as_unassociated(data: Data) -> bytes:
    """The file with colours that are multiplied by alpha declared as colours that are not."""
    layout, start = directories.header(data)
    copy = bytearray(data)
    for offset in directories.chain(data, layout, start):
        for position, tag, kind, count, _ in directories.entries(data, layout, offset):
            if tag == _EXTRA_SAMPLES and kind == SHORT and count >= 1:
                struct.pack_into(layout.order + "H", copy, position, 2)
    return bytes(copy)


def complete(
    encoded: memoryview, blobs: dict[str, bytes], density: Resolution | None, turn: int, premultiplied: bool
) -> list[bytes | memoryview]:
    """The parts of a file of one picture with more tags; malformed ones are left out.

    Args:
        encoded: the file.
        blobs: any of "exif", whose descriptive tags are copied, "iptc" and "photoshop".
        density: the resolution.
        turn: the orientation.
        premultiplied: whether colours are multiplied by alpha.
    """
    layout, start = directories.header(encoded)
    # The file's own tags are kept; offsets in them remain valid because data is only appended.
    own = {
        tag: Entry(kind, count, field)
        for _, tag, kind, count, field in directories.entries(encoded, layout, start)
    }
    tags = own | _tags(blobs, density, turn, layout)
    if premultiplied:
        tags[_EXTRA_SAMPLES] = _short(_PREMULTIPLIED, layout)
    end = len(encoded) + len(encoded) % 2
    link = struct.pack(layout.offset, end)
    position = 8 if layout.big else 4
    directory = b"\0" * (len(encoded) % 2) + directories.build(
        _described(blobs.get("exif"), layout) | tags, layout, end
    )
    return [encoded[:position], link, encoded[position + len(link) :], directory]


def _described(exif: bytes | None, layout: Layout) -> Directory:
    """The descriptive tags of an EXIF block in the byte order of a file."""
    try:
        source, start = directories.header(exif or b"")
        tags = directories.read(exif or b"", source, start, _DESCRIPTIVE)
    except MALFORMED:
        return {}
    tags = {tag: entry for tag, entry in tags.items() if entry.kind < 16}
    return tags if source.order == layout.order else directories.swapped(tags)


def _tags(blobs: dict[str, bytes], density: Resolution | None, turn: int, layout: Layout) -> Directory:
    tags: Directory = {ORIENTATION: _short(turn, layout)}
    unit = {name: code for code, name in UNITS.items()}[density.unit if density else "none"]
    tags[RESOLUTION_UNIT] = _short(unit, layout)
    for tag, value in zip((X_RESOLUTION, Y_RESOLUTION), density or (1, 1), strict=False):
        exact = Fraction(value).limit_denominator(4000)
        packed = struct.pack(layout.order + "II", exact.numerator, exact.denominator)
        tags[tag] = Entry(RATIONAL, 1, packed)
    for name, tag, kind in (("iptc", _IPTC, UNDEFINED), ("photoshop", _PHOTOSHOP, BYTE)):
        if blob := blobs.get(name):
            tags[tag] = Entry(kind, len(blob), blob)
    return tags


def _short(value: int, layout: Layout) -> Entry:
    return Entry(SHORT, 1, struct.pack(layout.order + "H", value))
