# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportPrivateUsage=false
"""Decoding and encoding with libvips; the only module that uses pyvips (untyped), imported on first use.

libvips decodes and encodes all four formats in 8 and 16 bits with their colour profiles, converts CMYK by
profiles, and its wheel includes its libraries.
"""

import html
import os
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError

_FIELDS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
_FINEST = 10_000.0  # pixels per millimetre
_LAB = {"lab", "labq", "labs"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"Q": 95, "subsample_mode": "off", "optimize_coding": True},
    "png": {"compression": 4, "filter": "up"},  # 3 times faster than 6 and "all", and 1 % larger
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
    "webp": {"Q": 95, "smart_subsample": True, "exact": True, "effort": 2},  # more effort: slower, no smaller
}
_BIGTIFF_FROM = 2**32 - 2**24  # bytes of samples that a classic TIFF file might not hold


class Decoded(NamedTuple):
    """A decoded file: (H, W, C) uint8 or uint16 samples, C from 1 (grey) to 4 (RGB and alpha), and metadata.

    `blobs` has those of the keys "icc", "exif", "xmp", "iptc" that the file contains; `resolution` is in
    pixels per millimetre; `pages` is the number of pictures in the file, of which this is the first.
    """

    samples: NDArray[Any]
    blobs: dict[str, bytes]
    resolution: tuple[float, float] | None
    pages: int


def decode(encoded: bytes, container: str) -> Decoded:
    """Decode the first picture of a file; CMYK and Lab become RGB.

    Args:
        encoded: the whole file.
        container: "jpeg", "png", "tiff" or "webp".

    Raises:
        UserError: the reason without a file name, if the file is damaged, incomplete or not supported.
    """
    pyvips = _import_pyvips()
    load = getattr(pyvips.Image, f"{container}load_buffer")
    try:
        image = load(encoded, fail_on="error", access="sequential")
        blobs = _blobs(image)
        pages = image.get("n-pages") if "n-pages" in image.get_fields() else 1
        image = _to_rgb(image)
        blobs.pop("icc", None)
        blobs.update({key: blob for key, blob in _blobs(image).items() if key == "icc"})
        if image.format not in ("uchar", "ushort"):
            raise UserError(f"its samples are of type {image.format}; only 8 and 16 bit pictures can be read")
        if image.bands > 4:
            raise UserError(f"it has {image.bands} channels; only grey, RGB and CMYK (and alpha) can be read")
        samples = image.numpy().reshape(image.height, image.width, image.bands)
    except pyvips.Error as error:
        detail = f" ({reason})" if (reason := _reason(error)) else ""
        raise UserError(f"the {container.upper()} file is damaged or incomplete{detail}") from error
    return Decoded(samples, blobs, _resolution(image), pages)


def size(path: os.PathLike[str]) -> tuple[int, int] | None:
    """Height and width in pixels from a file's header; None if it cannot be read."""
    pyvips = _import_pyvips()
    try:
        with open(path, "rb") as file:  # pyvips accepts only UTF-8 names
            source = pyvips.Source.new_from_descriptor(file.fileno())
            image = pyvips.Image.new_from_source(source, "", access="sequential")
            return image.height, image.width
    except (OSError, pyvips.Error):
        return None


def encode(
    samples: NDArray[Any],
    container: str,
    blobs: dict[str, bytes],
    resolution: tuple[float, float] | None,
    turn: int,
) -> bytes:
    """Encode a picture without EXIF (see `mtdeblur.media.containers`).

    Args:
        samples: (H, W, C) uint8 or uint16, C from 1 to 4.
        container: "jpeg", "png", "tiff" or "webp".
        blobs: any of "icc", "xmp", "iptc".
        resolution: in pixels per millimetre.
        turn: the orientation tag, which only TIFF has outside EXIF.

    Raises:
        UserError: the reason without a file name, if libvips fails, such as for too large a picture.
    """
    pyvips = _import_pyvips()
    deep, coloured = samples.dtype == np.uint16, samples.shape[2] > 2
    interpretation = ("rgb16" if coloured else "grey16") if deep else ("srgb" if coloured else "b-w")
    options = dict(_OPTIONS[container])
    if container == "tiff" and samples.nbytes > _BIGTIFF_FROM:
        options["bigtiff"] = True
    try:
        image = pyvips.Image.new_from_array(np.ascontiguousarray(samples), interpretation=interpretation)
        image = image.copy(xres=resolution[0], yres=resolution[1]) if resolution else image.copy()
        for key, blob in blobs.items():
            image.set_type(pyvips.GValue.blob_type, _FIELDS[key], blob)
        if container == "tiff":
            image.set_type(pyvips.GValue.gint_type, "orientation", turn)
            image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
        return getattr(image, f"{container}save_buffer")(keep="icc|xmp|iptc", **options)
    except pyvips.Error as error:
        if container == "png" and "icc" in blobs:  # libpng refuses to write a malformed profile
            return encode(
                samples, container, {key: blobs[key] for key in blobs if key != "icc"}, resolution, turn
            )
        raise UserError(_reason(error) or str(error.message)) from error


def shrink(pixels: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) scaled down to a width in proportion; a narrower one is unchanged."""
    pyvips = _import_pyvips()
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels), interpretation="srgb")
    return image.thumbnail_image(width, height=len(pixels), size="down").numpy()


def text(lines: str, size: int) -> NDArray[np.uint8]:
    """Text of one or more lines as (H, W) opacities from 0 to 255; `size` of the font in pixels."""
    if not lines.strip():  # libvips refuses to draw blank text
        return np.zeros((size, size), np.uint8)
    pyvips = _import_pyvips()
    lines = lines.encode("utf-8", "replace").decode()
    return pyvips.Image.text(html.escape(lines), font=f"sans {size}", dpi=72).numpy()


def _import_pyvips() -> Any:
    """Import pyvips and silence libvips' warnings.

    The warnings concern unusual metadata; pyvips logs them, and fails on those that are not UTF-8.
    """
    if "pyvips" not in sys.modules:
        os.environ.setdefault("VIPS_WARNING", "0")  # any value disables the warnings
        import pyvips

        pyvips._remove_log_handler()
    import pyvips

    return pyvips


def _reason(error: Any) -> str:
    """The first line of libvips' error that does not concern a colour profile; empty if there is none."""
    lines = str(error.detail or "").strip().splitlines()
    return next((line for line in lines if not line.startswith("VipsIcc")), "")


def _resolution(image: Any) -> tuple[float, float] | None:
    """Pixels per millimetre; None for implausible values and for 1, libvips' value for none."""
    across, down = image.xres, image.yres
    sensible = 0 < across < _FINEST and 0 < down < _FINEST
    return (across, down) if sensible and (across, down) != (1.0, 1.0) else None


def _blobs(image: Any) -> dict[str, bytes]:
    present = set(image.get_fields())
    return {key: bytes(image.get(field)) for key, field in _FIELDS.items() if field in present}


def _to_rgb(image: Any) -> Any:
    """Convert CMYK (by its own profile, or a generic one) and Lab to sRGB; grey and RGB are unchanged."""
    if image.interpretation == "cmyk":
        options = {"embedded": True, "input_profile": "cmyk", "intent": "relative"}
        return image.icc_transform("srgb", depth=16 if image.format == "ushort" else 8, **options)
    if image.interpretation in _LAB:
        return image.colourspace("rgb16" if image.format in ("ushort", "short") else "srgb")
    return image
