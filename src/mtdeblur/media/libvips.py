# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportPrivateUsage=false
"""Decoding and encoding with libvips; the only module that uses pyvips (untyped), imported on first use.

libvips decodes and encodes JPEG, PNG, TIFF, WebP and AVIF in 8 and 16 bits with their colour profiles and
decodes GIF; it converts CMYK by profiles, and its wheel includes its libraries.
"""

import html
import mmap
import os
import sys
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError
from mtdeblur.media import spool
from mtdeblur.media.facts import Coding
from mtdeblur.media.formats import check_size, name_of
from mtdeblur.media.samples import from_bits, to_bits

CONTAINERS = frozenset(("jpeg", "png", "tiff", "webp", "avif", "gif"))
_FIELDS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data"}
_OPERATIONS = {"avif": "heif"}
_LAB = {"lab", "labq", "labs"}
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"Q": 95, "subsample_mode": "off", "optimize_coding": True},
    "png": {"compression": 4, "filter": "up"},  # 3 times faster than 6 and "all", and 1 % larger
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
    "webp": {"Q": 95, "smart_subsample": True, "exact": True, "effort": 2},  # more effort: slower, no smaller
    "avif": {"Q": 95, "subsample_mode": "off", "compression": "av1", "effort": 2},
}
_BIGTIFF_FROM = 2**32 - 2**24  # bytes of samples that a classic TIFF file might not hold


class Decoded(NamedTuple):
    """A decoded file.

    `samples` are (H, W, C) uint8, uint16 or float32, C from 1 (grey) to 4 (RGB and alpha); `blobs` has those
    of the keys "icc", "exif" and "xmp" that the file contains; `pages` is the number of pictures in the file;
    `bits` that of the bits of a sample; `notices` say what was converted.
    """

    samples: NDArray[Any]
    blobs: dict[str, bytes]
    pages: int = 1
    bits: int = 8
    converted: bool = False
    notices: tuple[str, ...] = ()


def decode(
    encoded: bytes | BinaryIO,
    container: str,
    page: int = 0,
    sub_page: int | None = None,
    *,
    spooled: bool = False,
) -> Decoded:
    """Decode a picture of a file; CMYK and Lab become RGB.

    Args:
        encoded: the whole file, or an open one.
        container: one of `CONTAINERS`.
        page: number of the picture in a TIFF file, from 0.
        sub_page: number of the TIFF picture below it, or None.
        spooled: keep the samples of a large picture in a temporary file, see `mtdeblur.media.spool`.

    Raises:
        UserError: the reason without a file name, if the file is damaged, incomplete, too large or not
            supported.
    """
    pyvips = _import_pyvips()
    try:
        image = _open_page(encoded, container, page, sub_page)
        check_size(image.width, image.height)
        blobs = _blobs(image)
        pages = image.get("n-pages") if image.get_typeof("n-pages") else 1
        bits = image.get("bits-per-sample") if image.get_typeof("bits-per-sample") else 8
        plain, image = image, _to_rgb(image)
        notices: tuple[str, ...] = ()
        if image is not plain:
            blobs.pop("icc", None)
            blobs.update({key: blob for key, blob in _blobs(image).items() if key == "icc"})
            kind = "CMYK" if plain.interpretation == "cmyk" else "Lab"
            notices = (f"its colours are {kind}; the result has RGB (sRGB)",)
        if image.format not in _DTYPES:
            raise UserError(
                f"its samples are of type {image.format}; only 8 and 16 bit and float pictures can be read"
            )
        if image.bands > 4:
            raise UserError(f"it has {image.bands} channels; only grey, RGB and CMYK (and alpha) can be read")
        samples = _samples(image, spooled)
        if container == "avif" and bits > 8:
            samples = from_bits(samples >> (16 - bits), bits)
    except (pyvips.Error, UnicodeDecodeError) as error:  # pyvips expects UTF-8 in libvips' errors
        detail = f" ({reason})" if (reason := _reason(error)) else ""
        raise UserError(f"the {name_of(container)} file is damaged or incomplete{detail}") from error
    return Decoded(samples, blobs, pages, bits, image is not plain, notices)


def _open_page(encoded: bytes | BinaryIO, container: str, page: int, sub_page: int | None) -> Any:
    """An image of which the header is read: TIFF's page, AVIF's primary picture, otherwise the first."""
    options: dict[str, Any] = {"page": page} if container == "tiff" else {}
    if sub_page is not None:
        options["subifd"] = sub_page
    image = _open(encoded, container, options)
    if container == "avif" and image.get("heif-primary"):
        return _open(encoded, container, {"page": image.get("heif-primary")})
    return image


def _open(encoded: bytes | BinaryIO, container: str, options: dict[str, Any]) -> Any:
    pyvips = _import_pyvips()
    if isinstance(encoded, bytes):
        source = pyvips.Source.new_from_memory(encoded)
    else:
        encoded.seek(0)
        source = pyvips.Source.new_from_descriptor(encoded.fileno())
    load = getattr(pyvips.Image, f"{_OPERATIONS.get(container, container)}load_source")
    return load(source, fail_on="error", access="sequential", **options)


def _samples(image: Any, spooled: bool) -> NDArray[Any]:
    """All samples of an image, (H, W, C)."""
    dtype = np.dtype(_DTYPES[image.format])
    shape = image.height, image.width, image.bands
    if not spooled or np.prod(shape) * dtype.itemsize <= spool.LARGE:
        return image.numpy().reshape(shape)
    with spool.temporary_file(int(np.prod(shape)) * dtype.itemsize) as file:
        image.rawsave_target(_import_pyvips().Target.new_to_descriptor(file.fileno()))
        return spool.mapped(file, shape, dtype)


