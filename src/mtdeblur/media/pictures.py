"""Reading and writing of photographs with their metadata.

Reading does not convert colours, depth or orientation, except that CMYK and Lab pictures become sRGB. Writing
loses what the format does not support:

- JPEG, WebP, BMP and JPEG XL have 8 bits: 16-bit samples are rounded. Only TIFF has floating-point samples.
- JPEG, BMP and PNM have no alpha: the picture is blended with white.
- PNG has no malformed colour profiles.
- WebP and BMP have no grey: three equal channels are written, without a grey colour profile.
- IPTC is kept in JPEG and TIFF; EXIF of more than 65,527 bytes does not fit in JPEG.
- Text of PNG stays in PNG, and comments of JPEG in JPEG.
- Only one picture of a file is read; gain maps, previews and thumbnails are left out (`Picture.notices`).

JPEG keeps quality and chroma of a JPEG source; otherwise it has quality 95 without chroma subsampling. WebP
is written without loss if the source is such a file, otherwise at quality 95 (its chroma is always
subsampled); AVIF at quality 95. PNG, TIFF, JPEG XL, BMP and PNM are written without loss.
"""

import mmap
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import atomic_path, check_regular, reason
from mtdeblur.media import containers, formats, libvips, others, spool, xmp
from mtdeblur.media import exif as exif_blocks
from mtdeblur.media.colour import profile_of
from mtdeblur.media.containers import Parts, png, tiff
from mtdeblur.media.directories import Data
from mtdeblur.media.facts import Coding, Facts
from mtdeblur.media.formats import container_of, name_of, sniff
from mtdeblur.media.picture import Picture
from mtdeblur.media.samples import (
    Pixels,
    contiguous,
    divided,
    multiply,
    stored,
    three_equal,
    to_integers,
)

_HEADER = 2**20  # bytes from the start of a file that tell its size


def read_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture file from its header; None if it cannot be read."""
    try:
        with _mapped(path) as (file, data):
            container = sniff(bytes(data[: formats.HEAD]))
            if container not in libvips.CONTAINERS:
                return others.size(bytes(data[:_HEADER]), container)
            facts = containers.inspect(container, data)
            return libvips.size(file, container, facts.page, facts.sub_page)
    except (OSError, UserError):
        return None


def read_picture(path: Path, *, spooled: bool = False) -> Picture:
    """Read a picture file; the format is detected from the content.

    Args:
        path: the file.
        spooled: keep the pixels of a large picture in a temporary file, see `mtdeblur.media.spool`. What is
            derived from them by this module then is, too.

    Raises:
        UserError: if it cannot be read, is empty, damaged, truncated, too large or of another format.
    """
    try:
        with _mapped(path) as (file, data):
            picture = _decoded(data, file, spooled)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    except UserError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return picture


def read_pixels(path: Path) -> Pixels:
    """The upright pixels of a picture file: (H, W, 3) RGB, uint8 or uint16; floats are clipped to [0, 1].

    Raises:
        UserError: as `read_picture` does.
    """
    return to_integers(read_picture(path).upright().pixels)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture atomically in the format of the path's suffix, with the losses listed above.

    Args:
        path: with one of `formats.WRITABLE`, in any case.
        picture: the picture.

    Raises:
        UserError: if the suffix is unknown, the picture is too large for the format, or the file cannot be
            written.
    """
    container = container_of(path)
    height, width = picture.pixels.shape[:2]
    longest = formats.LONGEST_SIDE.get(container)
    if longest and max(height, width) > longest:
        raise UserError(
            f"cannot write {path}: {name_of(container)} allows at most {longest} pixels a side, "
            f"and this picture is {width} x {height}"
        )
    try:
        parts = _encoded(picture, container)
    except UserError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        spool.write(file, parts)


def decode_picture(encoded: bytes) -> Picture:
    """Decode a whole picture file.

    Raises:
        UserError: the reason without a file name, if it is empty, damaged, truncated or of another format.
    """
    return _decoded(encoded, encoded, False)


def _decoded(data: Data, source: bytes | BinaryIO, spooled: bool) -> Picture:
    """The picture in a file, given its content and what libvips shall read it from."""
    container = sniff(bytes(data[: formats.HEAD]))
    facts = containers.inspect(container, data)
    if container not in libvips.CONTAINERS:
        decoded = others.decode(bytes(data), container)
    else:
        source = tiff.as_unassociated(data) if facts.coding.premultiplied else source
        decoded = libvips.decode(source, container, facts.page, facts.sub_page, spooled=spooled)
    return _picture(decoded, facts)


def _picture(decoded: libvips.Decoded, facts: Facts) -> Picture:
    """A decoded file as a picture."""
    samples = decoded.samples
    grey, transparent = samples.shape[2] < 3, samples.shape[2] in (2, 4)
    pixels = three_equal(samples[..., :1]) if grey else contiguous(samples[..., :3])
    alpha = contiguous(samples[..., -1]) if transparent else None
    if facts.coding.premultiplied and alpha is not None:
        pixels = divided(pixels, alpha)
    blobs = {**decoded.blobs, **{key: blob for key, blob in facts.blobs.items() if key != "icc"}}
    if "icc" not in blobs and "icc" in facts.blobs and not decoded.converted:
        blobs["icc"] = facts.blobs["icc"]
    packet, notices = _cleaned(blobs.get("xmp"), facts)
    notices += _beyond_white(pixels)
    exif = blobs["exif"].removeprefix(b"Exif\0\0") if "exif" in blobs else None
    if facts.coding.container not in formats.TURNED_BY_EXIF:
        exif = exif_blocks.upright(exif)
    pictures = facts.pictures or decoded.pages
    if pictures > 1:
        which = "the first" if facts.page == 0 else f"number {facts.page + 1}"
        notices.append(f"it contains {pictures} pictures; only {which} is deblurred")
    return Picture(
        pixels=pixels,
        alpha=alpha,
        grey=grey,
        icc=blobs.get("icc"),
        exif=exif,
        xmp=packet,
        iptc=blobs.get("iptc"),
        photoshop=blobs.get("photoshop"),
        resolution=facts.resolution or exif_blocks.resolution_of(exif),
        coding=replace(facts.coding, bits=decoded.bits),
        colour=None if "icc" in blobs or decoded.converted else facts.colour,
        notices=(*notices, *decoded.notices),
    )


