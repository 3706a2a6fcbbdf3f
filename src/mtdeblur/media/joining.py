# pyright: reportUnknownMemberType=false
"""The result of a deblurred video: its new frames, and copies of all other streams of the input."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from heapq import merge
from io import BytesIO
from itertools import islice
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mtdeblur.errors import UserError, one_line
from mtdeblur.media.clip import Clip
from mtdeblur.media.encoding import Coding, add_video, scheduling_kept
from mtdeblur.media.segments import decoding_times, first_time, read_segments
from mtdeblur.media.video import address, open_video, refusals

if TYPE_CHECKING:
    import av
    import av.container
    import av.stream

CONTAINERS = {
    ".3gp": "3gp",
    ".avi": "avi",
    ".m2ts": "mpegts",
    ".m4v": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mp4",
    ".mts": "mpegts",
    ".ts": "mpegts",
    ".webm": "webm",
}
"""Suffixes of results, and FFmpeg's names of their formats."""
_BROADCAST = ("mpegts", "mpeg")
_MP4 = ("3gp", "mov", "mp4")
_OF_CONTAINER = ("major_brand", "minor_version", "compatible_brands", "encoder")
_OF_CODEC = ("encoder", "vendor_id", "bps", "number_of_bytes", "number_of_frames", "_statistics")
"""Begins of the keys of metadata that describe the input's own encoding."""
_FROM_PHONES = "com."  # begin of keys that an MP4 or MOV file holds in another form only
_TRIED = 2000  # packets of the input, for the trial
_EACH = 3  # packets of a stream, for the trial
_LARGEST_SCALE = 2**31 - 1  # ticks a second in an MP4 file
_MICROSECOND = Fraction(1, 1_000_000)
_MAY_REPEAT = 0x20000  # AVFMT_TS_NONSTRICT: equal decoding timestamps may follow each other


class UncopyableError(Exception):
    """A stream of the input cannot be copied; the text is a line for the user.

    Attributes:
        index: of the stream.
    """

    def __init__(self, stream: "av.stream.Stream", container: str) -> None:
        self.index = stream.index
        self.line = (
            f"{container} cannot hold stream {stream.index} of the video ({_kind(stream)}); it is left out"
        )
        super().__init__(self.line)


def uncopyable(clip: Clip, container: str) -> dict[int, str]:
    """The streams of a video, besides the one that is deblurred, that a container cannot hold.

    Each is tried with its first packets.

    Args:
        clip: the video.
        container: FFmpeg's name of the format.

    Returns:
        For each index of such a stream, a line for the user.
    """
    import av
    from av.error import FFmpegError

    refused: dict[int, str] = {}
    with refusals(clip.path), open_video(clip.path) as source:
        samples: dict[int, list[av.Packet[Any]]] = {}
        for packet in islice(source.demux(), _TRIED):
            packets = samples.setdefault(packet.stream.index, [])
            if packet.size and len(packets) < _EACH:
                packets.append(packet)
        for stream in _others(clip, source):
            try:
                with av.open(BytesIO(), "w", format=container) as output:
                    copy = _add_copy(output, stream)
                    with scheduling_kept():
                        output.start_encoding()
                    for packet in samples.get(stream.index, ()):
                        packet.stream = copy
                        output.mux(packet)
            except (FFmpegError, ValueError):
                refused[stream.index] = str(UncopyableError(stream, container))
    return refused


