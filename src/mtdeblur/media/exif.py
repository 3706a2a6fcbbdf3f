"""Byte-exact reading and patching of EXIF blocks, which have the structure of `directories`.

JPEG, PNG and WebP files contain the block as a whole; in a TIFF file its tags are in the file's own directory
(see `containers.tiff`).
"""

import struct

from mtdeblur.media.directories import MALFORMED, find, header, link, numbers, patched, rational, read
from mtdeblur.media.facts import Resolution, Unit, resolution

ORIENTATION = 274
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
UNITS: dict[int, Unit] = {1: "none", 2: "inch", 3: "cm"}


def orientation(exif: bytes | None) -> int:
    """The orientation tag, 1 to 8; 1 (upright) if it is missing or the block is malformed."""
    try:
        position, layout = find(exif or b"", ORIENTATION)
        value = struct.unpack_from(layout.order + "H", exif or b"", position)[0]
    except MALFORMED:
        return 1
    return value if 1 <= value <= 8 else 1


def upright(exif: bytes | None) -> bytes | None:
    """The block with an orientation of 1, for pixels that have been turned upright."""
    if exif is None or orientation(exif) == 1:
        return exif
    position, layout = find(exif, ORIENTATION)
    return patched(exif, position, struct.pack(layout.order + "H", 1))


def without_thumbnail(exif: bytes | None) -> bytes | None:
    """The block without the link to its second directory, which contains the thumbnail."""
    try:
        layout, start = header(exif or b"")
        position = link(exif or b"", layout, start)
    except MALFORMED:
        return exif
    return patched(exif or b"", position, struct.pack(layout.offset, 0))


def resolution_of(exif: bytes | None) -> Resolution | None:
    """The resolution in the block; None if it is missing or the block is malformed."""
    try:
        layout, start = header(exif or b"")
        tags = read(exif or b"", layout, start, {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT})
        unit = numbers(tags.get(RESOLUTION_UNIT), layout) or [2]
        across, down = (rational(tags.get(tag), layout) for tag in (X_RESOLUTION, Y_RESOLUTION))
        return resolution(across, down, UNITS[unit[0]])
    except MALFORMED:
        return None
