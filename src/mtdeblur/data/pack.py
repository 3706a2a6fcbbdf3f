"""The training pack: one archive with everything that training and validation read.

A pack is a ZIP of JPEG pictures at the size that training needs, in folders that say what they are::

    train/photos/NAME.jpg            sharp photographs, for simulated exposures
    train/clips/CLIP/NUMBER.jpg      13 or more consecutive frames of a high-speed camera
    valid/photos/NAME.jpg            photographs held out
    valid/pairs/{blur,sharp}/NAME    real pairs held out

A folder of the same layout serves as well as the archive, with pictures of any format that Pillow reads.
"""

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtdeblur.data.sources import Entry, clip_at, clip_frames, decode, natural_order
from mtdeblur.errors import UserError
from mtdeblur.exposure.simulate import FRAMES
from mtdeblur.media.files import atomic_path, reason
from mtdeblur.media.pictures import SUFFIXES, list_pictures, to_8_bits

Pixels = NDArray[np.uint8]
HOLD_OUT = 10
"""Every tenth photograph by sorted name is never trained on."""
_LOWEST_QUALITY = 60


class Pack:
    """A pack opened for reading: pictures by the folder they stand in, each list sorted by name.

    Args:
        path: the archive, or a folder of the same layout.

    Attributes:
        photos: sharp photographs to train on.
        clips: runs of consecutive frames to train on, at least 13 each.
        valid_photos: photographs held out.
        valid_pairs: (blurred, sharp) held out.

    Raises:
        UserError: if it is neither, holds no photographs and no clips to train on, or is not whole: a clip is
            too short, or a held-out picture has no partner.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            root = path if path.is_dir() else zipfile.Path(zipfile.ZipFile(path))
        except (OSError, zipfile.BadZipFile) as error:
            why = reason(error) if isinstance(error, OSError) else error
            raise UserError(f"{path} is no training pack ({why}); make one with 'mtdeblur pack'") from error
        self.photos: Sequence[Entry] = _pictures(root / "train" / "photos")
        self.clips: Sequence[Sequence[Entry]] = [
            _pictures(clip) for clip in _children(root / "train" / "clips") if clip.is_dir()
        ]
        self.valid_photos: Sequence[Entry] = _pictures(root / "valid" / "photos")
        blurred, sharp = (_pictures(root / "valid" / "pairs" / side) for side in ("blur", "sharp"))
        self.valid_pairs: Sequence[tuple[Entry, Entry]] = list(zip(blurred, sharp, strict=False))
        if not self.photos and not self.clips:
            raise UserError(
                f"{path} holds nothing in train/photos or train/clips; make a pack with 'mtdeblur pack'"
            )
        for frames in self.clips:
            if len(frames) < FRAMES:
                raise UserError(f"{path}: a clip has {len(frames)} frames; an exposure needs {FRAMES}")
        if [_stem(entry) for entry in blurred] != [_stem(entry) for entry in sharp]:
            raise UserError(f"{path}: the names in valid/pairs/blur and valid/pairs/sharp differ")


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
    """Build a pack; the file appears when it is whole. The same sources give the same bytes.

    Args:
        output: the archive.
        photos: folders of sharp photographs (their sub-folders too), and single pictures, which count as one
            more folder; every tenth of a folder by sorted name is held out.
        clips: folders of consecutive high-speed frames, or videos.
        pairs: a folder with `blur/` and `sharp/`, held out for validation.
        long_side: longer photographs are made smaller to this many pixels; clips and pairs keep their size.
        quality: JPEG quality of what is re-encoded, 1 to 100.
        limit: size of the archive in bytes; the quality is lowered in steps of 4, to 60, until it fits.
        runs: a clip of more than this many times 13 frames is cut to so many runs of 13, spread evenly.

    Raises:
        UserError: if nothing is found, something cannot be read or written, or the limit cannot be met.
    """
    clips = list(clips)
    pictures = [*_name_photos(photos, long_side), *_name_pairs(pairs)]
    if not clips and not any(name.startswith("train/") for name, _, _ in pictures):
        raise UserError("a training pack needs photographs or high-speed clips to train on")
    with atomic_path(output) as temporary:
        for tried in range(quality, min(quality, _LOWEST_QUALITY) - 1, -4):
            with zipfile.ZipFile(temporary, "w") as archive:  # stored: JPEG does not compress further
                for name, file, side in pictures:
                    archive.writestr(zipfile.ZipInfo(name), _encode(decode(file), side, tried))
                for number, clip in enumerate(clips):
                    for name, frame in _name_frames(clip, number, runs):
                        archive.writestr(zipfile.ZipInfo(name), _encode(frame, None, tried))
            if limit is None or temporary.stat().st_size <= limit:
                return
        raise UserError(f"the pack does not fit in {limit} bytes; give fewer pictures or a smaller long side")


def _name_photos(places: Iterable[Path], long_side: int) -> Iterator[tuple[str, Path, int | None]]:
    """Each photograph's name in the pack, file and longest side; a file found twice counts once."""
    places = list(places)
    folders = [list_pictures(place) for place in places if not place.is_file()]
    seen: set[Path] = set()
    for number, files in enumerate([*folders, sorted(place for place in places if place.is_file())]):
        new = {file.resolve(): file for file in files if file.resolve() not in seen}
        seen.update(new)
        for index, file in enumerate(new.values()):
            part = "valid" if index % HOLD_OUT == HOLD_OUT - 1 else "train"
            yield f"{part}/photos/{number:03d}-{index:05d}-{_plain(file.stem)}.jpg", file, long_side