def join(
    clip: Clip, coding: Coding, container: str, segments: Sequence[Path], path: Path, left_out: set[int]
) -> None:
    """Write the result: the frames of the segments, and all other streams of the clip.

    The same inputs give the same bytes.

    Args:
        clip: the video.
        coding: of the frames.
        container: FFmpeg's name of the format.
        segments: files of `mtdeblur.media.segments`, in order.
        path: file to write.
        left_out: indices of streams of the clip that are not copied.

    Raises:
        UserError: if the file cannot be written.
        UncopyableError: if a stream cannot be copied after all.
    """
    import av
    from av.container.core import Flags
    from av.error import FFmpegError

    with refusals(clip.path), open_video(clip.path) as source, open_video(clip.path) as again:
        copied = [stream.index for stream in _others(clip, source) if stream.index not in left_out]
        settings = _settings(clip, source, container)
        try:
            with av.open(address(path), "w", format=container, container_options=settings) as output:
                output.flags |= Flags.bitexact.value  # no version and no random number in the file
                output.metadata.update(_without(source.metadata, _OF_CONTAINER))
                output.set_chapters(source.chapters())
                copies = _add_streams(clip, coding, source, output, copied)
                origin = _origin(source, output, first_time(segments) * clip.time_base)
                frames = _encoded(clip, segments, copies[clip.stream], origin)
                texts, others = (
                    _copied(
                        opened,
                        output,
                        {n: copies[n] for n in copied if _is_text(source, n) == wanted},
                        origin,
                    )
                    for opened, wanted in ((again, True), (source, False))
                )
                with scheduling_kept():
                    output.start_encoding()
                inputs = {copy.index: source.streams[number] for number, copy in copies.items()}
                for packet in merge(texts, frames, others, key=_seconds):
                    _mux(output, packet, clip, inputs[packet.stream_index])
        except (FFmpegError, ValueError) as error:
            raise UserError(f"cannot write the video {path}: {one_line(error)}") from error


def _add_streams(
    clip: Clip,
    coding: Coding,
    source: "av.container.InputContainer",
    output: "av.container.OutputContainer",
    copied: Sequence[int],
) -> "dict[int, av.stream.Stream]":
    """Add the streams of the result in the input's order; their keys are the input's numbers."""
    copies: dict[int, av.stream.Stream] = {}
    for stream in source.streams:
        if stream.index == clip.stream:
            copies[stream.index] = add_video(output, clip, coding)
            copies[stream.index].metadata.update(_without(stream.metadata, _OF_CODEC))
            copies[stream.index].disposition = stream.disposition
        elif stream.index in copied:
            copies[stream.index] = _add_copy(output, stream)
    return copies


def _copied(
    source: "av.container.InputContainer",
    output: "av.container.OutputContainer",
    copies: "Mapping[int, av.stream.Stream]",
    origin: Fraction,
) -> "Iterator[av.Packet[Any]]":
    """The packets of some streams of the input, for the streams of the result."""
    last: dict[int, int] = {}
    strict = not output.format.flags & _MAY_REPEAT
    for packet in source.demux([source.streams[number] for number in copies]) if copies else ():
        if packet.size and not _is_cut(packet, output):
            _shift(packet, origin)
            if packet.pts is None and packet.dts is None:  # a cover picture
                packet.pts = packet.dts = 0
            _keep_rising(packet, last, strict and packet.stream.type in ("audio", "video"))
            packet.stream = copies[packet.stream.index]
            yield packet


def _mux(
    output: "av.container.OutputContainer", packet: "av.Packet[Any]", clip: Clip, stream: "av.stream.Stream"
) -> None:
    """Write a packet of the result that stems from a stream of the input."""
    from av.error import FFmpegError

    try:
        output.mux(packet)
    except (FFmpegError, ValueError) as error:
        if stream.index == clip.stream:
            raise
        raise UncopyableError(stream, output.format.name) from error


def _is_text(source: "av.container.InputContainer", number: int) -> bool:
    """Whether a stream is of subtitles, which lie anywhere in a file."""
    return source.streams[number].type == "subtitle"


def _origin(
    source: "av.container.InputContainer", output: "av.container.OutputContainer", first: Fraction
) -> Fraction:
    """The time in seconds that becomes 0 in the result: that of a broadcast starts anywhere.

    Args:
        source: the input.
        output: the result.
        first: time of the first frame. If it is negative, it becomes 0, because players of MP4 files leave
            out what is earlier.
    """
    earliest = min(first, Fraction(0))
    if source.format.name not in _BROADCAST or output.format.name in _BROADCAST:
        return earliest
    starts = [(stream.start_time, stream.time_base) for stream in source.streams]
    return min((start * base for start, base in starts if start is not None and base), default=earliest)


