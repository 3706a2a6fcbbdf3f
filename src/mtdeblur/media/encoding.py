# pyright: reportUnknownMemberType=false
"""How a video is encoded: codec, pixel format and options, chosen and tried before the work."""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from mtdeblur.errors import UserError, one_line
from mtdeblur.media.clip import Clip, Light
from mtdeblur.media.codecs import ENCODERS

if TYPE_CHECKING:
    import av.container
    import av.video.codeccontext
    import av.video.stream

THREADS = 4
"""Of an encoder; a fixed number, because the encoded bytes depend on it."""
_GLOBAL_HEADER = 0x0040  # AVFMT_GLOBALHEADER
_SUBSTITUTES = "h264", "vp9", "mpeg4", "mpeg2video"
_PRORES = {"Proxy": "0", "LT": "1", "Standard": "2", "HQ": "3", "4444": "4", "XQ": "5"}
_DNXHR = {"yuv422p": "dnxhr_hq", "yuv422p10le": "dnxhr_hqx"}

_PLAIN = re.compile(
    r"yuv[aj]?\d{3}p(9le|1\dle)?|gbra?p(9le|1\dle)?|gray(9le|1\dle)?|nv\d\d|yuyv422|uyvy422|(rgb|bgr)(24|48le)|rgba|bgra|bgr0"
)
"""Pixel formats whose samples are whole bytes or words."""
_RAW = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p10le",
    "gray",
    "rgb24",
    "bgr24",
]
"""Pixel formats for an encoder that accepts all."""


@dataclass(frozen=True)
class Coding:
    """A way to encode the frames of a clip.

    Attributes:
        codec: FFmpeg's name, of `mtdeblur.media.codecs.ENCODERS`.
        pixel_format: of the encoded frames.
        options: for the encoder.
        notices: what is lost, one line each.
    """

    codec: str
    pixel_format: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    notices: tuple[str, ...] = ()


def choose(clip: Clip, container: str, codec: str | None = None, crf: int | None = None) -> Coding:
    """Choose codec, pixel format and options, and try them.

    Args:
        clip: the video.
        container: FFmpeg's name of the container's format.
        codec: one of `ENCODERS`; None for the clip's, or where it cannot be written, h264 or another one that
            the container holds.
        crf: constant rate factor; None for the codec's default.

    Raises:
        UserError: if the codec is unknown or has no crf, or neither it nor a substitute can be written.
    """
    if codec is not None:
        if codec not in ENCODERS:
            raise UserError(f"--codec must be one of {', '.join(ENCODERS)}, not {codec}")
        coding = _coding(clip, container, codec, crf)
        _try(clip, container, coding)
        return coding
    failure = None
    for name in dict.fromkeys((clip.codec, *_SUBSTITUTES)):
        if name in ENCODERS:
            try:
                coding = _coding(clip, container, name, crf)
                _try(clip, container, coding)
                return coding
            except UserError as error:
                failure = failure or error
    raise failure or UserError(f"cannot write a video as {container}; choose another suffix, such as .mkv")


def configure(context: "av.video.codeccontext.VideoCodecContext", clip: Clip, coding: Coding) -> None:
    """Set up an encoder for frames of the clip's size, whose timestamps are their numbers."""
    context.width, context.height, context.pix_fmt = clip.width, clip.height, coding.pixel_format
    context.framerate, context.time_base = clip.rate, 1 / clip.rate
    context.sample_aspect_ratio = clip.aspect or Fraction(0, 1)
    context.color_range, context.color_primaries = clip.colours.range, clip.colours.primaries
    context.color_trc, context.colorspace = clip.colours.transfer, clip.colours.matrix
    context.thread_count = THREADS
    context.options = dict(coding.options)


def open_encoder(clip: Clip, coding: Coding, container: str) -> "av.video.codeccontext.VideoCodecContext":
    """An encoder whose packets go into a container of that format."""
    import av
    from av.codec.context import Flags

    context = cast("Any", av.CodecContext.create(ENCODERS[coding.codec].name, "w"))
    configure(context, clip, coding)
    if av.ContainerFormat(container, "w").flags & _GLOBAL_HEADER:
        context.flags |= Flags.global_header
    with scheduling_kept():
        context.open()
    return context


