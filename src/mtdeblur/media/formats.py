"""Picture formats: suffixes, recognition by content, limits."""

import os
from collections.abc import Mapping
from pathlib import Path

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason

SUFFIXES: Mapping[str, str] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".apng": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
    ".avif": "avif",
    ".heic": "heic",
    ".heif": "heic",
    ".jxl": "jxl",
    ".gif": "gif",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".pnm": "pnm",
    ".ppm": "pnm",
    ".pgm": "pnm",
    ".pbm": "pnm",
}
"""Suffixes of pictures that can be read, and their formats."""
WRITABLE = frozenset(suffix for suffix, container in SUFFIXES.items() if container not in ("heic", "gif"))
"""Suffixes of pictures that can be written."""
NAMES = {"jxl": "JPEG XL", "webp": "WebP", "heic": "HEIC"}
LONGEST_SIDE = {"jpeg": 65_535, "webp": 16_383, "avif": 65_536}
DEEP = frozenset(("png", "tiff", "avif", "pnm"))
"""Formats with more than 8 bits a sample."""
TRANSPARENT = frozenset(("png", "tiff", "webp", "avif", "jxl"))
TURNED_BY_EXIF = frozenset(("jpeg", "png", "tiff", "webp"))
"""Formats of which readers turn the picture by its EXIF orientation; others store it upright."""
GREY = frozenset(("jpeg", "png", "tiff", "jxl", "pnm", "avif"))

LIMIT = "MTDEBLUR_MAX_PIXELS"
"""Environment variable of the most pixels."""
_MOST_PIXELS = 500_000_000
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")
HEAD = 64
"""Bytes from the start of a file that `sniff` needs."""


def name_of(container: str) -> str:
    """A format as people write it."""
    return NAMES.get(container, container.upper())


def sniff(head: bytes) -> str:
    """The format of a file from its first bytes.

    Raises:
        UserError: if it is empty or of another format.
    """
    if not head:
        raise UserError("the file is empty")
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(_TIFF_MARKS):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "jxl"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), head[3] or 64), 4))]
        if b"avif" in brands or b"avis" in brands:
            return "avif"
        if any(brand in _HEIC_BRANDS for brand in brands):
            return "heic"
    if head.startswith(b"BM"):
        return "bmp"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in (b" ", b"\t", b"\n", b"\r", b"#"):
        return "pnm"
    known = ", ".join(dict.fromkeys(name_of(container) for container in SUFFIXES.values()))
    raise UserError(f"its content is not a picture of a known format ({known})")


def container_of(path: Path) -> str:
    """The format in which a picture of that name is written.

    Raises:
        UserError: if the suffix is unknown, or of a format that is only read.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise UserError(f"cannot write {path}: its name must end in {', '.join(sorted(WRITABLE))}")
    return SUFFIXES[suffix]


def most_pixels() -> int:
    """The number of pixels above which pictures and frames are refused.

    Raises:
        UserError: if the environment variable MTDEBLUR_MAX_PIXELS is no number.
    """
    given = os.environ.get(LIMIT, "")
    if given and not (given.isascii() and given.isdigit()):
        raise UserError(f"the environment variable {LIMIT} must be a number of pixels, not {given!r}")
    return int(given or _MOST_PIXELS)


def check_size(width: int, height: int) -> None:
    """Refuse a picture whose samples may not fit into memory, before it is decoded.

    Raises:
        UserError: if it has no pixels, or more than the limit: 500 million, or the environment variable
            MTDEBLUR_MAX_PIXELS.
    """
    limit = most_pixels()
    if width < 1 or height < 1:
        raise UserError(f"it has no pixels: {width} x {height}")
    if width * height > limit:
        raise UserError(
            f"it has {width} x {height} pixels, more than the limit of {limit}; to read it all the same, set "
            f"the environment variable {LIMIT} to {width * height}"
        )


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