def _cleaned(packet: bytes | None, facts: Facts) -> tuple[bytes | None, list[str]]:
    """The XMP packet without claims about what is left out, and the notices of that."""
    notices = list(facts.notices)
    if packet is None:
        return None, notices
    cleaned = xmp.without_appended(packet)
    if cleaned.gain_map and not any("gain map" in notice for notice in notices):
        notices.append("its gain map (HDR) is left out")
    if cleaned.video:
        notices.append("the video of its motion photo is left out")
    return cleaned.packet, notices


def _beyond_white(pixels: Pixels) -> list[str]:
    """A notice if a picture of floats has values outside [0, 1]."""
    if pixels.dtype != np.float32:
        return []
    inside = sum(
        int(((pixels[rows] >= 0) & (pixels[rows] <= 1)).sum(dtype=np.int64)) for rows in spool.strips(pixels)
    )
    share = 1 - inside / pixels.size
    how = "networks see them as 0 or 1, and only the change is added to them"
    return [f"{share:.2%} of its values are outside 0 to 1: {how}"] if inside < pixels.size else []


@contextmanager
def _mapped(path: Path) -> Generator[tuple[Any, Data]]:
    """An open file and its content, which is mapped, not read."""
    check_regular(path)
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise UserError("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield file, data


def encode_picture(picture: Picture, container: str) -> bytes:
    """Encode a picture as `write_picture` does; the bytes depend on the arguments alone.

    Args:
        picture: the picture.
        container: "jpeg", "png", "tiff" or "webp".

    Raises:
        UserError: the reason without a file name, if libvips fails.
    """
    return b"".join(_encoded(picture, container))


def _encoded(picture: Picture, container: str) -> Parts:
    """The parts of an encoded picture, in order."""
    if container not in formats.TURNED_BY_EXIF:
        picture = picture.upright()
    picture = _with_colour(picture, container)
    grey = picture.grey and container in formats.GREY
    transparent = picture.alpha is not None and container in formats.TRANSPARENT
    dtype = _stored_dtype(picture, container)
    samples = stored(picture.pixels, picture.alpha, dtype, grey=grey, transparent=transparent)
    if transparent and container == "tiff" and picture.coding.premultiplied:
        multiply(samples)
    embedded = _blobs(picture, container, grey)
    if container in libvips.CONTAINERS:
        encoded = libvips.encode(samples, container, embedded, picture.coding)
    else:
        encoded = others.encode(samples, container, embedded)
    kept = {"exif": picture.exif, "iptc": picture.iptc, "photoshop": picture.photoshop}
    blobs = {name: blob for name, blob in kept.items() if blob}
    coding = replace(picture.coding, premultiplied=picture.coding.premultiplied and transparent)
    return containers.completed(container, memoryview(encoded), blobs, picture.resolution, coding)


def _stored_dtype(picture: Picture, container: str) -> DTypeLike:
    """The dtype in which a format stores the picture's samples."""
    if picture.pixels.dtype == np.float32 and container == "tiff":
        return np.float32
    return np.uint8 if picture.pixels.dtype == np.uint8 or container not in formats.DEEP else np.uint16


def _blobs(picture: Picture, container: str, grey: bool) -> dict[str, bytes]:
    """Colour profile and XMP for a format."""
    icc, packet = picture.icc, picture.xmp
    if icc and icc[16:20] == b"GRAY" and not grey:
        icc = None
    elif icc and container == "png":  # PNG allows no padding after the profile's own length
        icc = icc[: int.from_bytes(icc[:4])]
    if packet and (container, picture.coding.container) != ("jpeg", "jpeg"):
        packet = xmp.without_extension(packet)
    exif = picture.exif if container in ("avif", "jxl") else None  # libvips makes a block of its own in AVIF
    blobs = {"icc": icc, "xmp": packet, "exif": exif}
    return {name: blob for name, blob in blobs.items() if blob}


def _with_colour(picture: Picture, container: str) -> Picture:
    """The picture with what tells its encoding in a format: PNG's own chunk, otherwise a profile.

    Raises:
        UserError: if the format has nothing for it.
    """
    colour, coding = picture.colour, picture.coding
    if colour is None:
        return picture
    if container == "png" and coding.container != "png" and colour.code:
        coding = Coding("png", pieces=[png.chunk(b"cICP", bytes((*colour.code, 0, 1)))])
    elif container != "png" and colour.is_hdr:
        raise UserError("it is HDR (PQ or HLG), which only PNG can say here; give a name that ends in .png")
    if coding.container == container == "png" and (coding is picture.coding or colour.is_hdr):
        return replace(picture, coding=coding)
    return replace(picture, coding=coding, icc=profile_of(colour, picture.grey and container in formats.GREY))
