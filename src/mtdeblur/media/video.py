# pyright: reportUnknownMemberType=false
"""Reading of videos frame by frame, upright and at their own bit depth.

Frames are numbered from 0 in presentation order, regardless of their timestamps; a frame's number does not
depend on where reading starts.
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
"""Suffixes of videos in a folder; a video given by name may have any suffix."""
_REORDERED = 16  # maximum distance in frames between decoding and presentation order

Pixels = NDArray[Any]


class VideoFile(Protocol):
    """A local file, or one at an fsspec address."""

    def open(self, mode: str) -> IO[bytes]:
        """Open for reading; the stream is seekable."""
        ...


@dataclass(frozen=True)
class VideoFrame:
    """A decoded frame, or the placeholder of one that cannot be decoded.

    Attributes:
        index: its number, from 0.
        time: timestamp in seconds, or None if the file has none.
        read: converts it to pixels, (H, W, 3) RGB, full range, upright: uint8, or uint16 if the video has
            more than 8 bits; raises UserError if the frame is damaged.
        damaged: whether it cannot be decoded, or depends on such a frame.
    """

    index: int
    time: float | None
    read: Callable[[], Pixels]
    damaged: bool = False


def video_frames(video: Path | VideoFile, start: int = 0) -> Iterator[VideoFrame]:
    """The frames of a video's first video stream, decoded one at a time to save memory.

    If the timestamps identify the frames, decoding starts at a key frame before `start`, otherwise at the
    beginning of the file. Damaged frames are counted; all frames after one, up to the next key frame, are
    damaged too.

    Args:
        video: the file.
        start: number of the first frame; after the last frame, the iterator is empty.

    Raises:
        UserError: if PyAV is not installed, or the file is not a video or is truncated.
    """
    with _refusals(video):
        from av.error import FFmpegError

        number = start
        with suppress(FFmpegError):  # a file that is not a video fails again below
            for place in _places(video, start):
                yield _frame(video, number, place)
                number += 1
            return
        for place in islice(_repaired(video), number, None):
            yield _frame(video, number, place)
            number += 1


class _Place(NamedTuple):
    """A frame (None if it is lost), its time in seconds, and whether it is damaged."""

    frame: "av.video.frame.VideoFrame | None"
    time: float | None
    damaged: bool = False


def _places(video: Path | VideoFile, start: int) -> "Iterator[_Place]":
    """The frames from `start` on, up to the first decoding error."""
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
    """The frames from `start` on, found by timestamp; None if the timestamps are ambiguous."""
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
    """Mark damaged frames, and all frames after them up to the next key frame."""
    damaged = False
    for frame in frames:
        if isinstance(frame, _Place):
            damaged = True
            yield frame
            continue
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        yield _Place(frame, frame.time, damaged)


def _repaired(video: Path | VideoFile) -> "Iterator[_Place]":
    """All frames of a damaged video, with a placeholder for each lost frame."""
    with _open(video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # so that an error belongs to the current packet
        yield from _judged(_decoded(container, stream))


def _decoded(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> "Iterator[av.video.frame.VideoFrame | _Place]":
    """Decode packet by packet; lost frames have their place in presentation order."""
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
    # `rotation` is counterclockwise in degrees, as for rot90.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


@contextmanager
def _open(video: Path | VideoFile) -> "Generator[av.container.InputContainer]":
    import av  # slow to import

    check_regular(video)
    if isinstance(video, Path) and plain_name(str(video)) == str(video):
        with av.open(str(video), "r") as container:
            yield container
    else:  # PyAV accepts only UTF-8 names
        with video.open("rb") as stream, av.open(stream, "r") as container:
            yield container


@contextmanager
def _refusals(video: Path | VideoFile) -> Generator[None]:
    require("av", "data", f"reading the video {video}")
    from av.error import FFmpegError

    try:
        yield
    except IndexError as error:
        raise UserError(f"cannot read the video {video}: it has no video stream") from error
    except (FFmpegError, OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) and error.strerror else one_line(error)
        raise UserError(f"cannot read the video {video}: {why}") from error
