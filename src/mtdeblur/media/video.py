# pyright: reportUnknownMemberType=false
"""Videos in: every frame by its number, upright, at its own depth, one after the other.

Frames are counted from 0 in the order in which they are shown, whatever their spacing in time: a number means
the same frame wherever reading starts.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError, one_line, require
from mtdeblur.media.files import check_regular, plain_name, reason

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
"""What tells a video from other files in a folder; a file that is named may have any suffix."""
_REORDERED = 16  # a frame is decoded at most so many frames before or after its turn to be shown

Pixels = NDArray[Any]


class VideoFile(Protocol):
    """A local file, or one that fsspec opens."""

    def open(self, mode: str) -> IO[bytes]:
        """Open for reading, with the means to seek."""
        ...


@dataclass(frozen=True)
class VideoFrame:
    """A decoded frame.

    Attributes:
        index: its number, from 0.
        time: when it is shown, in seconds, or None if the file does not say.
        read: gives its pixels, (H, W, 3) RGB, full range, upright: uint8, or uint16 if the video has more
            than 8 bits. A frame that is passed over is decoded but not converted.
    """

    index: int
    time: float | None
    read: Callable[[], Pixels]


def video_frames(video: Path | VideoFile, start: int = 0) -> Iterator[VideoFrame]:
    """The frames of a video's first video stream, one at a time: a long video is never held in memory.

    Starting later gives the same frames: the file is entered at a key frame before `start` where its
    timestamps tell for certain which frame is which, and read from its beginning where they do not.

    Args:
        video: the file.
        start: number of the first frame to give; behind the last frame there is nothing.

    Raises:
        UserError: naming the file and the reason, if PyAV is not installed or the file is no video or is
            damaged.
    """
    with _refusals(video):
        for begin in (_begin_near, _begin_at_first) if start else (_begin_at_first,):
            with _open(video) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                frames = begin(container, stream, start)
                if frames is None:
                    continue
                for index, frame in enumerate(frames, start):
                    yield VideoFrame(index, frame.time, lambda frame=frame: _pixels(frame))
                return


def _begin_at_first(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", start: int
) -> "Iterator[av.video.frame.VideoFrame]":
    return islice(container.decode(stream), start, None)


def _begin_near(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", start: int
) -> "Iterator[av.video.frame.VideoFrame] | None":
    """The frames from `start`, found by its timestamp; None if the timestamps do not tell."""
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(set(times)) < len(packets) or start >= len(times):
        return None
    container.seek(times[max(0, start - _REORDERED)], stream=stream)
    frames = container.decode(stream)
    for frame in frames:
        if frame.pts == times[start]:
            return chain([frame], frames)
        if frame.pts is None or frame.pts > times[start]:
            break
    return None


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
