# pyright: reportUnknownMemberType=false
"""Videos in: every frame by its number, upright, at its own depth, one after the other.

Frames are counted from 0 in the order in which they are shown, whatever their spacing in time: a number means
the same frame wherever reading starts.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError, one_line, require
from mtdeblur.files.atomic import check_regular, plain_name, reason

if TYPE_CHECKING:
    import av.container
    import av.video.frame
    import av.video.stream

SUFFIXES = frozenset(
    (
        ".3gp",
        ".avi",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".webm",
        ".wmv",
    )
)
"""Suffixes by which videos in a folder are recognised; a video given by name may have any suffix."""
_REORDERED = 16  # a frame is decoded at most so many frames before or after its turn to be shown

Pixels = NDArray[Any]


class VideoFile(Protocol):
    """A local file, or one that fsspec opens."""

    def open(self, mode: str) -> IO[bytes]:
        """Open for reading, with the means to seek."""
        ...


@dataclass(frozen=True)
class VideoFrame:
    """A decoded frame, or the place of one that cannot be decoded.

    Attributes:
        index: its number, from 0.
        time: when it is shown, in seconds, or None if the file does not say.
        read: gives its pixels, (H, W, 3) RGB, full range, upright: uint8, or uint16 if the video has more
            than 8 bits; raises UserError if the frame is damaged. A frame that is passed over is decoded but
            not converted.
        damaged: it cannot be decoded, or is made from such a frame.
    """

    index: int
    time: float | None
    read: Callable[[], Pixels]
    damaged: bool = False


def video_frames(video: Path | VideoFile, start: int = 0) -> Iterator[VideoFrame]:
    """The frames of a video's first video stream, one at a time: a long video is never held in memory.

    Starting later gives the same frames: the file is entered at a key frame before `start` where its
    timestamps tell for certain which frame is which, and read from its beginning where they do not. A damaged
    frame keeps its number, and so do all after it; those up to the next key frame count as damaged too.

    Args:
        video: the file.
        start: number of the first frame to give; behind the last frame there is nothing.

    Raises:
        UserError: naming the file and the reason, if PyAV is not installed or the file is no video, or breaks
            off.
    """
    with _refusals(video):
        from av.error import FFmpegError

        number = start
        with suppress(FFmpegError):  # what is no video at all is refused when it is opened again
            for place in _places(video, start):
                yield _frame(video, number, place)
                number += 1
            return
        for place in islice(_repaired(video), number, None):
            yield _frame(video, number, place)
            number += 1


class _Place(NamedTuple):
    """Where a frame is shown: the frame, None if it is lost, and the time; whether it is damaged."""

    frame: "av.video.frame.VideoFrame | None"
    time: float | None
    damaged: bool = False


def _places(video: Path | VideoFile, start: int) -> "Iterator[_Place]":
    """The frames from `start`, as long as all can be decoded."""
    for begin in (_begin_near, _begin_at_first) if start else (_begin_at_first,):
        with _open(video) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            places = begin(container, stream, start)
            if places is not None:
                yield from places
                return


def _begin_at_first(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", start: int
) -> "Iterator[_Place]":
    return islice(_judged(container.decode(stream)), start, None)


def _begin_near(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", start: int
) -> "Iterator[_Place] | None":
    """The frames from `start`, found by its timestamp; None if the timestamps do not tell."""
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(set(times)) < len(packets) or start >= len(times):
        return None
    container.seek(times[max(0, start - _REORDERED)], stream=stream)
    places = _judged(container.decode(stream))
    for place in places:
        shown = place.frame and place.frame.pts
        if shown == times[start]:
            return chain([place], places)
        if shown is None or shown > times[start]:
            break
    return None


def _judged(frames: "Iterable[av.video.frame.VideoFrame | _Place]") -> "Iterator[_Place]":
    """Mark the damaged frames, and what is decoded from them: all up to the next key frame."""
    damaged = False
    for frame in frames:
        if isinstance(frame, _Place):
            damaged = True
            yield frame
            continue
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        yield _Place(frame, frame.time, damaged)


def _repaired(video: Path | VideoFile) -> "Iterator[_Place]":
    """All frames of a video of which some cannot be decoded, with a place for each that is lost."""
    with _open(video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # so that an error is that of the packet at hand
        yield from _judged(_decoded(container, stream))


def _decoded(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> "Iterator[av.video.frame.VideoFrame | _Place]":
    """Decode packet by packet; a lost frame comes in the order in which it would be shown."""
    from av.error import FFmpegError

    lost: list[int] = []  # timestamps
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except FFmpegError:
            frames = []
            if packet.pts is None:
                yield _Place(None, None, damaged=True)
            else:
                heappush(lost, packet.pts)
        for frame in frames:
            while lost and frame.pts is not None and lost[0] < frame.pts:
                yield _lost(heappop(lost), stream)
            yield frame
    while lost:
        yield _lost(heappop(lost), stream)


def _lost(timestamp: int, stream: "av.video.stream.VideoStream") -> _Place:
    time = None if stream.time_base is None else float(timestamp * stream.time_base)
    return _Place(None, time, damaged=True)


def _frame(video: Path | VideoFile, number: int, place: _Place) -> VideoFrame:
    frame = place.frame
    if frame is None or place.damaged:

        def refuse() -> Pixels:
            raise UserError(f"cannot read frame {number} of the video {video}: it is damaged")

        return VideoFrame(number, place.time, refuse, damaged=True)
    return VideoFrame(number, place.time, lambda: _pixels(frame))


def _pixels(frame: "av.video.frame.VideoFrame") -> Pixels:
    deep = frame.format.components[0].bits > 8
    pixels = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    # `rotation` is in degrees against the clock, as is that of rot90.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


@contextmanager
def _open(video: Path | VideoFile) -> "Generator[av.container.InputContainer]":
    import av  # large, and needed for videos alone

    check_regular(video)
    if isinstance(video, Path) and plain_name(str(video)) == str(video):
        with av.open(str(video), "r") as container:
            yield container
    else:  # PyAV takes no name that is not UTF-8
        with video.open("rb") as stream, av.open(stream, "r") as container:
            yield container


@contextmanager
def _refusals(video: Path | VideoFile) -> Generator[None]:
    require("av", "data", f"reading the video {video}")
    from av.error import FFmpegError

    try:
        yield
    except IndexError as error:
        raise UserError(f"cannot read the video {video}: it has no pictures") from error
    except (FFmpegError, OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) and error.strerror else one_line(error)
        raise UserError(f"cannot read the video {video}: {why}") from error
