# pyright: reportUnknownMemberType=false
"""What a copy of a video must keep: time base, size, colour tags, rotation, and the other streams."""

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mtdeblur.errors import UserError
from mtdeblur.media.formats import LIMIT, most_pixels
from mtdeblur.media.video import SUFFIXES, main_stream, open_video, places, refusals

if TYPE_CHECKING:
    import av.container
    import av.video.frame

_NAMED = frozenset((".asf", ".flv", ".mk3d", ".ogv", ".ts", ".vob", ".y4m"))
"""Suffixes that, besides `mtdeblur.media.video.SUFFIXES`, mean a video in a file that is given by name."""
_LOOKED_AT = 10  # frames, for interlacing
_SANE_RATES = Fraction(1, 10), Fraction(1000)
_UNKNOWN = 2  # unspecified, in all colour tags but the range


class Colours(NamedTuple):
    """Colour tags with FFmpeg's numbers; 2, or 0 for the range, if the file has none.

    Attributes:
        range: 1 is limited, 2 is full.
        primaries: of the colour space.
        transfer: transfer characteristics.
        matrix: between YUV and RGB.
    """

    range: int
    primaries: int
    transfer: int
    matrix: int


class Light(NamedTuple):
    """Static metadata of HDR pictures.

    Attributes:
        primaries: x and y of red, green and blue and of white, or None.
        luminance: the least and the greatest of the mastering display in cd/m2, or None.
        levels: MaxCLL and MaxFALL in cd/m2, or None.
    """

    primaries: tuple[Fraction, ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    levels: tuple[int, int] | None = None


@dataclass(frozen=True)
class Clip:
    """A video and its main video stream.

    Attributes:
        path: the file.
        stream: index of the main video stream.
        codec: FFmpeg's name of its codec.
        codec_tag: its tag in the container, four characters, or "".
        profile: of the codec, or None.
        time_base: of the timestamps, in seconds.
        rate: mean number of frames a second.
        frames: about how many there are; 0 if that is unknown.
        width: of the stored frames, in pixels.
        height: of the stored frames, in pixels.
        pixel_format: of the decoded frames.
        aspect: width of a pixel by its height, or None.
        colours: colour tags.
        light: static HDR metadata.
        matrix: display matrix (9 integers), which turns the stored frames upright, or None.
        dynamic: whether frames carry Dolby Vision or HDR10+ metadata.
    """

    path: Path
    stream: int
    codec: str
    codec_tag: str
    profile: str | None
    time_base: Fraction
    rate: Fraction
    frames: int
    width: int
    height: int
    pixel_format: str
    aspect: Fraction | None
    colours: Colours
    light: Light
    matrix: tuple[int, ...] | None
    dynamic: bool


def are_videos(paths: Sequence[Path], for_photographs: Sequence[str] = ()) -> bool:
    """Whether files are videos, by their suffixes.

    Args:
        paths: files and folders.
        for_photographs: options that the user gave and that are for photographs only.

    Raises:
        UserError: if videos are among pictures or come with such options.
    """
    videos = [path for path in paths if path.suffix.lower() in SUFFIXES | _NAMED and not path.is_dir()]
    if videos and for_photographs:
        raise UserError(f"{', '.join(for_photographs)}: for photographs only, not for videos")
    if videos and len(videos) < len(paths):
        raise UserError(f"{videos[0]} is a video; give videos and photographs in separate commands")
    return bool(videos)


def survey(path: Path) -> Clip:
    """Look at a video's streams and at its first frames.

    Raises:
        UserError: if it is not a readable video, or is interlaced.
    """
    frames = [place.frame for place in islice(places(path), _LOOKED_AT) if place.frame is not None]
    if not frames:
        with refusals(path), open_video(path) as container:
            known = main_stream(container).width
        undecoded = "none of its first frames can be decoded"
        if not known:
            undecoded += f", or they have more than {most_pixels()} pixels (see {LIMIT})"
        raise UserError(f"cannot read the video {path}: {undecoded}")
    if any(frame.interlaced_frame for frame in frames):
        raise UserError(
            f"the video {path} is interlaced; deinterlace it first, for instance with "
            "ffmpeg -i IN -vf bwdif -c:a copy OUT"
        )
    with refusals(path), open_video(path) as container:
        stream = main_stream(container)
        side, first = _side_data(frames[0]), frames[0]
        rate = _rate(stream.average_rate, stream.base_rate, stream.guessed_rate)
        return Clip(
            path=path,
            stream=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            codec_tag=_tag(stream.codec_context),
            profile=stream.profile,
            time_base=stream.time_base or 1 / rate,
            rate=rate,
            frames=stream.frames or _by_duration(container, stream.duration, stream.time_base, rate),
            width=first.width,
            height=first.height,
            pixel_format=first.format.name,
            aspect=stream.sample_aspect_ratio or None,
            colours=_colours(first, stream.codec_context),
            light=_light(side),
            matrix=struct.unpack("=9i", side["DISPLAYMATRIX"]) if "DISPLAYMATRIX" in side else None,
            dynamic=any(_side_data(frame).keys() & _DYNAMIC for frame in frames),
        )


_DYNAMIC = {"DOVI_RPU_BUFFER", "DOVI_METADATA", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID"}


def _rate(*candidates: Fraction | None) -> Fraction:
    sane = [rate for rate in candidates if rate and _SANE_RATES[0] <= rate <= _SANE_RATES[1]]
    return sane[0].limit_denominator(1001) if sane else Fraction(30)


def _by_duration(
    container: "av.container.InputContainer", duration: int | None, base: Fraction | None, rate: Fraction
) -> int:
    if duration and base:
        return round(duration * base * rate)
    return round(Fraction(container.duration or 0, 1_000_000) * rate)


def _tag(context: Any) -> str:
    try:
        return context.codec_tag.strip("\0")
    except UnicodeDecodeError:  # not ASCII
        return ""


def _side_data(frame: "av.video.frame.VideoFrame") -> dict[str, bytes]:
    """Side data by its name in PyAV; kinds that PyAV does not know are left out."""
    found: dict[str, bytes] = {}
    for data in cast("Iterable[Any]", frame.side_data):
        with suppress(ValueError):
            found[data.type.name] = bytes(data)
    return found


def _colours(frame: "av.video.frame.VideoFrame", context: Any) -> Colours:
    """The tags of a frame, or where it has none, of its stream."""
    return Colours(
        frame.color_range or context.color_range,
        *(
            of_frame if of_frame != _UNKNOWN else of_stream
            for of_frame, of_stream in (
                (frame.color_primaries, context.color_primaries),
                (frame.color_trc, context.color_trc),
                (frame.colorspace, context.colorspace),
            )
        ),
    )


def _light(side: dict[str, bytes]) -> Light:
    """HDR metadata from FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata."""
    primaries, luminance, levels = None, None, None
    if len(mastering := side.get("MASTERING_DISPLAY_METADATA", b"")) >= 88:
        *numbers, has_primaries, has_luminance = struct.unpack("=22i", mastering[:88])
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        values = tuple(Fraction(up, down or 1) for up, down in pairs)
        primaries = values[:8] if has_primaries else None
        luminance = (values[8], values[9]) if has_luminance else None
    if len(content := side.get("CONTENT_LIGHT_LEVEL", b"")) >= 8:
        levels = struct.unpack("=2I", content[:8])
    return Light(primaries, luminance, levels)
