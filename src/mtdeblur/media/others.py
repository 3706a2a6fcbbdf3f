"""Formats that libvips does not decode: BMP by Pillow, HEIC by pillow-heif, JPEG XL by pylibjxl, PNM here.

HEIC and JPEG XL need optional packages, which the extra `formats` installs. The packages are chosen for what
they tell before decoding (size, depth) and for handing over profile, EXIF and XMP as they are.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError, one_line, require
from mtdeblur.media import netpbm
from mtdeblur.media.formats import check_size, name_of
from mtdeblur.media.libvips import Decoded
from mtdeblur.media.samples import from_bits

_EXTRA = "formats"


def decode(encoded: bytes, container: str) -> Decoded:
    """Decode a whole file of another format than those of libvips.

    Raises:
        UserError: the reason without a file name, if the file is damaged or too large, or a package missing.
    """
    try:
        return {"bmp": _bmp, "heic": _heic, "jxl": _jxl, "pnm": netpbm.decode}[container](encoded)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # decoders raise many types of error for broken files
        raise UserError(
            f"the {name_of(container)} file is damaged or incomplete ({one_line(error, 150)})"
        ) from error


def encode(samples: NDArray[Any], container: str, blobs: dict[str, bytes]) -> bytes:
    """Encode a picture as BMP, JPEG XL or PNM.

    Args:
        samples: (H, W, C) uint8, or uint16 for PNM.
        container: the format.
        blobs: any of "icc", "xmp" and "exif", which JPEG XL holds.

    Raises:
        UserError: the reason without a file name, if it cannot be encoded.
    """
    if container == "pnm":
        return netpbm.encode(samples)
    if container == "jxl":
        return _to_jxl(samples, blobs)
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(samples).save(file, "BMP")
    return file.getvalue()


def size(head: bytes, container: str) -> tuple[int, int] | None:
    """Height and width from a file's first bytes; None if they do not tell."""
    try:
        if container == "pnm":
            return netpbm.read_header(head).shape
        if container == "jxl":
            facts = require("pylibjxl", _EXTRA, "reading JPEG XL").probe(head)
            return facts["height"], facts["width"]
        if container == "bmp":
            return _size_of_bmp(head)
        file = require("pillow_heif", _EXTRA, "reading HEIC").open_heif(io.BytesIO(head))
        return file.size[1], file.size[0]
    except Exception:  # the file is damaged, or the package missing: decoding says which
        return None


def _size_of_bmp(head: bytes) -> tuple[int, int]:
    if int.from_bytes(head[14:18], "little") == 12:
        return int.from_bytes(head[20:22], "little"), int.from_bytes(head[18:20], "little")
    height = int.from_bytes(head[22:26], "little", signed=True)
    return abs(height), int.from_bytes(head[18:22], "little", signed=True)


def _bmp(encoded: bytes) -> Decoded:
    from PIL import Image

    height, width = _size_of_bmp(encoded)
    check_size(width, height)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own limit is below ours
        with Image.open(io.BytesIO(encoded), formats=["BMP"]) as image:
            grey, transparent = image.mode in ("1", "L"), image.mode == "RGBA"
            samples = np.asarray(image.convert("L" if grey else "RGBA" if transparent else "RGB"))
    return Decoded(samples.reshape(*samples.shape[:2], -1), {})


def _heic(encoded: bytes) -> Decoded:
    heif = require("pillow_heif", _EXTRA, "reading HEIC")
    file = heif.open_heif(io.BytesIO(encoded), convert_hdr_to_8bit=False)
    check_size(*file.size)
    pages, image = len(file), file[file.primary_index]
    bits, mode = image.info.get("bit_depth", 8), image.mode
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "I": 1}[mode.split(";")[0]]
    if mode.endswith("a"):
        raise UserError("its colours are multiplied by alpha, which is not supported in HEIC")
    deep = ";16" in mode
    samples = np.asarray(image).reshape(image.size[1], image.size[0], channels)
    if deep:
        samples = from_bits(samples >> (16 - bits), bits)
    blobs = {
        name: image.info.get(key) for name, key in (("exif", "exif"), ("xmp", "xmp"), ("icc", "icc_profile"))
    }
    return Decoded(samples, {name: bytes(blob) for name, blob in blobs.items() if blob}, pages, bits)


def _jxl(encoded: bytes) -> Decoded:
    jxl = require("pylibjxl", _EXTRA, "reading JPEG XL")
    facts = jxl.probe(encoded)
    check_size(facts["width"], facts["height"])
    samples, blobs = jxl.decode(encoded, metadata=True)
    notices: tuple[str, ...] = ()
    if facts["bits_per_sample"] > 8:
        notices += (f"its samples have {facts['bits_per_sample']} bits; they are read with 8",)
    if facts["have_animation"]:
        notices += ("it contains several pictures; only the first is deblurred",)
    known = {name: bytes(blobs[name]) for name in ("exif", "xmp", "icc") if blobs.get(name)}
    return Decoded(samples.reshape(*samples.shape[:2], -1), known, notices=notices)


def _to_jxl(samples: NDArray[Any], blobs: dict[str, bytes]) -> bytes:
    jxl = require("pylibjxl", _EXTRA, "writing JPEG XL")
    try:
        return jxl.encode(np.ascontiguousarray(samples), lossless=True, **blobs)
    except Exception as error:  # also for a malformed profile, which is then left out
        if "icc" in blobs:
            return _to_jxl(samples, {name: blob for name, blob in blobs.items() if name != "icc"})
        raise UserError(one_line(error, 150)) from error
