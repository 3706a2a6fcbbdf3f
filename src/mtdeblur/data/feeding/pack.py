"""The training pack: one archive with all pictures for training and validation.

A pack is a ZIP archive of JPEG pictures at the size that training needs::

    train/photos/NAME.jpg            sharp photographs, for simulated exposures
    train/clips/CLIP/NUMBER.jpg      13 or more consecutive frames of a high-speed camera
    train/pairs/{blur,sharp}/NAME    real pairs
    valid/photos/NAME.jpg            photographs held out
    valid/pairs/{blur,sharp}/NAME    real pairs held out

A folder of the same layout can be used instead of the archive, with pictures of any format of Pillow.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtdeblur.data.disk.decode import Entry, decode
from mtdeblur.data.disk.frames import clip_at, clip_frames, natural_order
from mtdeblur.data.disk.leftovers import summary, warn
from mtdeblur.data.disk.splits import HOLD_OUT
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.errors import UserError, one_line
from mtdeblur.exposure.simulate import FRAMES
from mtdeblur.files.archives import DAMAGED
from mtdeblur.files.atomic import atomic_path, reason
from mtdeblur.media.formats import SUFFIXES, list_pictures
from mtdeblur.media.samples import to_8_bits

Pixels = NDArray[np.uint8]
AnyEntry = TypeVar("AnyEntry", bound=Entry)
_Group = tuple[tuple[str, Path], ...]
"""Name in the pack and file of a photograph, or of both pictures of a pair."""
_LOWEST_QUALITY = 60
_PAIR_QUALITY = 96  # of pairs that are not JPEG files; high, to preserve their fine detail


class Pack(TrainingData):
    """A pack opened for reading; each list of pictures is sorted by name.

    Args:
        path: the archive, or a folder of the same layout.

    Raises:
        UserError: if it is neither, contains nothing to train on, a clip is too short, or no picture of its
            pairs has a partner.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        try:
            if not path.is_dir():
                self._archive = zipfile.ZipFile(path)
            root = path if self._archive is None else zipfile.Path(self._archive)
        except (OSError, *DAMAGED) as error:
            why = reason(error) if isinstance(error, OSError) else one_line(error)
            raise UserError(f"{path} is no training pack ({why}); make one with 'mtdeblur pack'") from error
        self.photos = _pictures(root / "train" / "photos")
        self.clips = [_pictures(clip) for clip in _children(root / "train" / "clips") if clip.is_dir()]
        self.valid_photos = _pictures(root / "valid" / "photos")
        self.pairs = _pairs(root, "train")
        self.valid_pairs = _pairs(root, "valid")
        if not (self.photos or self.clips or self.pairs):
            raise UserError(
                f"{path} contains nothing in train/photos, train/clips or train/pairs; make a pack with "
                f"'mtdeblur pack'"
            )
        for frames in self.clips:
            if len(frames) < FRAMES:
                raise UserError(f"{path}: a clip has {len(frames)} frames; an exposure needs {FRAMES}")

    def close(self) -> None:
        """Close the archive."""
        if self._archive is not None:
            self._archive.close()


