"""PNG files: chunks besides the samples, read and inserted."""

import struct
import zlib
from collections.abc import Iterator

from mtdeblur.media.directories import Data
from mtdeblur.media.facts import Coding, Facts, Resolution, resolution
from mtdeblur.media.primaries import SRGB, Colour, coded

_COLOUR = (b"cICP", b"mDCV", b"cLLI", b"gAMA", b"cHRM", b"sRGB")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp\0"
_MOST_TEXT = 2**24  # bytes of a chunk


def chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Name, position and length of the content of each chunk, as far as they can be read."""
    position = 8
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):
            return
        yield name, position + 8, length
        position += 12 + length


def inspect(data: Data) -> Facts:
    """What a file says besides its samples."""
    pieces: list[bytes] = []
    colours: dict[bytes, bytes] = {}
    density, frames = None, 1
    for name, start, length in chunks(data):
        if name == b"IEND":
            break
        if name == b"pHYs" and length == 9:
            across, down, unit = struct.unpack_from(">IIB", data, start)
            density = resolution(across / 100, down / 100, "cm") if unit else resolution(across, down, "none")
        elif name == b"acTL" and length == 8:
            (frames,) = struct.unpack_from(">I", data, start)
        elif (name in _COLOUR and length <= 32) or (name in _TEXT and length <= _MOST_TEXT):
            content = bytes(data[start : start + length])
            if not (name == b"iTXt" and content.startswith(_XMP)):
                pieces.append(chunk(name, content))
                colours[name] = content
        elif name == b"iCCP":
            colours[name] = b""
    return Facts(Coding("png", pieces=pieces), density, colour=_colour(colours), pictures=max(1, frames))


def _colour(contents: dict[bytes, bytes]) -> Colour | None:
    """The encoding that chunks tell, by the standard's precedence; None for sRGB, a profile, or nothing."""
    if len(contents.get(b"cICP", b"")) == 4:
        colour = coded(*contents[b"cICP"][:2])
        return None if colour.is_srgb else colour
    if b"iCCP" in contents or b"sRGB" in contents:
        return None
    gamma, primaries = None, SRGB
    if len(contents.get(b"gAMA", b"")) == 4 and any(contents[b"gAMA"]):
        gamma = 100_000 / int.from_bytes(contents[b"gAMA"])
    if len(contents.get(b"cHRM", b"")) == 32:
        primaries = tuple(value / 100_000 for value in struct.unpack(">8I", contents[b"cHRM"]))
    colour = Colour(primaries, gamma)
    return colour if colour.is_plausible and not colour.is_srgb else None


def complete(
    encoded: memoryview, blobs: dict[str, bytes], density: Resolution | None, coding: Coding
) -> bytes:
    """The start of a file up to its samples, with its resolution, EXIF, text and colour chunks.

    Args:
        encoded: the file.
        blobs: "exif", if any.
        density: the resolution; without one the file says nothing of it.
        coding: of the source; chunks of another PNG file are kept.
    """
    start = b""
    for name, position, length in chunks(encoded):
        if name == b"IDAT":
            break
        if name != b"pHYs":  # libvips always writes one
            start += bytes(encoded[position - 8 : position + length + 4])
    header, rest = start[:25], start[25:]
    inserted = b"".join(coding.pieces) if coding.container == "png" else b""
    if density:
        metre = density.per_metre
        across, down = metre or density.whole()[:2]
        inserted += chunk(b"pHYs", struct.pack(">IIB", across, down, 1 if metre else 0))
    if exif := blobs.get("exif"):
        inserted += chunk(b"eXIf", exif)
    return bytes(encoded[:8]) + header + inserted + rest


def samples_at(encoded: memoryview) -> int:
    """Where the first chunk of samples begins."""
    return next(position - 8 for name, position, _ in chunks(encoded) if name == b"IDAT")


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk."""
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