def _shift(packet: "av.Packet[Any]", origin: Fraction) -> None:
    ticks = round(origin / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks


def _seconds(packet: "av.Packet[Any]") -> Fraction:
    """When a packet is decoded."""
    time = packet.pts if packet.dts is None else packet.dts
    return (time or 0) * packet.time_base


def _encoded(
    clip: Clip, segments: Sequence[Path], stream: "av.stream.Stream", origin: Fraction
) -> "Iterator[av.Packet[Any]]":
    """The deblurred frames as packets of the result."""
    import av

    for frame, time in zip(read_segments(segments), decoding_times(segments), strict=True):
        packet = av.Packet(frame.data)
        packet.pts, packet.dts, packet.duration = frame.pts, time, frame.duration
        packet.time_base, packet.is_keyframe, packet.stream = clip.time_base, frame.key, stream
        _shift(packet, origin)
        yield packet


def _keep_rising(packet: "av.Packet[Any]", last: dict[int, int], strict: bool) -> None:
    """Repair decoding timestamps of a copied stream that stand still or go back, which muxers refuse."""
    if packet.dts is None:
        return
    least = last.get(packet.stream.index, packet.dts - 1) + strict
    if packet.dts < least:
        packet.dts = least
        packet.pts = least if packet.pts is None else max(packet.pts, least)
    last[packet.stream.index] = packet.dts


def _is_cut(packet: "av.Packet[Any]", output: "av.container.OutputContainer") -> bool:
    """Whether the input's edit list cuts a packet off.

    What an audio decoder needs before the first sound is copied where the result can have an edit list, too.
    """
    if not packet.is_discard:
        return False
    return not (packet.stream.type == "audio" and (packet.pts or 0) < 0 and output.format.name in _MP4)


def _others(clip: Clip, source: "av.container.InputContainer") -> "Iterator[av.stream.Stream]":
    """The streams to copy, without the tracks that a muxer makes of chapters and of a timecode."""
    from av.stream import Discard

    timecode = source.streams[clip.stream].metadata.get("timecode")
    for stream in source.streams:
        kept = timecode and stream.type == "data" and stream.metadata.get("timecode") == timecode
        if stream.index != clip.stream and not kept and stream.discard != Discard.all:
            yield stream


def _add_copy(output: "av.container.OutputContainer", stream: "av.stream.Stream") -> "av.stream.Stream":
    """Add a stream like that of the input."""
    copy = cast("Any", output.add_stream_from_template(stream, opaque=True))
    copy.metadata.update(_without(stream.metadata, ()))
    copy.disposition = stream.disposition
    if stream.type == "subtitle" and output.format.name in _MP4 and copy.time_base > _MICROSECOND:
        # The muxer compares their ticks with those of other streams, and would end each text once more.
        copy.time_base /= 1000
    return copy


def _settings(clip: Clip, source: "av.container.InputContainer", container: str) -> dict[str, str]:
    """Options of the muxer, for exact timestamps and all metadata."""
    if container == "mpegts":
        return {"mpegts_copyts": "1"}
    if container in ("matroska", "webm"):
        return {"default_mode": "passthrough"}
    if container not in _MP4:
        return {}
    settings = {"video_track_timescale": str(clip.time_base.denominator)}
    bases = [Fraction(stream.time_base) for stream in source.streams if stream.time_base]
    if any(stream.start_time for stream in source.streams):  # starts are stored in ticks of the whole file
        scale = lcm(*(base.denominator for base in bases))
        settings["movie_timescale"] = str(scale if scale <= _LARGEST_SCALE else clip.time_base.denominator)
    if any(key.startswith(_FROM_PHONES) for key in source.metadata):
        settings["movflags"] = "use_metadata_tags"
    return settings


def _without(metadata: Mapping[str, str], begins: Sequence[str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if not key.lower().startswith(tuple(begins))}


def _kind(stream: "av.stream.Stream") -> str:
    context = cast("Any", stream.codec_context)
    name = context.codec.canonical_name if context is not None else stream.name
    return f"{stream.type}, {name}" if name else stream.type
