"""Interpolated frames between those of a camera, which make a high-speed video of an ordinary one.

Where the frame rate is multiplied by N, N - 1 frames are interpolated between two captured ones, evenly
spaced in time. All frames are then counted anew, from 0: frame i was captured if N divides i, and is frame
i / N of the clip. Mid-frames of exposures are captured frames, so no sharp picture is an interpolated one.
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
"""What the frame rate can be multiplied by."""
MAX_MOTION, MAX_DISAGREEMENT = 64.0, 3.0  # pixels; see docs/experiments/interpolation.md


class FrameMotion(NamedTuple):
    """How far things move from one captured frame to the next, as an interpolator sees it.

    Attributes:
        pixels: by how far, in pixels.
        disagreement: how far two estimates of it are apart, in pixels: from the middle to the frame before,
            and from the middle to the frame after. They are opposite where things move evenly.
    """

    pixels: float
    disagreement: float


class Interpolator(Protocol):
    """Interpolates frames. It is called in worker processes, so it must be something that pickle takes.

    Two that compare equal share what they have made in a process: best is a frozen dataclass.
    """

    @property
    def name(self) -> str:
        """What tells it from others that give other frames."""
        ...

    def between(self, before: Pixels, after: Pixels, time: float) -> Pixels:
        """The frame at a time in (0, 1) between two frames; the same input always gives the same frame.

        Args:
            before: (H, W, 3) RGB, uint8 or uint16.
            after: the next frame, of the same shape and dtype.
            time: 0 would be `before`, and 1 `after`.

        Returns:
            A frame of the same shape and dtype.
        """
        ...

    def motion(self, before: Pixels, after: Pixels) -> FrameMotion:
        """How far things move from one frame to the next."""
        ...


@dataclass(frozen=True)
class Interpolation:
    """How frames are interpolated.

    Attributes:
        interpolator: makes the frames.
        times: what the frame rate is multiplied by: 2, 4 or 8.
        max_motion: no exposure spans two captured frames between which things move farther, in pixels.
        max_disagreement: nor such between which the estimates of motion disagree by more, in pixels.

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
        """Why nothing is interpolated over such a motion; empty if it is."""
        if not motion.pixels <= self.max_motion:
            return f"it moves by {motion.pixels:.0f} pixels, too wide to interpolate"
        if not motion.disagreement <= self.max_disagreement:
            return f"its motion is uncertain by {motion.disagreement:.1f} pixels, too much to interpolate"
        return ""

    def describe(self) -> dict[str, Any]:
        """All that decides what it gives, of JSON's types."""
        return {
            "times": self.times,
            "by": self.interpolator.name,
            "max_motion": self.max_motion,
            "max_disagreement": self.max_disagreement,
        }


@dataclass(frozen=True)
class Gap:
    """Two captured frames that follow each other.

    Attributes:
        clip: where they are.
        index: of the later one.
    """

    clip: Clip
    index: int

    @property
    def key(self) -> tuple[str, int]:
        """What no other gap of the clips is called."""
        return self.clip.name, self.index


class Measured(NamedTuple):
    """What is known of a gap.

    Attributes:
        key: the gap's.
        number: of its later frame.
        motion: between its frames.
    """

    key: tuple[str, int]
    number: int
    motion: FrameMotion


def measure_gap(gap: Gap, interpolator: Interpolator) -> Measured:
    """How far things move over a gap.

    Raises:
        UserError: if a frame cannot be read, or the two differ in size or depth.
    """
    frames = _captured_of(gap.clip).run(gap.index - 1, 2)
    _check_alike(gap.clip, frames)
    (_, before), (frame, after) = frames
    return Measured(gap.key, frame.number, interpolator.motion(before, after))


@lru_cache(maxsize=1)
def _captured_of(clip: Clip) -> FrameWindow:
    """Gaps of one clip that follow each other in a process share what is decoded."""
    return FrameWindow(clip)


def _check_alike(clip: Clip, frames: Sequence[tuple[Frame, Pixels]]) -> None:
    if len({(pixels.shape, pixels.dtype) for _, pixels in frames}) > 1:
        raise UserError(f"the frames of {clip.source} change their size or depth within an exposure")


def interpolated_run(captured: range, times: int) -> range:
    """The frames from the first to the last of a run of captured frames, counted anew."""
    return range(captured.start * times, (captured.stop - 1) * times + 1)


class DenseFrame(NamedTuple):
    """A frame, captured or interpolated.

    Attributes:
        since: number of the captured frame that it is, or that comes before it.
        until: number of the captured frame that it is, or that comes after it.
        pixels: (H, W, 3) RGB, uint8 or uint16.
    """

    since: int
    until: int
    pixels: Pixels


class DenseWindow:
    """Runs of a clip's frames with interpolated ones; runs that advance and overlap make each frame once.

    Args:
        clip: the clip.
        interpolation: how; None: there are the captured frames alone.
    """

    def __init__(self, clip: Clip, interpolation: Interpolation | None = None) -> None:
        self._clip, self._interpolation = clip, interpolation
        self._times = interpolation.times if interpolation else 1
        self._captured = FrameWindow(clip)
        self._made: dict[int, Pixels] = {}

    def run(self, first: int, count: int) -> list[DenseFrame]:
        """`count` frames from number `first` on, counted anew.

        Raises:
            UserError: if the clip has no such frames, or they cannot be read, or differ in size or depth.
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
