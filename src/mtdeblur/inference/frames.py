# pyright: reportUnknownMemberType=false
"""The deblurred frames of a video, encoded: one at a time, from any frame on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from numpy.typing import NDArray

from mtdeblur.inference.batch import Progressive
from mtdeblur.media.clip import Clip
from mtdeblur.media.encoding import Coding, open_encoder
from mtdeblur.media.segments import Encoded
from mtdeblur.media.video import Place, places
from mtdeblur.media.yuv import Converter

if TYPE_CHECKING:
    import av
    import av.video.frame

Notify = Callable[[str], None]
"""Receives a one-line notice for the user."""


class Shot(NamedTuple):
    """A frame of the result before it is deblurred.

    Attributes:
        number: of the frame, from 0.
        frame: as decoded; for a lost frame, the one before.
        pts: its timestamp, or None if the video has none.
        sound: whether it can be deblurred: it is neither damaged nor interlaced.
        lost: whether it is only a repetition.
    """

    number: int
    frame: "av.video.frame.VideoFrame"
    pts: int | None
    sound: bool
    lost: bool

    @property
    def duration(self) -> int:
        """In the clip's time base; 0 if unknown."""
        return 0 if self.lost else self.frame.duration or 0


def shots(clip: Clip, first: int, after_damage: bool) -> Iterator[Shot]:
    """The frames of a clip from number `first` on.

    A lost frame repeats the one before, or at the beginning of the clip, the first one that can be decoded.

    Args:
        clip: the video.
        first: number of the first frame.
        after_damage: whether an earlier frame is damaged. Then the video is decoded from its beginning, so
            that what a decoder makes of damaged frames does not depend on `first`.
    """
    begin = 0 if after_damage else max(0, first - 1)
    known: Place | None = None
    early: list[tuple[int, Place]] = []
    for number, place in enumerate(places(clip.path, begin), begin):
        known = known if place.frame is None else place
        early.append((number, place))
        if known is None or known.frame is None:
            continue
        for this, shown in early:
            if this >= first:
                sound = not (known.damaged or known.frame.interlaced_frame)
                yield Shot(this, known.frame, shown.pts, sound, shown.frame is None)
        early.clear()


@dataclass
class Timing:
    """Gives frames timestamps that rise strictly: their own, wherever the clip has such.

    Attributes:
        step: usual duration of a frame, in the clip's time base.
        last: the latest timestamp, or None before the first frame.
    """

    step: int
    last: int | None

    def __call__(self, pts: int | None) -> int:
        """The timestamp of the next frame."""
        if self.last is None:
            self.last = 0 if pts is None else pts
        else:
            self.last = self.last + self.step if pts is None else max(pts, self.last + 1)
        return self.last


class FrameDeblurrer:
    """Deblurs and encodes frames.

    Attributes:
        deblurrer: for the pixels.
        clip: the video.
        coding: of the result.
        container: FFmpeg's name of its format.
        done: number of frames that were encoded.
        spared: number of those that were not deblurred, because they are damaged or interlaced.
    """

    def __init__(
        self, deblurrer: Progressive, clip: Clip, coding: Coding, container: str, notify: Notify
    ) -> None:
        self.deblurrer, self.clip, self.coding, self.container = deblurrer, clip, coding, container
        self.done = self.spared = 0
        self._converter = Converter(clip, coding.pixel_format)
        self._notify, self._noticed = notify, set[str]()
        self._latest: tuple[Any, Any] = (None, None)  # a decoded frame, and what became of it

    def encode(
        self, frames: Iterable[Shot], timing: Timing, advanced: Callable[[], None]
    ) -> Iterator[Encoded]:
        """Deblur and encode the frames of one segment.

        Args:
            frames: in the order of presentation.
            timing: of the whole clip.
            advanced: is called after every frame.

        Yields:
            The encoded frames, in the order of decoding; the first is a key frame.
        """
        encoder = open_encoder(self.clip, self.coding, self.container)
        times: dict[int, tuple[int, int]] = {}

        def encoded(picture: "av.video.frame.VideoFrame | None") -> Iterator[Encoded]:
            for packet in cast("list[av.Packet[Any]]", encoder.encode(picture)):
                yield Encoded(*times.pop(packet.pts or 0), packet.is_keyframe, bytes(packet))

        for number, shot in enumerate(frames):
            picture = self._picture(shot)
            picture.pts, picture.time_base, picture.duration = number, encoder.time_base, 1
            picture.pict_type = 0  # the encoder chooses
            times[number] = timing(shot.pts), shot.duration
            yield from encoded(picture)
            self.done += 1
            advanced()
        yield from encoded(None)
        if times:
            raise RuntimeError(f"the encoder of {self.coding.codec} has lost {len(times)} frames")

    def _picture(self, shot: Shot) -> "av.video.frame.VideoFrame":
        """The frame of the result, in its pixel format."""
        if not shot.sound or shot.lost:
            self.spared += 1
            if self.spared == 1:
                self._notice(
                    f"frame {shot.number} of {self.clip.path} is damaged or interlaced; such frames are not "
                    "deblurred, and a lost frame repeats the one before"
                )
        if shot.frame is not self._latest[0]:
            picture = self._converter.frame(shot.frame)
            if shot.sound:
                estimate = self._deblurred(self._converter.pixels(picture))
                picture = self._converter.changed(picture, estimate)
            self._latest = shot.frame, picture
        return self._latest[1]

    def _deblurred(self, pixels: NDArray[Any]) -> NDArray[Any]:
        estimates = self.deblurrer.progress(pixels, _ignore, every=False, notify=self._notice)
        return deque(estimates, maxlen=1).pop()

    def _notice(self, line: str) -> None:
        """Give a notice, but not once more for every frame."""
        if line not in self._noticed:
            self._noticed.add(line)
            self._notify(line)


def _ignore(share: float) -> None:
    """Take no notice of the progress within a frame."""
