"""Sources of high-speed frames: folders of frames, roots of such folders (GOPRO_Large_all), and videos.

A source is a local path or any fsspec address (`s3://bucket/GOPRO_Large_all`, `zip://*::frames.zip`).
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Protocol, Self

from mtdeblur.data.disk.decode import Entry, Pixels, decode
from mtdeblur.errors import UserError
from mtdeblur.files.atomic import distinct_names, read_whole, reason
from mtdeblur.files.places import is_local, place_of
from mtdeblur.media import formats, pictures, video

_MORE_SUFFIXES = (".jp2", ".tga")  # which Pillow reads
SUFFIXES = frozenset((*formats.SUFFIXES, *_MORE_SUFFIXES))
"""Suffixes of frame files, in lower case."""


class Place(Entry, Protocol):
    """A file or folder, on disk or at an fsspec address."""

    @property
    def stem(self) -> str:
        """Its name without folders and suffix."""
        ...

    @property
    def suffix(self) -> str:
        """Its suffix, with the dot."""
        ...

    @property
    def parent(self) -> Self:
        """The folder that contains it."""
        ...

    def exists(self) -> bool:
        """Whether it exists."""
        ...

    def iterdir(self) -> Iterable[Self]:
        """The folder's files and sub-folders."""
        ...

    def open(self, mode: str) -> IO[bytes]:
        """Open for reading."""
        ...


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of one camera: a folder of pictures, or a video.

    Attributes:
        name: name of the folder, or of the video without its suffix.
        source: path or address.
        video: whether it is a video.
        parent: name of the containing folder, such as `train` or `test`.
    """

    name: str
    source: str
    video: bool
    parent: str = ""


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        index: its position in the clip, from 0.
        number: the number at the end of its file's stem if these increase throughout the clip, otherwise its
            index.
        time: timestamp in seconds, of a video's frame that has one.
        read: returns its pixels, (H, W, 3) RGB, uint8 or uint16, upright; raises UserError on failure.
        damaged: whether it is known, before it is read, that it cannot be decoded.
    """

    index: int
    number: int
    time: float | None
    read: Callable[[], Pixels]
    damaged: bool = False


def find_clips(sources: Iterable[str | Path]) -> list[Clip]:
    """Find the clips in files and folders, in order: each video, and each folder that contains frames.

    Duplicate names are prefixed with parent folders, see `mtdeblur.files.atomic.distinct_names`.

    Raises:
        UserError: if a source does not exist or contains no frames, or a folder contains blurred and sharp
            pairs instead of a camera's frames.
    """
    found: dict[str, Clip] = {}
    for source in sources:
        place = place_of(source)
        try:
            clips = list(_walk(place)) if place.is_dir() else [clip_at(place)]
        except OSError as error:
            raise UserError(f"cannot list {source}: {reason(error)}") from error
        if not clips:
            raise UserError(f"{source} contains neither frames ({', '.join(sorted(SUFFIXES))}) nor videos")
        for clip in clips:
            if clip.name in ("blur", "blur_gamma"):
                raise UserError(
                    f"{clip.source} contains pictures that are already blurred; give the frames of the "
                    "high-speed camera (for GoPro: GOPRO_Large_all)"
                )
            local = place_of(clip.source)
            found.setdefault(str(local.resolve()) if is_local(local) else clip.source, clip)
    clips = list(found.values())
    names = distinct_names([place_of(clip.source) for clip in clips], [clip.name for clip in clips])
    return [replace(clip, name=name) for clip, name in zip(clips, names, strict=True)]


def clip_at(place: Place) -> Clip:
    """The clip of one folder of frames or one video.

    Raises:
        UserError: if it does not exist.
    """
    if not place.exists():
        raise UserError(f"there is no file or folder {place}")
    folder = place.is_dir()
    return Clip(place.name if folder else place.stem, str(place), not folder, place.parent.name)


def clip_frames(clip: Clip, start: int = 0) -> Iterator[Frame]:
    """The frames of a clip, in order; a picture is opened only when its frame is read.

    Args:
        clip: the clip.
        start: index of the first frame.

    Raises:
        UserError: if the clip cannot be read.
    """
    place = place_of(clip.source)
    if clip.video:
        for frame in video.video_frames(place, start):
            yield Frame(frame.index, frame.index, frame.time, frame.read, frame.damaged)
        return
    files = _frame_files(place)
    for index, number in list(enumerate(_numbers(files)))[start:]:
        yield Frame(index, number, None, partial(read_frame, files[index]))


class FrameWindow:
    """A sliding window over a clip's frames; overlapping windows decode each frame once."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._held: deque[tuple[Frame, Pixels]] = deque()
        self._next = 0
        self._frames: Iterator[Frame] = iter(())

    def run(self, first: int, count: int) -> list[tuple[Frame, Pixels]]:
        """`count` frames and their pixels, starting at index `first`.

        Raises:
            UserError: if the clip is too short, or a frame cannot be read.
        """
        if not (self._held and self._held[0][0].index <= first <= self._next):
            self._held.clear()
            self._frames = clip_frames(self._clip, first)
        while self._held and self._held[0][0].index < first:
            self._held.popleft()
        while len(self._held) < count:
            frame = next(self._frames, None)
            if frame is None:
                raise UserError(
                    f"the clip {self._clip.source} has fewer than {count} frames from frame {first}"
                )
            self._next = frame.index + 1
            self._held.append((frame, frame.read()))
        return [self._held[index] for index in range(count)]


def read_frame(place: Entry) -> Pixels:
    """Read a picture upright at its own bit depth.

    Returns:
        (H, W, 3) RGB, uint8 or uint16.

    Raises:
        UserError: if it cannot be read.
    """
    if Path(place.name).suffix.lower() in _MORE_SUFFIXES:
        return decode(place)
    try:
        return pictures.decode_picture(read_whole(place)).upright().pixels
    except (OSError, UserError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise UserError(f"cannot read the picture {place}: {why}") from error


def natural_order(entry: Entry) -> list[tuple[int, str]]:
    """Sort key by name, with numbers compared by value: frame 2 before frame 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", entry.name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts]


def _walk(folder: Place) -> Iterator[Clip]:
    """The clips in a folder and its sub-folders."""
    visible = [place for place in folder.iterdir() if not place.name.startswith(".")]
    if any(place.suffix.lower() in SUFFIXES for place in visible):
        yield Clip(folder.name, str(folder), False, folder.parent.name)
    for place in sorted(visible, key=natural_order):
        if place.suffix.lower() in video.SUFFIXES:
            yield clip_at(place)
        elif place.is_dir():
            yield from _walk(place)


def _frame_files(folder: Place) -> list[Place]:
    """The frames in a folder, in order.

    Raises:
        UserError: if it cannot be listed or holds none.
    """
    try:
        files = [
            place
            for place in folder.iterdir()
            if place.suffix.lower() in SUFFIXES and not place.name.startswith(".")
        ]
    except OSError as error:
        raise UserError(f"cannot list {folder}: {reason(error)}") from error
    if not files:
        raise UserError(f"{folder} contains no pictures ({', '.join(sorted(SUFFIXES))})")
    return sorted(files, key=natural_order)


def _numbers(files: list[Place]) -> list[int]:
    matches = [re.search(r"[0-9]+$", file.stem) for file in files]
    numbers = [int(match[0]) for match in matches if match]
    if len(numbers) == len(files) and all(a < b for a, b in pairwise(numbers)):
        return numbers
    return list(range(len(files)))
