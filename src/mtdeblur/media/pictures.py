"""Reading and writing of photographs with their metadata.

Reading does not convert colours, depth or orientation, except that CMYK and Lab pictures become sRGB. Writing
loses what the format does not support:

- JPEG and WebP have 8 bits: 16-bit samples are rounded.
- JPEG has no alpha: the picture is blended with white.
- PNG has no malformed colour profiles.
- WebP has no grey: three equal channels are written, without a grey colour profile.
- IPTC is kept only from JPEG to JPEG and from TIFF to TIFF; EXIF of more than 65,527 bytes does not fit in
  JPEG.
- Only the first of several pages or frames is read (`Picture.pages` counts them); gain maps are left out.

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
        grey: whether the file has one colour channel, as will a file written from this picture.
        icc: colour profile, or None.
        exif: EXIF block, beginning with its byte order mark, or None; holds the orientation.
        xmp: XMP packet, or None.
        iptc: IPTC block in the form of the file's format, or None.
        resolution: horizontal and vertical pixels per millimetre, or None.
        pages: number of pictures in the file, of which this is the first.
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
            ValueError: with the shape or dtype.
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
        """The same photograph with other pixels, without its outdated EXIF thumbnail.

        Args:
            pixels: shape and dtype of `self.pixels`; those of a grey picture are averaged over the channels.

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
        """The picture turned and mirrored according to its orientation tag, with the tag set to 1."""
        turn = self.orientation
        return replace(
            self,
            pixels=_turn(self.pixels, turn),
            alpha=None if self.alpha is None else _turn(self.alpha, turn),
            exif=exif_blocks.upright(self.exif),
            resolution=self.resolution[::-1] if self.resolution and turn > 4 else self.resolution,
        )


def read_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture file from its header; None if it cannot be read."""
    try:
        check_regular(path)
    except OSError:
        return None
    return libvips.size(path)


def read_picture(path: Path) -> Picture:
    """Read a JPEG, PNG, TIFF or WebP file; the format is detected from the content.

    Args:
        path: the file.

    Raises:
        UserError: if it cannot be read, is empty, damaged, truncated or of another format.
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
    """The upright pixels of a picture file: (H, W, 3) RGB, uint8 or uint16.

    Raises:
        UserError: as `read_picture` does.
    """
    return read_picture(path).upright().pixels


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture atomically in the format of the path's suffix, with the losses listed above.

    Args:
        path: with one of `SUFFIXES`, in any case.
        picture: the picture.

    Raises:
        UserError: if the suffix is unknown, the picture is too large for the format, or the file cannot be
            written.
    """
    container = container_of(path)
    height, width = picture.pixels.shape[:2]
    longest = _LONGEST_SIDE.get(container)
    if longest and max(height, width) > longest:
        raise UserError(
            f"cannot write {path}: {container.upper()} allows at most {longest} pixels a side, "
            f"and this picture is {width} x {height}"
        )
    try:
        encoded = encode_picture(picture, container)
    except UserError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    write_atomically(path, encoded)


def container_of(path: Path) -> str:
    """The format of a path's suffix: "jpeg", "png", "tiff" or "webp".

    Raises:
        UserError: if the suffix is unknown.
    """
    container = SUFFIXES.get(path.suffix.lower())
    if container is None:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(SUFFIXES)}")
    return container


def list_pictures(folder: Path, *, recursive: bool = True) -> list[Path]:
    """The pictures in a folder by suffix, sorted, without hidden files and folders.

    Args:
        folder: the folder.
        recursive: whether to search sub-folders; links are not followed.

    Raises:
        UserError: if it is not a folder, cannot be listed, or contains no pictures.
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
        raise UserError(f"{folder} contains no pictures ({', '.join(SUFFIXES)})")
    return sorted(found)


def decode_picture(encoded: bytes) -> Picture:
    """Decode a whole JPEG, PNG, TIFF or WebP file.

    Raises:
        UserError: the reason without a file name, if it is empty, damaged, truncated or of another format.
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
    """Encode a picture as `write_picture` does; the bytes depend on the arguments alone.

    Args:
        picture: the picture.
        container: "jpeg", "png", "tiff" or "webp".

    Raises:
        UserError: the reason without a file name, if libvips fails.
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
    elif picture.icc and container == "png":  # PNG allows no padding after the profile's own length
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
    """Round full-range 16-bit samples of any shape to 8 bits; 8-bit samples are unchanged."""
    if samples.dtype == np.uint8:
        return samples
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    """8-bit pixels blended with white by their alpha, in the picture's own encoding."""
    cover = alpha[..., None].astype(np.uint32)
    return ((pixels * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8)


def _turn(samples: Pixels, orientation: int) -> Pixels:
    """Turn (H, W) or (H, W, C) samples upright by their EXIF orientation."""
    if orientation > 4:
        samples = samples.swapaxes(0, 1)
    # The first stored row is the visual bottom (3, 4) or right (6, 7); the first column the right (2, 3) or
    # bottom.
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
