"""Frame interpolation: high-speed video from ordinary video.

To multiply the frame rate by N, N - 1 frames are interpolated between two captured frames, evenly spaced
in time. Indices then count all frames from 0: frame i is captured if N divides i, and is frame i / N of
the clip. Mid-frames of exposures are captured frames, so no sharp picture is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from mtdeblur.data.disk.frames import Clip, Frame, FrameWindow
from mtdeblur.errors import UserError

Pixels = NDArray[Any]
TIMES = (2, 4, 8)
"""Supported factors of the frame rate."""
MAX_MOTION, MAX_DISAGREEMENT = 64.0, 3.0  # pixels; see docs/experiments/interpolation.md


class FrameMotion(NamedTuple):
    """An interpolator's estimate of the motion between two frames.

    Attributes:
        pixels: length of the motion in pixels.
        disagreement: length in pixels of the sum of two flows, from the middle to the frame before and
            to the frame after; 0 for uniform motion.
    """

    pixels: float
    disagreement: float


class Interpolator(Protocol):
    """A frame interpolator. It must be picklable, because it is called in worker processes.

    Consecutive exposures share interpolated frames if their interpolators are equal, such as frozen
    dataclasses.
    """

    @property
    def name(self) -> str:
        """Name for the manifest; interpolators with different results need different names."""
        ...

    def between(self, before: Pixels, after: Pixels, time: float) -> Pixels:
        """Interpolate one frame; the result depends on the arguments alone.

        Args:
            before: (H, W, 3) RGB, uint8 or uint16.
            after: the next frame, of the same shape and dtype.
            time: in (0, 1); 0 is the time of `before`, 1 that of `after`.

        Returns:
            A frame of the same shape and dtype.
        """
        ...

    def motion(self, before: Pixels, after: Pixels) -> FrameMotion:
        """Estimate the motion between two frames, as `between` takes them."""
        ...


@dataclass(frozen=True)
class Interpolation:
    """Settings of frame interpolation.

    Attributes:
        interpolator: the interpolator.
        times: factor of the frame rate: 2, 4 or 8.
        max_motion: largest `FrameMotion.pixels` to interpolate over.
        max_disagreement: largest `FrameMotion.disagreement` to interpolate over.

    Raises:
        UserError: if `times` is another number, or a limit is not positive.
    """

    interpolator: Interpolator
    times: int
    max_motion: float = MAX_MOTION
    max_disagreement: float = MAX_DISAGREEMENT

    def __post_init__(self) -> None:
        if self.times not in TIMES:
            raise UserError(f"frames are interpolated 2, 4 or 8 times, not {self.times} times")
        if not (self.max_motion > 0 and self.max_disagreement > 0):
            raise UserError("the largest motion to interpolate must be more than 0 pixels")

    def refusal(self, motion: FrameMotion) -> str:
        """The reason not to interpolate over a motion, or an empty string."""
        if not motion.pixels <= self.max_motion:
            return f"it moves by {motion.pixels:.0f} pixels, too wide to interpolate"
        if not motion.disagreement <= self.max_disagreement:
            return f"its motion is uncertain by {motion.disagreement:.1f} pixels, too much to interpolate"
        return ""

    def describe(self) -> dict[str, Any]:
        """All settings that change the result, as JSON types."""
        return {
            "times": self.times,
            "by": self.interpolator.name,
            "max_motion": self.max_motion,
            "max_disagreement": self.max_disagreement,
        }


@dataclass(frozen=True)
class Gap:
    """Two consecutive captured frames.

    Attributes:
        clip: the clip.
        index: of the later frame.
    """

    clip: Clip
    index: int

    @property
    def key(self) -> tuple[str, int]:
        """Unique key."""
        return self.clip.name, self.index


class Measured(NamedTuple):
    """The measurement of a gap.

    Attributes:
        key: of the gap.
        number: of the later frame (`Frame.number`).
        motion: between the two frames.
    """

    key: tuple[str, int]
    number: int
    motion: FrameMotion


def measure_gap(gap: Gap, interpolator: Interpolator) -> Measured:
    """Measure the motion between the two frames of a gap.

    Raises:
        UserError: if a frame cannot be read, or the two differ in size or depth.
    """
    before, after = frame_window(gap.clip).run(gap.index - 1, 2)
    return Measured(gap.key, after.since, interpolator.motion(before.pixels, after.pixels))


def _check_alike(clip: Clip, frames: Sequence[tuple[Frame, Pixels]]) -> None:
    if len({(pixels.shape, pixels.dtype) for _, pixels in frames}) > 1:
        raise UserError(f"the frames of {clip.source} change their size or depth within an exposure")


def interpolated_run(captured: range, times: int) -> range:
    """A run of captured frames as a run of all frames, from its first to its last captured frame."""
    return range(captured.start * times, (captured.stop - 1) * times + 1)


class DenseFrame(NamedTuple):
    """A frame, captured or interpolated.

    Attributes:
        since: number of the captured frame at its time or before (`Frame.number`).
        until: number of the captured frame at its time or after.
        pixels: (H, W, 3) RGB, uint8 or uint16.
    """

    since: int
    until: int
    pixels: Pixels


class DenseWindow:
    """Reads runs of a clip's captured and interpolated frames.

    Runs that advance and overlap decode and interpolate each frame once.

    Args:
        clip: the clip.
        interpolation: None for the captured frames alone.
    """

    def __init__(self, clip: Clip, interpolation: Interpolation | None = None) -> None:
        self._clip, self._interpolation = clip, interpolation
        self._times = interpolation.times if interpolation else 1
        self._captured = FrameWindow(clip)
        self._made: dict[int, Pixels] = {}

    def run(self, first: int, count: int) -> list[DenseFrame]:
        """`count` frames from index `first` on; captured and interpolated frames count.

        Raises:
            UserError: if the clip has no such frames, they cannot be read, or their size changes.
        """
        places = [divmod(index, self._times) for index in range(first, first + count)]
        begin, end = places[0][0], places[-1][0] + bool(places[-1][1])
        captured = self._captured.run(begin, end - begin + 1)
        _check_alike(self._clip, captured)
        held, self._made = self._made, {}
        frames: list[DenseFrame] = []
        for index, (place, part) in zip(range(first, first + count), places, strict=True):
            before, pixels = captured[place - begin]
            after = before
            if part and self._interpolation:
                after, following = captured[place - begin + 1]
                make = self._interpolation.interpolator.between
                known = held.get(index)
                pixels = make(pixels, following, part / self._times) if known is None else known
                self._made[index] = pixels
            frames.append(DenseFrame(before.number, after.number, pixels))
        return frames


@lru_cache(maxsize=1)
def frame_window(clip: Clip, interpolation: Interpolation | None = None) -> DenseWindow:
    """A clip's window, shared by its consecutive exposures, or gaps, in a process."""
    return DenseWindow(clip, interpolation)
