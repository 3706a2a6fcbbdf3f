# pyright: reportUnknownMemberType=false
"""Reading of videos frame by frame, upright and at their own bit depth.

Frames are numbered from 0 in presentation order, regardless of their timestamps; a frame's number does not
depend on where reading starts.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError, one_line, require
from mtdeblur.files.atomic import check_regular, plain_name, reason
from mtdeblur.media.formats import check_size, most_pixels

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
_LISTS = frozenset(("concat", "dash", "hls", "imf", "webm_dash_manifest"))
"""FFmpeg's names of formats that only name other files."""
_MARGIN = 2**20  # pixels
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
    for number, place in enumerate(places(video, start), start):
        yield _frame(video, number, place)


class Place(NamedTuple):
    """A frame's place in the video.

    Attributes:
        frame: as decoded, not turned upright; None if it is lost.
        pts: its timestamp in units of `time_base`, or None if the file has none.
        time_base: in seconds.
        damaged: whether the frame is lost, cannot be decoded well, or depends on such a frame.
    """

    frame: "av.video.frame.VideoFrame | None"
    pts: int | None
    time_base: Fraction | None
    damaged: bool = False


def places(video: Path | VideoFile, start: int = 0) -> Iterator[Place]:
    """The frames of `video_frames` with their timestamps, for a program that writes them again.

    Raises:
        UserError: as `video_frames` does.
    """
    with refusals(video):
        from av.error import FFmpegError

        number = start
        with suppress(FFmpegError):  # a file that is not a video fails again below
            for place in _places(video, start):
                yield place
                number += 1
            return
        yield from islice(_repaired(video), number, None)


def main_stream(container: "av.container.InputContainer") -> "av.video.stream.VideoStream":
    """The first video stream that is not a cover picture; frames of more pixels than allowed are damaged.

    Raises:
        IndexError: if there is none.
        ValueError: if its codec is unknown, or its frames have more pixels than
            `mtdeblur.media.formats.most_pixels` allows.
    """
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    stream = streams[0]
    if cast("Any", stream.codec_context) is None:
        raise ValueError("FFmpeg does not know its codec")
    if stream.width and stream.height:
        try:
            check_size(stream.width, stream.height)
        except UserError as error:
            raise ValueError(str(error)) from None
    stream.codec_context.options = _limits()
    return stream


def address(path: Path) -> str:
    """A local file for FFmpeg, which takes plain names such as `http:a.mp4` for addresses."""
    return f"file:{path}"


def _limits() -> dict[str, str]:
    """Options of decoders, against frames far above the limit; decoders count margins as well."""
    return {"max_pixels": str(2 * most_pixels() + _MARGIN)}


def _places(video: Path | VideoFile, start: int) -> Iterator[Place]:
    """The frames from `start` on, up to the first decoding error."""
    for begin in (_begin_near, _begin_at_first) if start else (_begin_at_first,):
        with open_video(video) as container:
            stream = main_stream(container)
            stream.thread_type = "AUTO"
            found = begin(container, stream, start)
            if found is not None:
                yield from found
                return


def _begin_at_first(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", start: int
) -> Iterator[Place]:
    return islice(_judged(container.decode(stream)), start, None)


def _begin_near(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", start: int
) -> Iterator[Place] | None:
    """The frames from `start` on, found by timestamp; None if the timestamps are ambiguous."""
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(set(times)) < len(packets) or start >= len(times):
        return None
    container.seek(times[max(0, start - _REORDERED)], stream=stream)
    found = _judged(container.decode(stream))
    for place in found:
        shown = place.frame and place.frame.pts
        if shown == times[start]:
            return chain([place], found)
        if shown is None or shown > times[start]:
            break
    return None


def _judged(frames: "Iterable[av.video.frame.VideoFrame | Place]") -> Iterator[Place]:
    """Mark damaged frames, and all frames after them up to the next key frame."""
    damaged = False
    for frame in frames:
        if isinstance(frame, Place):
            damaged = True
            yield frame
            continue
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        pts = frame.dts if frame.pts is None else frame.pts  # an AVI has decoding timestamps alone
        yield Place(frame, pts, frame.time_base, damaged)


def _repaired(video: Path | VideoFile) -> Iterator[Place]:
    """All frames of a damaged video, with a placeholder for each lost frame."""
    with open_video(video) as container:
        stream = main_stream(container)
        stream.thread_type = "SLICE"  # so that an error belongs to the current packet
        yield from _judged(_decoded(container, stream))


def _decoded(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> "Iterator[av.video.frame.VideoFrame | Place]":
    """Decode packet by packet; lost frames have their place in presentation order."""
    from av.error import FFmpegError

    lost: list[int] = []  # timestamps
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except FFmpegError:
            frames = []
            if packet.pts is None:
                yield Place(None, None, stream.time_base, damaged=True)
            else:
                heappush(lost, packet.pts)
        for frame in frames:
            while lost and frame.pts is not None and lost[0] < frame.pts:
                yield _lost(heappop(lost), stream)
            yield frame
    while lost:
        yield _lost(heappop(lost), stream)


def _lost(timestamp: int, stream: "av.video.stream.VideoStream") -> Place:
    return Place(None, timestamp, stream.time_base, damaged=True)


def _frame(video: Path | VideoFile, number: int, place: Place) -> VideoFrame:
    frame = place.frame
    time = None if place.pts is None or place.time_base is None else float(place.pts * place.time_base)
    if frame is None or place.damaged:

        def refuse() -> Pixels:
            raise UserError(f"cannot read frame {number} of the video {video}: it is damaged")

        return VideoFrame(number, time, refuse, damaged=True)
    return VideoFrame(number, time, lambda: _pixels(frame))


def _pixels(frame: "av.video.frame.VideoFrame") -> Pixels:
    deep = frame.format.components[0].bits > 8
    pixels = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    # `rotation` is counterclockwise in degrees, as for rot90.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


@contextmanager
def open_video(video: Path | VideoFile) -> "Generator[av.container.InputContainer]":
    """Open a video to read it.

    Raises:
        ValueError: if the file is a list of other files.
    """
    import av  # slow to import

    check_regular(video)
    with ExitStack() as stack:
        if isinstance(video, Path) and plain_name(str(video)) == str(video):  # PyAV wants UTF-8
            file: Any = address(video)
        else:
            file = stack.enter_context(video.open("rb"))
        container: Any = stack.enter_context(av.open(file, "r", options=_limits()))
        if container.format.name in _LISTS:
            raise ValueError("it is a list of other files")
        yield container


@contextmanager
def refusals(video: Path | VideoFile) -> Generator[None]:
    """Turn the errors of reading a video, and the lack of PyAV, into UserErrors."""
    require("av", "data", f"reading the video {video}")
    from av.error import FFmpegError

    try:
        yield
    except IndexError as error:
        raise UserError(f"cannot read the video {video}: it has no video stream") from error
    except (FFmpegError, OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) and error.strerror else one_line(error)
        raise UserError(f"cannot read the video {video}: {why}") from error