@contextmanager
def scheduling_kept() -> Generator[None]:
    """Keep this thread's scheduling policy, which SVT-AV1 raises to real time in processes of root.

    Threads that begin later inherit the policy: the program would stop all others on the machine.
    """
    if not hasattr(os, "sched_setscheduler"):  # Windows, macOS
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def add_video(
    output: "av.container.OutputContainer", clip: Clip, coding: Coding
) -> "av.video.stream.VideoStream":
    """Add a stream for packets of `open_encoder`, with the clip's time base, rotation and codec tag."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    stream = cast("Any", output.add_stream(ENCODERS[coding.codec].name, rate=clip.rate))
    configure(stream.codec_context, clip, coding)
    stream.time_base = clip.time_base
    if clip.matrix:
        stream.set_display_matrix(clip.matrix)
    if coding.codec == "hevc" and output.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"  # the only one that Apple's programs open
    return stream


def _try(clip: Clip, container: str, coding: Coding) -> None:
    """Open the encoder and write a container's header.

    Raises:
        UserError: if one of them fails.
    """
    import av
    from av.error import FFmpegError

    try:
        with scheduling_kept(), av.open(BytesIO(), "w", format=container) as output:
            add_video(output, clip, coding)
            output.start_encoding()
    except (FFmpegError, ValueError) as error:
        raise UserError(
            f"cannot write {coding.codec} of {clip.width}x{clip.height} pixels ({coding.pixel_format}) as "
            f"{container}: {one_line(error)}; choose another --codec or suffix"
        ) from error


def _coding(clip: Clip, container: str, codec: str, crf: int | None) -> Coding:
    encoder = ENCODERS[codec]
    pixel_format, lost = _pixel_format(clip, encoder.name)
    options = {**encoder.options, **_profile(clip, codec, pixel_format)}
    if container == "avi":
        options["bf"] = "0"  # an AVI has no timestamps, so its packets must be in the order of the frames
    if encoder.crf is not None:
        if crf is not None and not 0 <= crf <= encoder.crf[1]:
            raise UserError(f"--crf must be from 0 to {encoder.crf[1]} for {codec}, not {crf}")
        options["crf"] = str(encoder.crf[0] if crf is None else crf)
    elif crf is not None:
        raise UserError(f"{codec} has no crf; leave out --crf, or choose another --codec, such as h264")
    if encoder.light:
        options |= encoder.light(clip.light)
    return Coding(codec, pixel_format, options, tuple(_notices(clip, codec, lost)))


def _notices(clip: Clip, codec: str, lost: str) -> Iterator[str]:
    if codec != clip.codec:
        yield f"the video is {clip.codec}, the result {codec}"
    if lost:
        yield f"{codec} cannot keep the video's {lost}"
    if clip.light != Light() and ENCODERS[codec].light is None:
        yield f"{codec} cannot keep the HDR metadata of the mastering display; colour tags are kept"
    if clip.dynamic:
        yield "Dolby Vision and HDR10+ metadata are left out; the picture below them is kept"


def _pixel_format(clip: Clip, encoder: str) -> tuple[str, str]:
    """The encoder's pixel format that loses least, and what it loses."""
    import av
    from av.codec import find_best_pix_fmt_of_list
    from av.codec.codec import PixFmtLoss

    listed = [format.name for format in av.Codec(encoder, "w").video_formats or ()]
    formats = [name for name in listed or _RAW if _PLAIN.fullmatch(name)]
    if clip.pixel_format in formats:
        chosen, loss = clip.pixel_format, PixFmtLoss.NONE
    else:
        best, loss = find_best_pix_fmt_of_list(formats, clip.pixel_format, has_alpha=True)
        chosen = clip.pixel_format if best is None else best.name
    if clip.width % 2 or clip.height % 2:  # which x264 and x265 accept for full chroma only
        full = chosen.replace("420", "444").replace("422", "444")
        chosen = full if encoder in ("libx264", "libx265") else chosen
    named = {
        PixFmtLoss.RESOLUTION: "chroma resolution",
        PixFmtLoss.DEPTH: "bit depth",
        PixFmtLoss.ALPHA: "transparency",
    }
    return chosen, " and ".join(word for flag, word in named.items() if loss & flag)


def _profile(clip: Clip, codec: str, pixel_format: str) -> dict[str, str]:
    """The encoder's option `profile`, which for some codecs decides the quality."""
    if codec == "prores":
        full = "444" in pixel_format
        kept = _PRORES.get(clip.profile or "") if clip.codec == codec else None
        return {"profile": kept or ("4" if full else "3")}
    if codec == "dnxhd":
        return {"profile": _DNXHR.get(pixel_format, "dnxhr_444")}
    return {}