def size(file: BinaryIO, container: str, page: int, sub_page: int | None) -> tuple[int, int] | None:
    """Height and width in pixels from an open file's header; None if it cannot be read.

    Args:
        file: the file.
        container: as for `decode`.
        page: as for `decode`.
        sub_page: as for `decode`.
    """
    try:
        image = _open_page(file, container, page, sub_page)
        return image.height, image.width
    except _import_pyvips().Error:
        return None


def encode(
    samples: NDArray[Any], container: str, blobs: dict[str, bytes], coding: Coding
) -> bytes | mmap.mmap:
    """Encode a picture with its profile and XMP (see `mtdeblur.media.containers` for other metadata).

    Args:
        samples: (H, W, C) uint8, uint16 or float32, C from 1 to 4.
        container: one of `CONTAINERS` but GIF.
        blobs: any of "icc", "xmp" and, for AVIF alone, "exif".
        coding: quality, chroma, bits and lossless coding where the format has them.

    Returns:
        the file; that of samples in a file is mapped from a temporary file.

    Raises:
        UserError: the reason without a file name, if libvips fails, such as for too large a picture.
    """
    pyvips = _import_pyvips()
    options = _options(samples, container, coding)
    if options.get("bitdepth", 8) > 8:
        samples = to_bits(samples, options["bitdepth"])
    save = f"{_OPERATIONS.get(container, container)}save"
    try:
        image = _image(samples)
        for key, blob in blobs.items():
            image.set_type(pyvips.GValue.blob_type, _FIELDS[key], blob)
        options["keep"] = "icc|xmp|exif" if "exif" in blobs else "icc|xmp"
        if not spool.in_file(samples):
            return getattr(image, f"{save}_buffer")(**options)
        if container == "jpeg":
            options["optimize_coding"] = False  # it would keep all coefficients in memory, 14 bytes a pixel
        image.set_progress(True)

        def release(*_: Any) -> None:
            spool.release(samples)

        image.signal_connect("eval", release)
        with spool.temporary_file() as file:
            target = pyvips.Target.new_to_descriptor(file.fileno())
            getattr(image, f"{save}_target")(target, **options)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except pyvips.Error as error:
        if container == "png" and "icc" in blobs:  # libpng refuses to write a malformed profile
            return encode(samples, container, {key: blobs[key] for key in blobs if key != "icc"}, coding)
        raise UserError(_reason(error) or str(error.message)) from error


def _image(samples: NDArray[Any]) -> Any:
    coloured = samples.shape[2] > 2
    names = {"uint8": ("b-w", "srgb"), "uint16": ("grey16", "rgb16"), "float32": ("b-w", "scrgb")}
    interpretation = names[samples.dtype.name][coloured]
    image = _import_pyvips().Image.new_from_array(
        np.ascontiguousarray(samples), interpretation=interpretation
    )
    return image.copy()


def _options(samples: NDArray[Any], container: str, coding: Coding) -> dict[str, Any]:
    options = dict(_OPTIONS[container])
    same = coding.container == container
    if container == "tiff":
        options["bigtiff"] = samples.nbytes > _BIGTIFF_FROM
        if samples.dtype == np.float32:
            options["predictor"] = "none"  # many programs cannot read the one for floats
    elif container == "jpeg":
        options["Q"] = coding.quality or options["Q"]
        options["subsample_mode"] = "on" if same and coding.subsampled else "off"
    elif container == "webp" and same and coding.lossless:
        options = {"lossless": True, "exact": True, "effort": 2}
    elif container == "avif":
        options["bitdepth"] = avif_bits(coding) if samples.dtype == np.uint16 else 8
    return options


def avif_bits(coding: Coding) -> int:
    """Bits of a sample of AVIF files from 16-bit samples: 12 if the source has 12, otherwise 10."""
    return 12 if coding.bits == 12 else 10


def smallest_jpeg(quality: int) -> bytes:
    """A JPEG file of 8 x 8 pixels."""
    image = _import_pyvips().Image.black(8, 8, bands=3).copy(interpretation="srgb")
    return image.jpegsave_buffer(Q=quality, subsample_mode="off", keep="none")


def luminances(icc: bytes, grey: bool) -> NDArray[np.float64] | None:
    """Luminance of the 65,536 neutral colours of 16 bits by a profile; None if the profile cannot be used.

    Args:
        icc: the profile.
        grey: whether it is of one channel.
    """
    pyvips = _import_pyvips()
    ramp = np.arange(65536, dtype=np.uint16)[None, :, None].repeat(1 if grey else 3, axis=2)
    try:
        image = _image(ramp)
        image.set_type(pyvips.GValue.blob_type, _FIELDS["icc"], icc)
        imported = image.icc_import(pcs="xyz", intent="relative", embedded=True)
        return imported.numpy().reshape(65536, 3)[:, 1].astype(np.float64)
    except pyvips.Error:
        return None


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
    lines = str(getattr(error, "detail", None) or "").strip().splitlines()
    return next((line for line in lines if not line.startswith("VipsIcc")), "")


def _blobs(image: Any) -> dict[str, bytes]:
    # not by get_fields(), which fails where a keyword of PNG text is Latin-1
    return {key: bytes(image.get(field)) for key, field in _FIELDS.items() if image.get_typeof(field)}


def _to_rgb(image: Any) -> Any:
    """Convert CMYK (by its own profile, or a generic one) and Lab to sRGB; grey and RGB are unchanged."""
    if image.interpretation == "cmyk":
        options = {"embedded": True, "input_profile": "cmyk", "intent": "relative"}
        return image.icc_transform("srgb", depth=16 if image.format == "ushort" else 8, **options)
    if image.interpretation in _LAB:
        return image.colourspace("rgb16" if image.format in ("ushort", "short") else "srgb")
    return image
