"""Photographs in and out: samples as the file stores them, and everything else that has to survive.

Reading never converts colours, depth or orientation, with two exceptions: CMYK and Lab pictures become sRGB.
What a format cannot hold is given up when writing:

- JPEG and WebP hold 8 bits: 16-bit samples are rounded.
- JPEG holds no alpha: the picture is laid over white.
- PNG holds no malformed colour profile.
- WebP holds no grey: three equal channels are written; a grey colour profile is left out then.
- IPTC stays where the file remains JPEG, or remains TIFF; EXIF of more than 65,527 bytes does not fit into
  JPEG.
- Of several pages or frames only the first is read (`Picture.pages` counts them); gain maps are left out.

JPEG is written at quality 95 without chroma subsampling, WebP at quality 95 (its chroma is always
subsampled), PNG and TIFF without loss.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import check_regular, read_whole, reason, write_atomically
from mtdeblur.media import exif as exif_blocks
from mtdeblur.media import libvips
from mtdeblur.media.containers import embed_exif, jfif

SUFFIXES: Mapping[str, str] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
}
_LONGEST_SIDE = {"jpeg": 65_535, "webp": 16_383}
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """A decoded photograph.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16, full range, in the file's own RGB encoding and stored orientation;
            the three channels of a grey picture are equal.
        alpha: (H, W) of the same dtype, or None.
        grey: the file has one colour channel, and a file written from this picture will.
        icc: colour profile, or None.
        exif: EXIF block, beginning with its byte order mark, or None; holds the orientation.
        xmp: XMP packet, or None.
        iptc: IPTC block in the form of the file's format, or None.
        resolution: pixels a millimetre across and down, or None.
        pages: how many pictures the file has; this is the first.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    xmp: bytes | None = field(default=None, repr=False)
    iptc: bytes | None = field(default=None, repr=False)
    resolution: tuple[float, float] | None = None
    pages: int = 1

    def __post_init__(self) -> None:
        """Refuse arrays of another shape or dtype.

        Raises:
            ValueError: naming what was found.
        """
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"pixels must be (H, W, 3) and not empty, not {pixels.shape}")
        if pixels.dtype.name not in ("uint8", "uint16"):
            raise ValueError(f"pixels must be uint8 or uint16, not {pixels.dtype}")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise ValueError(
                f"alpha must be {pixels.shape[:2]} {pixels.dtype}, not {alpha.shape} {alpha.dtype}"
            )

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 (stored upright) to 8."""
        return exif_blocks.orientation(self.exif)

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """The same photograph with other pixels; its EXIF thumbnail, which shows the old ones, is dropped.

        Args:
            pixels: shape and dtype of `self.pixels`; a grey picture becomes grey again by the channels' mean.

        Raises:
            ValueError: if shape or dtype differ.
        """
        if pixels.shape != self.pixels.shape or pixels.dtype != self.pixels.dtype:
            raise ValueError(
                f"pixels must be {self.pixels.shape} {self.pixels.dtype}, not {pixels.shape} {pixels.dtype}"
            )
        if self.grey:
            mean = (pixels.sum(axis=2, keepdims=True, dtype=np.uint32) * 2 + 3) // 6  # rounded
            pixels = np.repeat(mean.astype(pixels.dtype), 3, axis=2)
        return replace(self, pixels=pixels, exif=exif_blocks.without_thumbnail(self.exif))

    def upright(self) -> "Picture":
        """The picture turned and mirrored as its orientation tag says, and the tag set to 1."""
        turn = self.orientation
        return replace(
            self,
            pixels=_turn(self.pixels, turn),
            alpha=None if self.alpha is None else _turn(self.alpha, turn),
            exif=exif_blocks.upright(self.exif),
            resolution=self.resolution[::-1] if self.resolution and turn > 4 else self.resolution,
        )


def read_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture file, from its beginning alone; None if it cannot be read."""
    try:
        check_regular(path)
    except OSError:
        return None
    return libvips.size(path)