def build_pack(
    output: Path,
    *,
    photos: Iterable[Path] = (),
    clips: Iterable[Path] = (),
    pairs: Path | None = None,
    train_pairs: Path | None = None,
    long_side: int = 900,
    quality: int = 92,
    limit: int | None = None,
    runs: int = 8,
) -> None:
    """Build a pack atomically; its bytes depend on the arguments alone.

    Photographs that cannot be read, and pairs of which one picture cannot be read, are reported and left out.

    Args:
        output: the archive.
        photos: folders of sharp photographs (sub-folders included), and single pictures, which count as one
            more folder; every tenth of a folder by sorted name is held out.
        clips: folders of consecutive high-speed frames, or videos.
        pairs: a folder with `blur/` and `sharp/`, held out for validation.
        train_pairs: such a folder for training; held-out pairs in it are left out.
        long_side: maximum side of photographs in pixels; larger ones are scaled down. Clips and pairs keep
            their size.
        quality: JPEG quality of photographs and clips, 1 to 100. JPEG files of pairs are copied unchanged;
            other pairs get quality 96.
        limit: maximum size of the archive in bytes; the quality is lowered in steps of 4, to 60, to meet it.
        runs: maximum number of runs of 13 frames from a clip, spread evenly; shorter clips are kept whole.

    Raises:
        UserError: if there is nothing to train on, a clip cannot be read, the archive cannot be written, or
            the limit cannot be met.
    """
    clips = list(clips)
    photographs = list(_name_photos(photos))
    held_out = _find_pairs(pairs)
    trained = [pair for pair in _find_pairs(train_pairs) if not _same(pair, held_out)]
    named_pairs = [*_name_pairs("train", trained), *_name_pairs("valid", held_out)]
    _require_training(clips, photographs + named_pairs)
    with atomic_path(output) as temporary:
        for current in range(quality, min(quality, _LOWEST_QUALITY) - 1, -4):
            with zipfile.ZipFile(temporary, "w") as archive:  # stored: JPEG does not compress further
                encode = partial(_as_photograph, long_side=long_side, quality=current)
                photographs, unread = _write(archive, photographs, encode)
                named_pairs, unread_pairs = _write(archive, named_pairs, _as_jpeg)
                faults = unread + unread_pairs  # empty after the first quality
                _require_training(clips, photographs + named_pairs, faults)
                warn(faults)
                for number, clip in enumerate(clips):
                    for name, frame in _name_frames(clip, number, runs):
                        archive.writestr(zipfile.ZipInfo(name), _encode(frame, None, current))
            if limit is None or temporary.stat().st_size <= limit:
                return
        raise UserError(f"the pack does not fit in {limit} bytes; give fewer pictures or a smaller long side")


def _require_training(clips: Sequence[Path], groups: Iterable[_Group], faults: Sequence[str] = ()) -> None:
    """Raise UserError with the faults, if any, if there is nothing to train on."""
    if not clips and not any(name.startswith("train/") for group in groups for name, _ in group):
        needed = "a training pack needs photographs, high-speed clips or pairs to train on"
        raise UserError(summary(faults) if faults else needed)


def _write(
    archive: zipfile.ZipFile, groups: Iterable[_Group], encode: Callable[[Path], bytes]
) -> tuple[list[_Group], list[str]]:
    """Write the readable groups into the archive; return them, and a line for each of the others."""
    written: list[_Group] = []
    faults: list[str] = []
    for group in groups:
        try:
            contents = [encode(file) for _, file in group]
        except UserError as error:
            faults.append(f"{error}; {'the pair' if len(group) > 1 else 'it'} is left out")
            continue
        for (name, _), content in zip(group, contents, strict=True):
            archive.writestr(zipfile.ZipInfo(name), content)
        written.append(group)
    return written, faults


def _name_photos(places: Iterable[Path]) -> Iterator[_Group]:
    """Name in the pack and file of each photograph, without duplicate files."""
    places = list(places)
    folders = [list_pictures(place) for place in places if not place.is_file()]
    seen: set[Path] = set()
    for number, files in enumerate([*folders, sorted(place for place in places if place.is_file())]):
        new = {file.resolve(): file for file in files if file.resolve() not in seen}
        seen.update(new)
        for index, file in enumerate(new.values()):
            part = "valid" if index % HOLD_OUT == HOLD_OUT - 1 else "train"
            yield ((f"{part}/photos/{number:03d}-{index:05d}-{_plain(file.stem)}.jpg", file),)


def _find_pairs(folder: Path | None) -> list[tuple[Path, Path]]:
    """(blurred, sharp) files of a folder with `blur/` and `sharp/`."""
    if folder is None:
        return []
    blurred, sharp = (list_pictures(folder / side, recursive=False) for side in ("blur", "sharp"))
    return _matched(blurred, sharp)


def _matched(blurred: Sequence[AnyEntry], sharp: Sequence[AnyEntry]) -> list[tuple[AnyEntry, AnyEntry]]:
    """(blurred, sharp) by stem; a picture without a partner, or with several, is reported and left out.

    Raises:
        UserError: if there are pictures but no pairs.
    """
    stems = [Counter(_stem(entry) for entry in side) for side in (blurred, sharp)]
    partners = {_stem(entry): entry for entry in sharp}
    pairs = [
        (entry, partners[stem])
        for entry in blurred
        if stems[0][stem := _stem(entry)] == 1 and stems[1][stem] == 1
    ]
    paired = {_stem(entry) for entry, _ in pairs}
    faults = [
        f"{entry} has no partner of its name, or several; it is left out"
        for entry in (*blurred, *sharp)
        if _stem(entry) not in paired
    ]
    if faults and not pairs:
        raise UserError(summary(faults))
    if faults:
        warn(faults)
    return pairs


