"""Insertion of unchanged EXIF blocks into encoded JPEG, PNG, TIFF and WebP files.

libvips rebuilds EXIF from the tags that it knows, which damages maker notes and unknown tags. Files are
therefore encoded without EXIF, and the original block is inserted afterwards.
"""

import struct
import zlib

from mtdeblur.media.exif import into_tiff

_JPEG_PREFIX = b"Exif\0\0"
_LONGEST_SEGMENT = 0xFFFF - 2


def embed_exif(container: str, encoded: bytes, exif: bytes) -> bytes:
    """Insert an EXIF block into a file without one.

    Args:
        container: "jpeg", "png", "tiff" or "webp".
        encoded: the file.
        exif: the block, beginning with its byte order mark. It is left out if it is longer than the 65,527
            bytes that fit in JPEG.

    Returns:
        the file with the block.
    """
    match container:
        case "jpeg":
            return _into_jpeg(encoded, exif)
        case "png":
            return _into_png(encoded, exif)
        case "tiff":
            return into_tiff(encoded, exif)
        case _:
            return _into_webp(encoded, exif)


def jfif(encoded: bytes, resolution: tuple[float, float] | None) -> bytes:
    """Insert the JFIF header with its pixel density into a JPEG file without one.

    Args:
        encoded: the JPEG file.
        resolution: horizontal and vertical pixels per millimetre; None for square pixels of unknown size.
    """
    unit, across, down = 0, 1, 1
    if resolution:
        unit, (across, down) = 1, (min(65535, max(1, round(value * 25.4))) for value in resolution)
    header = b"JFIF\0" + struct.pack(">BBBHHBB", 1, 1, unit, across, down, 0, 0)
    return encoded[:2] + _segment(0xE0, header) + encoded[2:]


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _into_jpeg(encoded: bytes, exif: bytes) -> bytes:
    content = _JPEG_PREFIX + exif
    if len(content) > _LONGEST_SEGMENT:
        return encoded
    start = 2
    if encoded[2:4] == b"\xff\xe0":  # after the JFIF header, where readers expect it
        start += 2 + int.from_bytes(encoded[4:6])
    return encoded[:start] + _segment(0xE1, content) + encoded[start:]


def _into_png(encoded: bytes, exif: bytes) -> bytes:
    start = 8 + 12 + int.from_bytes(encoded[8:12])  # after the signature and the IHDR chunk
    body = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
    return encoded[:start] + chunk + encoded[start:]


def _into_webp(encoded: bytes, exif: bytes) -> bytes:
    """Chunks of an extended WebP file are in the order VP8X, ICCP, picture, EXIF, XMP."""
    chunks: list[tuple[bytes, bytes]] = []
    position = 12
    while position < len(encoded):
        name, size = struct.unpack_from("<4sI", encoded, position)
        chunks.append((name, encoded[position + 8 : position + 8 + size]))
        position += 8 + size + size % 2
    if chunks[0][0] != b"VP8X":
        chunks.insert(0, (b"VP8X", _webp_features(*chunks[0])))
    features = chunks[0][1]
    chunks[0] = (b"VP8X", bytes([features[0] | 0b1000]) + features[1:])
    end = next((index for index, (name, _) in enumerate(chunks) if name == b"XMP "), len(chunks))
    chunks.insert(end, (b"EXIF", exif))
    body = b"WEBP" + b"".join(_chunk(name, content) for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _webp_features(name: bytes, content: bytes) -> bytes:
    """The VP8X header for a plain file, from the size (and alpha flag) in its one lossy or lossless chunk."""
    alpha = 0
    if name == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1  # both sizes less one
    else:
        width = (int.from_bytes(content[6:8], "little") & 0x3FFF) - 1
        height = (int.from_bytes(content[8:10], "little") & 0x3FFF) - 1
    return struct.pack("<I", alpha << 4) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
