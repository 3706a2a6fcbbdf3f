"""What interrupts a clip: scene cuts, lost and repeated frames. No exposure may span them.

Three signs are read, none of which needs training or tuning to a camera:

- Names and times. The numbers in the file names, or a video's timestamps, jump by more than 1.5 times their
  usual step: frames were lost.
- Motion. Between two consecutive frames it is the mean absolute difference of their thumbnails (about 45
  blocks on the short side, green channel, mean brightness taken off, in levels of 8 bits). At a high frame
  rate it is about proportional to how far things move and changes slowly; it is compared with the median of
  its three neighbours on each side. More than 5 times that, and by 5 levels: a scene cut. More than 1.75
  times: a frame was lost (which doubles the motion) or the camera was knocked. Less than a quarter: the frame
  repeats the one before. Where the neighbours move by less than half a level, nothing can be said, and
  nothing is lost by it.
- The picture itself: it has another size or depth, or cannot be read.

Of single lost frames that neither name nor time betrays, those in jerky motion can pass unnoticed.
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

_CUT, _LOST, _REPEATED = 5.0, 1.75, 0.25  # times the motion around
_CUT_LEVELS, _STILL = 5.0, 0.5  # levels of 8 bits
_NEIGHBOURS = 3  # on each side
_JUMP = 1.5  # times the usual step of numbers or times
_BLOCKS = 45  # of a thumbnail, on its short side

Thumbnail = NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """What interrupts a clip before one of its frames.

    Attributes:
        index: no exposure may hold both this frame and the one before.
        number: what the frame is called.
        reason: in words.
    """

    index: int
    number: int
    reason: str


@dataclass(frozen=True)
class Scan:
    """What one look through a clip tells.

    Attributes:
        clip: which one.
        frames: how many there are.
        faults: where the clip is interrupted, by index.
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
    """Look through a clip once.

    Args:
        clip: the clip.
        faults: look for faults, which decodes every frame of a folder; without, frames are only counted, and
            those of a video that are damaged are found.

    Raises:
        UserError: if the clip, or every frame of it, cannot be read.
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
    """Count a clip's frames, and find what interrupts it; the signs are described above.

    Args:
        frames: all frames of a clip in order; one is held at a time.

    Returns:
        The number of frames, and the faults by index.
    """
    numbers: list[int] = []
    times: list[float | None] = []
    motion: list[float] = [np.nan]  # of each frame since the one before; NaN where that means nothing
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
    """The size of the first frame that can be read, as a PNG file."""
    why = f"the clip {clip.source} has no frames"
    for frame in clip_frames(clip):
        try:
            return len(encode_picture(Picture(frame.read()), "png"))
        except UserError as error:
            why = str(error)
    raise UserError(why)


def _thumbnail(pixels: NDArray[Any]) -> Thumbnail:
    """The means of square blocks of the green channel, in levels of 8 bits, without their own mean."""
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