def _name_pairs(pairs: Path | None) -> Iterator[tuple[str, Path, int | None]]:
    """Each validation picture's name in the pack and file; they keep their size."""
    if pairs is None:
        return
    sides = {side: list_pictures(pairs / side, recursive=False) for side in ("blur", "sharp")}
    if [file.stem for file in sides["blur"]] != [file.stem for file in sides["sharp"]]:
        raise UserError(f"{pairs}: the names in blur/ and sharp/ differ")
    for side, files in sides.items():
        for index, file in enumerate(files):
            yield f"valid/pairs/{side}/{index:05d}-{_plain(file.stem)}.jpg", file, None


def _name_frames(clip: Path, number: int, runs: int) -> Iterator[tuple[str, Pixels]]:
    """The frames of a clip that are kept, with their names: each run is a clip of its own in the pack."""
    source = clip_at(clip)
    total = sum(1 for _ in clip_frames(source))
    if total < FRAMES:
        raise UserError(f"the clip {clip} has {total} frames; an exposure needs {FRAMES}")
    if total <= runs * FRAMES:
        starts, length = [0], total
    else:
        starts, length = np.linspace(0, total - FRAMES, runs).astype(int).tolist(), FRAMES
    run_of = {index: start for start in starts for index in range(start, start + length)}
    for frame in clip_frames(source):
        if frame.index in run_of:
            folder = f"{number:03d}-{_plain(clip.stem)}-{run_of[frame.index]:06d}"
            yield f"train/clips/{folder}/{frame.index:06d}.jpg", to_8_bits(frame.read())


def _encode(pixels: Pixels, long_side: int | None, quality: int) -> bytes:
    image = Image.fromarray(pixels)
    if long_side is not None and max(image.size) > long_side:
        image.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _children(folder: Path | zipfile.Path) -> list[Path | zipfile.Path]:
    if not folder.is_dir():
        return []
    visible = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(visible, key=natural_order)


def _pictures(folder: Path | zipfile.Path) -> list[Path | zipfile.Path]:
    return [entry for entry in _children(folder) if Path(entry.name).suffix.lower() in SUFFIXES]


def _stem(entry: Entry) -> str:
    return Path(entry.name).stem


def _plain(name: str) -> str:
    """A name that every archive and system takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
