"""What picture files say besides their samples, read byte by byte and inserted into encoded files.

libvips rebuilds EXIF from the tags that it knows, which damages maker notes and unknown tags, and drops much
else. Files are therefore encoded without metadata but profile and XMP; the original blocks are inserted
afterwards.
"""

from collections.abc import Mapping
from functools import partial

from mtdeblur.media.containers import isobmff, jpeg, png, tiff, webp
from mtdeblur.media.directories import MALFORMED, Data
from mtdeblur.media.exif import orientation
from mtdeblur.media.facts import Coding, Facts, Resolution

Encoded = memoryview
Parts = list[bytes | memoryview]
"""The parts of a file in order; parts of the encoded file are not copied."""

_INSPECT = {
    "jpeg": jpeg.inspect,
    "png": png.inspect,
    "tiff": tiff.inspect,
    "webp": webp.inspect,
    "avif": partial(isobmff.inspect, "avif"),
    "heic": partial(isobmff.inspect, "heic"),
}


def inspect(container: str, data: Data) -> Facts:
    """What a file says besides its samples; of a malformed file as much as can be read.

    Args:
        container: the format.
        data: the whole file.
    """
    try:
        return _INSPECT[container](data) if container in _INSPECT else Facts(Coding(container))
    except MALFORMED:
        return Facts(Coding(container))


def completed(
    container: str, encoded: Encoded, blobs: Mapping[str, bytes], density: Resolution | None, coding: Coding
) -> Parts:
    """Complete a file that has only samples, colour profile and XMP.

    Args:
        container: the format.
        encoded: the file; a JPEG file without JFIF header.
        blobs: any of "exif", beginning with its byte order mark, "iptc" and "photoshop". EXIF is left out if
            it is longer than the 65,527 bytes that fit in JPEG.
        density: the resolution, or None if it is unknown.
        coding: of the source; what it kept as it was is inserted in a file of the same format.

    Returns:
        the parts of the complete file.
    """
    blobs = dict(blobs)
    if container == "jpeg":
        return [encoded[:2], jpeg.complete(encoded, blobs, density, coding), encoded[2:]]
    if container == "png":
        return [png.complete(encoded, blobs, density, coding), encoded[png.samples_at(encoded) :]]
    if container == "tiff":
        turn = orientation(blobs.get("exif"))
        return tiff.complete(encoded, blobs, density, turn, coding.premultiplied)
    if container == "webp" and "exif" in blobs:
        return [webp.with_exif(encoded, blobs["exif"])]
    if container == "avif" and "exif" in blobs:
        return isobmff.with_exif(encoded, blobs["exif"])
    return [encoded]