def _same(pair: tuple[Path, Path], others: Iterable[tuple[Path, Path]]) -> bool:
    """Whether a picture of the pair is in one of the others."""
    return bool({file.resolve() for file in pair} & {file.resolve() for other in others for file in other})


def _name_pairs(part: str, pairs: Iterable[tuple[Path, Path]]) -> Iterator[_Group]:
    """Name in the pack and file of both pictures of each pair."""
    for index, (blurred, sharp) in enumerate(pairs):
        name = f"{index:05d}-{_plain(blurred.stem)}.jpg"
        yield (f"{part}/pairs/blur/{name}", blurred), (f"{part}/pairs/sharp/{name}", sharp)


def _name_frames(clip: Path, number: int, runs: int) -> Iterator[tuple[str, Pixels]]:
    """Name in the pack and pixels of a clip's selected frames; each run becomes a clip of the pack."""
    source = clip_at(clip)
    damaged = [frame.damaged for frame in clip_frames(source)]
    whole = _whole_runs(damaged)
    if not whole:
        raise UserError(
            f"the clip {clip} has {len(damaged)} frames; an exposure needs {FRAMES} undamaged ones in a row"
        )
    if sum(map(len, whole)) > runs * FRAMES:
        starts = [start for run in whole for start in range(run.start, run.stop - FRAMES + 1)]
        count = min(runs, 1 + (len(starts) - 1) // FRAMES)
        picked: list[int] = np.linspace(0, len(starts) - 1, count).astype(int).tolist()
        whole = [range(starts[index], starts[index] + FRAMES) for index in picked]
    run_of = {index: run.start for run in whole for index in run}
    for frame in clip_frames(source):
        if frame.index in run_of:
            folder = f"{number:03d}-{_plain(clip.stem)}-{run_of[frame.index]:06d}"
            yield f"train/clips/{folder}/{frame.index:06d}.jpg", to_8_bits(frame.read())


def _whole_runs(damaged: Sequence[bool]) -> list[range]:
    """The runs of undamaged frames that are long enough for an exposure."""
    edges = [-1, *(index for index, bad in enumerate(damaged) if bad), len(damaged)]
    runs = [range(before + 1, after) for before, after in pairwise(edges)]
    return [run for run in runs if len(run) >= FRAMES]


def _encode(pixels: Pixels, long_side: int | None, quality: int) -> bytes:
    image = Image.fromarray(pixels)
    if long_side is not None and max(image.size) > long_side:
        image.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _as_photograph(file: Path, long_side: int, quality: int) -> bytes:
    return _encode(decode(file), long_side, quality)


def _as_jpeg(file: Path) -> bytes:
    """A JPEG file unchanged, any other picture encoded at high quality and its own size."""
    pixels, content = decode(file), file.read_bytes()  # decoding also refuses broken JPEG files
    return content if content.startswith(b"\xff\xd8\xff") else _encode(pixels, None, _PAIR_QUALITY)


def _children(folder: Path | zipfile.Path) -> list[Path | zipfile.Path]:
    if not folder.is_dir():
        return []
    visible = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(visible, key=natural_order)


def _pictures(folder: Path | zipfile.Path) -> list[Path | zipfile.Path]:
    return [entry for entry in _children(folder) if Path(entry.name).suffix.lower() in SUFFIXES]


def _pairs(root: Path | zipfile.Path, part: str) -> list[tuple[Path | zipfile.Path, Path | zipfile.Path]]:
    """(blurred, sharp) of a part of the pack.

    Raises:
        UserError: as `_matched` does.
    """
    blurred, sharp = (_pictures(root / part / "pairs" / side) for side in ("blur", "sharp"))
    return _matched(blurred, sharp)


def _stem(entry: Entry) -> str:
    return Path(entry.name).stem


def _plain(name: str) -> str:
    """A name that is valid on every system."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