def read_picture(path: Path) -> Picture:
    """Read a JPEG, PNG, TIFF or WebP file; the format is told by the content, not by the name.

    Args:
        path: the file.

    Raises:
        UserError: naming the file and the reason, if it cannot be read, is empty, of another kind, damaged or
            cut short.
    """
    try:
        encoded = read_whole(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    try:
        return decode_picture(encoded)
    except UserError as error:
        raise UserError(f"cannot read {path}: {error}") from error


def read_pixels(path: Path) -> Pixels:
    """The pixels of a picture file as it is looked at, upright: (H, W, 3) RGB, uint8 or uint16.

    Raises:
        UserError: as `read_picture` does.
    """
    return read_picture(path).upright().pixels


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture atomically in the format of the path's suffix; what each keeps stands above.

    Args:
        path: ends in one of `SUFFIXES`, in any case.
        picture: what to write.

    Raises:
        UserError: naming the file and the reason, if the suffix is unknown, the picture is too large for the
            format, or the file cannot be written.
    """
    container = container_of(path)
    height, width = picture.pixels.shape[:2]
    longest = _LONGEST_SIDE.get(container)
    if longest and max(height, width) > longest:
        raise UserError(
            f"cannot write {path}: {container.upper()} holds no side longer than {longest} pixels, "
            f"and this picture is {width} x {height}"
        )
    try:
        encoded = encode_picture(picture, container)
    except UserError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    write_atomically(path, encoded)


def container_of(path: Path) -> str:
    """The format that a path's suffix stands for: "jpeg", "png", "tiff" or "webp".

    Raises:
        UserError: if it stands for none.
    """
    container = SUFFIXES.get(path.suffix.lower())
    if container is None:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(SUFFIXES)}")
    return container


def list_pictures(folder: Path, *, recursive: bool = True) -> list[Path]:
    """The pictures in a folder, told by their suffixes and sorted; hidden files and folders are left out.

    Args:
        folder: where to look.
        recursive: look in its sub-folders too; linked ones are not followed.

    Raises:
        UserError: if it is no folder, cannot be listed, or has no pictures.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot list {error.filename}: {reason(error)}") from error

    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [
            Path(root, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    if not found:
        raise UserError(f"{folder} has no pictures in it ({', '.join(SUFFIXES)})")
    return sorted(found)


def decode_picture(encoded: bytes) -> Picture:
    """Decode a whole JPEG, PNG, TIFF or WebP file.

    Raises:
        UserError: with the reason alone, if it is empty, of another kind, damaged or cut short.
    """
    container = _sniff(encoded)
    samples, blobs, resolution, pages = libvips.decode(encoded, container)
    grey = samples.shape[2] < 3
    exif = blobs.get("exif")
    if exif is not None:
        exif = exif.removeprefix(b"Exif\0\0")
    elif container == "tiff":
        exif = exif_blocks.from_tiff(encoded)
    return Picture(
        pixels=np.repeat(samples[..., :1], 3, axis=2) if grey else np.ascontiguousarray(samples[..., :3]),
        alpha=np.ascontiguousarray(samples[..., -1]) if samples.shape[2] in (2, 4) else None,
        grey=grey,
        icc=blobs.get("icc"),
        exif=exif,
        xmp=blobs.get("xmp"),
        iptc=blobs.get("iptc"),
        resolution=resolution,
        pages=pages,
    )


def _sniff(encoded: bytes) -> str:
    """The format of a file from its first bytes."""
    if not encoded:
        raise UserError("the file is empty")
    if encoded.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if encoded.startswith(_TIFF_MARKS):
        return "tiff"
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "webp"
    raise UserError("its content is not a JPEG, PNG, TIFF or WebP picture")


def encode_picture(picture: Picture, container: str) -> bytes:
    """The file that `write_picture` writes; the same picture always gives the same bytes.

    Args:
        picture: what to encode.
        container: "jpeg", "png", "tiff" or "webp".

    Raises:
        UserError: with the reason alone, if libvips refuses.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if container in ("jpeg", "webp"):
        pixels, alpha = to_8_bits(pixels), None if alpha is None else to_8_bits(alpha)
    if container == "jpeg" and alpha is not None:
        pixels, alpha = _over_white(pixels, alpha), None
    grey = picture.grey and container != "webp"
    channels = [pixels[..., :1] if grey else pixels]
    if alpha is not None:
        channels.append(alpha[..., None])
    blobs = {"icc": picture.icc, "xmp": picture.xmp, "iptc": picture.iptc}
    if picture.iptc and picture.iptc.startswith(b"Photoshop 3.0") != (container == "jpeg"):
        blobs["iptc"] = None
    if picture.icc and picture.icc[16:20] == b"GRAY" and not grey:
        blobs["icc"] = None
    elif picture.icc and container == "png":  # which wants no padding behind the profile's own length
        blobs["icc"] = picture.icc[: int.from_bytes(picture.icc[:4])]
    encoded = libvips.encode(
        np.concatenate(channels, axis=2),
        container,
        {name: blob for name, blob in blobs.items() if blob},
        picture.resolution,
        picture.orientation,
    )
    if container == "jpeg":
        encoded = jfif(encoded, picture.resolution)
    return embed_exif(container, encoded, picture.exif) if picture.exif else encoded


def to_8_bits(samples: Pixels) -> NDArray[np.uint8]:
    """Full-range 16-bit samples of any shape rounded to 8 bits; 8-bit ones as they are."""
    if samples.dtype == np.uint8:
        return samples
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    """8-bit pixels blended with white by their alpha, in the picture's own encoding."""
    cover = alpha[..., None].astype(np.uint32)
    return ((pixels * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8)


def _turn(samples: Pixels, orientation: int) -> Pixels:
    """Carry out an EXIF orientation on (H, W) or (H, W, C) samples."""
    if orientation > 4:
        samples = samples.swapaxes(0, 1)
    # The first stored row is the visual bottom (3, 4) or right (6, 7); the first column the right (2, 3) or
    # bottom.
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
