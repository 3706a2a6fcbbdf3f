"""WebP files: chunks of the RIFF container, read and inserted."""

import struct

from mtdeblur.media.directories import Data
from mtdeblur.media.facts import Coding, Facts


def inspect(data: Data) -> Facts:
    """Whether the file is coded without loss."""
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name in (b"VP8 ", b"VP8L", b"ANMF"):
            if name == b"ANMF":  # a frame: its chunks follow its header of 16 bytes
                name = bytes(data[position + 24 : position + 28])
            return Facts(Coding("webp", lossless=name == b"VP8L"))
        position += 8 + size + size % 2
    return Facts(Coding("webp"))


def with_exif(encoded: memoryview, exif: bytes) -> bytes:
    """The file with an EXIF block. The order of an extended file is VP8X, ICCP, picture, EXIF, XMP."""
    chunks: list[tuple[bytes, bytes]] = []
    position = 12
    while position < len(encoded):
        name, size = struct.unpack_from("<4sI", encoded, position)
        chunks.append((name, bytes(encoded[position + 8 : position + 8 + size])))
        position += 8 + size + size % 2
    if chunks[0][0] != b"VP8X":
        chunks.insert(0, (b"VP8X", _features(*chunks[0])))
    features = chunks[0][1]
    chunks[0] = (b"VP8X", bytes([features[0] | 0b1000]) + features[1:])
    end = next((index for index, (name, _) in enumerate(chunks) if name == b"XMP "), len(chunks))
    chunks.insert(end, (b"EXIF", exif))
    body = b"WEBP" + b"".join(_chunk(name, content) for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _features(name: bytes, content: bytes) -> bytes:
    """The VP8X header for a plain file, from the size (and alpha flag) in its one lossy or lossless chunk."""
    alpha = 0
    if name == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1  # both sizes less one
    else:
        width = (int.from_bytes(content[6:8], "little") & 0x3FFF) - 1
        height = (int.from_bytes(content[8:10], "little") & 0x3FFF) - 1
    return struct.pack("<I", alpha << 4) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
