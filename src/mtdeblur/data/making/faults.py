"""Detection of faults in a clip: scene cuts, lost and repeated frames. No exposure may span them.

There are three signs, none of which needs training or tuning to a camera:

- Numbers and times. The numbers in the file names, or a video's timestamps, increase by more than 1.5 times
  their median step: frames were lost.
- Motion: the mean absolute difference between the thumbnails of two consecutive frames (about 45 blocks on
  the short side, green channel, mean brightness subtracted, in levels of 8 bits). At a high frame rate it is
  roughly proportional to the displacement and changes slowly. It is compared with the median of its three
  neighbours on each side. More than 5 times the median plus 5 levels: a scene cut. More than 1.75 times: a
  frame was lost (which doubles the motion) or the camera was knocked. Less than a quarter: a repeated frame.
  Where the median is below half a level, neither losses nor repeats can be detected, and they do no harm.
- Pictures that cannot be read, or whose size or depth differs from the frame before.

Single lost frames in jerky motion can remain undetected if numbers and times do not show them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.data.disk.frames import Clip, Frame, clip_frames
from mtdeblur.errors import UserError
from mtdeblur.media.pictures import Picture, encode_picture

_CUT, _LOST, _REPEATED = 5.0, 1.75, 0.25  # times the neighbours' motion
_CUT_LEVELS, _STILL = 5.0, 0.5  # levels of 8 bits
_NEIGHBOURS = 3  # on each side
_JUMP = 1.5  # times the median step of numbers or times
_BLOCKS = 45  # of a thumbnail, on its short side

Thumbnail = NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """An interruption of a clip before one of its frames.

    Attributes:
        index: of that frame; no exposure may contain both it and the frame before.
        number: of that frame (`Frame.number`).
        reason: in words.
    """

    index: int
    number: int
    reason: str


@dataclass(frozen=True)
class Scan:
    """The result of scanning a clip.

    Attributes:
        clip: the clip.
        frames: number of frames.
        faults: sorted by index.
        picture_bytes: size of a frame as a PNG file.
    """

    clip: Clip
    frames: int
    faults: tuple[Fault, ...]
    picture_bytes: int

    def runs(self) -> list[range]:
        """The runs of frames between the faults."""
        edges = sorted({0, *(fault.index for fault in self.faults), self.frames})
        return [range(first, end) for first, end in pairwise(edges)]


def scan_clip(clip: Clip, faults: bool = True) -> Scan:
    """Count a clip's frames and find its faults.

    Args:
        clip: the clip.
        faults: search for all faults, which decodes every frame; otherwise only damaged frames of videos are
            found.

    Raises:
        UserError: if the clip, or every one of its frames, cannot be read.
    """
    size = _measure(clip)
    if not faults:
        damaged: list[Fault] = []
        frames, before = 0, False
        for frame in clip_frames(clip):
            frames += 1
            if frame.damaged or before:
                why = "the frame is damaged" if frame.damaged else "the frame before is damaged"
                damaged.append(Fault(frame.index, frame.number, why))
            before = frame.damaged
        return Scan(clip, frames, tuple(damaged), size)
    frames, found = find_faults(clip_frames(clip))
    return Scan(clip, frames, tuple(found), size)


def find_faults(frames: Iterable[Frame]) -> tuple[int, list[Fault]]:
    """Count a clip's frames, and find its faults by the signs described above.

    Args:
        frames: all frames of a clip, in order; read one at a time.

    Returns:
        Number of frames, and faults sorted by index.
    """
    numbers: list[int] = []
    times: list[float | None] = []
    motion: list[float] = [np.nan]  # between each frame and the one before; NaN if unknown
    broken: dict[int, str] = {}
    last: Thumbnail | None = None
    kind: tuple[Any, ...] | None = None
    for frame in frames:
        numbers.append(frame.number)
        times.append(frame.time)
        try:
            pixels = frame.read()
        except UserError as error:
            broken |= {frame.index: str(error), frame.index + 1: "the frame before cannot be read"}
            thumbnail = None
        else:
            if kind not in (None, (pixels.shape, pixels.dtype)):
                broken[frame.index], last = "the frames change their size or depth", None
            kind, thumbnail = (pixels.shape, pixels.dtype), _thumbnail(pixels)
        if frame.index:
            motion.append(np.nan if last is None or thumbnail is None else _difference(last, thumbnail))
        last = thumbnail
    reasons = dict(_judge_motion(motion)) | dict(_judge_spacing(numbers, times)) | broken
    return len(numbers), [
        Fault(index, numbers[index], reasons[index]) for index in sorted(reasons) if index < len(numbers)
    ]


def _measure(clip: Clip) -> int:
    """Size of the first readable frame as a PNG file."""
    why = f"the clip {clip.source} has no frames"
    for frame in clip_frames(clip):
        try:
            return len(encode_picture(Picture(frame.read()), "png"))
        except UserError as error:
            why = str(error)
    raise UserError(why)


def _thumbnail(pixels: NDArray[Any]) -> Thumbnail:
    """Means of square blocks of the green channel, in levels of 8 bits, minus their overall mean."""
    height, width = pixels.shape[:2]
    side = max(1, min(height, width) // _BLOCKS)
    rows, columns = height // side, width // side
    green = pixels[: rows * side, : columns * side, 1].reshape(rows, side, columns, side)
    blocks = green.mean((1, 3), dtype=np.float32) * np.float32(255 / np.iinfo(pixels.dtype).max)
    return blocks - blocks.mean()


def _difference(one: Thumbnail, other: Thumbnail) -> float:
    return float(np.abs(one - other).mean())


def _judge_motion(motion: list[float]) -> Iterator[tuple[int, str]]:
    for index, here in enumerate(motion):
        around = [
            *motion[max(0, index - _NEIGHBOURS) : index],
            *motion[index + 1 : index + 1 + _NEIGHBOURS],
        ]
        known = [value for value in around if not np.isnan(value)]
        if np.isnan(here) or not known:
            continue
        usual = median(known)
        if here > _CUT * usual + _CUT_LEVELS:
            yield index, "a scene cut"
        elif here > _LOST * max(usual, _STILL):
            yield (
                index,
                f"frames are lost before it: it moves {here / max(usual, _STILL):.1f} times as far as usual",
            )
        elif usual > _STILL and here < _REPEATED * usual:
            yield index, "it repeats the frame before"


def _judge_spacing(numbers: list[int], times: list[float | None]) -> Iterator[tuple[int, str]]:
    if len(numbers) < 3:
        return
    usual = median(b - a for a, b in pairwise(numbers))
    for index, (a, b) in enumerate(pairwise(numbers), 1):
        if b - a > _JUMP * usual:
            yield index, f"frames are lost before it: numbers jump from {a} to {b}"
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return
    usual = median(b - a for a, b in pairwise(known))
    for index, (a, b) in enumerate(pairwise(known), 1):
        # Some files round times to whole milliseconds.
        if b - a > _JUMP * usual + 0.001:
            yield index, f"frames are lost before it: {1000 * (b - a):.1f} ms instead of {1000 * usual:.1f}"
