"""The training pack: one archive with everything that training and validation read.

A pack is a ZIP of JPEG pictures at the size that training needs, in folders that say what they are::

    train/photos/NAME.jpg            sharp photographs, for simulated exposures
    train/clips/CLIP/NUMBER.jpg      consecutive frames of a high-speed camera
    valid/photos/NAME.jpg            photographs held out
    valid/pairs/{blur,sharp}/NAME    real pairs held out

A folder of the same layout serves as well as the archive.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mtdeblur.errors import UserError
from mtdeblur.exposure.simulate import FRAMES

Pixels = NDArray[np.uint8]
HOLD_OUT = 10
"""Every tenth photograph by sorted name is never trained on."""
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


class Pack:
    """A pack opened for reading: pictures by the folder they stand in.

    Args:
        path: the archive, or a folder of the same layout.

    Raises:
        UserError: if it is neither, or holds no photographs and no clips to train on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            root = path if path.is_dir() else zipfile.Path(zipfile.ZipFile(path))
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is not a training pack ({error}); make one with 'mtdeblur pack'"
            ) from error
        self.photos = _pictures(root / "train" / "photos")
        clips = root / "train" / "clips"
        self.clips = [_pictures(clip) for clip in _children(clips)]
        self.valid_photos = _pictures(root / "valid" / "photos")
        blur, sharp = (_pictures(root / "valid" / "pairs" / side) for side in ("blur", "sharp"))
        if [_stem(entry) for entry in blur] != [_stem(entry) for entry in sharp]:
            raise UserError(f"{path}: the names in valid/pairs/blur and valid/pairs/sharp differ")
        self.valid_pairs = list(zip(blur, sharp, strict=True))
        if not self.photos and not self.clips:
            raise UserError(f"{path} holds nothing in train/photos or train/clips; make a pack with 'mtdeblur pack'")


class Entry(Protocol):
    """What both a file on disk and one in an archive can do."""

    @property
    def name(self) -> str:
        """Its name without folders."""
        ...

    def read_bytes(self) -> bytes:
        """What it holds."""
        ...

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        ...


def decode(entry: Entry) -> Pixels:
    """Read one picture.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UserError: if it cannot be read, naming it.
    """
    try:
        with Image.open(io.BytesIO(entry.read_bytes())) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot read the picture {entry}: {error}") from error


def _children(folder: Path | zipfile.Path) -> Sequence[Path | zipfile.Path]:
    return sorted(folder.iterdir(), key=lambda entry: entry.name) if folder.is_dir() else []


def _pictures(folder: Path | zipfile.Path) -> list[Path | zipfile.Path]:
    return [entry for entry in _children(folder) if Path(entry.name).suffix.lower() in PICTURES]


def _stem(entry: Entry) -> str:
    return Path(entry.name).stem


def build_pack(
    output: Path,
    *,
    photos: Iterable[Path] = (),
    clips: Iterable[Path] = (),
    pairs: Path | None = None,
    long_side: int = 900,
    quality: int = 92,
    limit: int | None = None,
    runs: int = 8,
) -> None:
    """Build a pack; written under a temporary name first, so an interrupted build leaves nothing behind.

    Args:
        output: the archive.
        photos: folders of sharp photographs, or single pictures; every tenth of a folder by sorted name is
            held out.
        clips: folders of consecutive high-speed frames, or videos.
        pairs: a folder with `blur/` and `sharp/`, held out for validation.
        long_side: longer photographs are made smaller to this many pixels; clips and pairs keep their size.
        quality: JPEG quality of what is re-encoded, 1 to 100.
        limit: size of the archive in bytes; the quality is lowered in steps of 4, to 60, until it fits.
        runs: how many runs of 13 frames are kept of a clip, spread evenly over it.

    Raises:
        UserError: if nothing is found, a picture cannot be read, or the limit cannot be met.
    """
    pictures = list(_name_photos(photos)) + list(_name_pairs(pairs))
    clips = list(clips)
    if not pictures and not clips:
        raise UserError("a training pack needs photographs or high-speed clips")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".part")
    try:
        for tried in range(quality, min(quality, 60) - 1, -4):
            with zipfile.ZipFile(temporary, "w") as archive:  # JPEG does not compress further
                for name, file in pictures:
                    side = long_side if "photos" in name else None
                    archive.writestr(name, _encode(decode(file), side, tried))
                for clip in clips:
                    for name, frame in _name_runs(clip, runs):
                        archive.writestr(name, _encode(frame, None, tried))
            if limit is None or temporary.stat().st_size <= limit:
                temporary.replace(output)
                return
        raise UserError(f"the pack does not fit in {limit} bytes; give fewer pictures or a smaller long side")
    finally:
        temporary.unlink(missing_ok=True)


def _name_photos(places: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Each photograph's name in the pack."""
    for number, place in enumerate(places):
        if place.is_dir():
            files = [file for file in place.rglob("*") if file.suffix.lower() in PICTURES]
        elif place.is_file():
            files = [place]
        else:
            raise UserError(f"there is no photograph or folder {place}")
        for index, file in enumerate(sorted(files)):
            part = "valid" if index % HOLD_OUT == HOLD_OUT - 1 else "train"
            yield f"{part}/photos/{number:03d}-{index:05d}-{file.stem}.jpg", file


def _name_pairs(pairs: Path | None) -> Iterator[tuple[str, Path]]:
    """Each validation picture's name in the pack."""
    for side in ("blur", "sharp") if pairs is not None else ():
        files = [file for file in _children(pairs / side) if Path(file.name).suffix.lower() in PICTURES]
        if not files:
            raise UserError(f"{pairs} has no pictures in {side}/; a folder of pairs has blur/ and sharp/")
        for file in files:
            yield f"valid/pairs/{side}/{_stem(file)}.jpg", file


def _name_runs(clip: Path, runs: int) -> Iterator[tuple[str, Pixels]]:
    """Runs of 13 consecutive frames, spread evenly over the clip, each run with its own name."""
    frames = list(_frames(clip))
    starts = sorted({round(start) for start in np.linspace(0, len(frames) - FRAMES, runs)})
    if len(frames) < FRAMES:
        raise UserError(f"the clip {clip} has {len(frames)} frames; an exposure needs {FRAMES}")
    for start in starts:
        for number in range(start, start + FRAMES):
            yield f"train/clips/{clip.stem}-{start:06d}/{number:06d}.jpg", frames[number]


def _frames(clip: Path) -> Iterator[Pixels]:
    """All frames of a folder or a video, in order."""
    if clip.is_dir():
        yield from (decode(entry) for entry in _pictures(clip))
        return
    try:
        import av  # a video is read only here, and PyAV is large

        with av.open(str(clip)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except ImportError:
        raise UserError(f"reading the video {clip} needs PyAV: pip install av") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the video {clip}: {error}") from error


def _encode(pixels: Pixels, long_side: int | None, quality: int) -> bytes:
    image = Image.fromarray(pixels)
    if long_side is not None and max(image.size) > long_side:
        image.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
