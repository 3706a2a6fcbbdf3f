"""Codecs in which a video can be written, their encoders and the options of these."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

from mtdeblur.media.clip import Light

_QP = 118  # FFmpeg's units of lambda in one step of a quantiser


class Encoder(NamedTuple):
    """An encoder of FFmpeg.

    Attributes:
        name: FFmpeg's.
        crf: the default constant rate factor, and the greatest; None if the codec has none.
        options: its other options.
        light: makes the options that write HDR metadata into the stream, or None.
    """

    name: str
    crf: tuple[int, int] | None = None
    options: Mapping[str, str] = {}
    light: Callable[[Light], dict[str, str]] | None = None


def _x265(light: Light) -> dict[str, str]:
    parts = [*_mastering(light, "master-display", 50_000, 10_000), *_levels(light, "max-cll")]
    hdr = ["hdr10=1"] if parts else []
    return {"x265-params": ":".join(["log-level=error", "open-gop=0", *hdr, *parts])}


def _x264(light: Light) -> dict[str, str]:
    parts = [*_mastering(light, "mastering-display", 50_000, 10_000), *_levels(light, "cll")]
    return {"x264-params": ":".join(parts)} if parts else {}


def _svt(light: Light) -> dict[str, str]:
    parts = [*_mastering(light, "mastering-display"), *_levels(light, "content-light")]
    return {"svtav1-params": ":".join(parts)} if parts else {}


def _mastering(light: Light, name: str, chroma: int | None = None, luma: int | None = None) -> list[str]:
    """The mastering display as an option: decimals, or whole numbers of 1/chroma and of 1/luma cd/m2."""
    if light.primaries is None or light.luminance is None:
        return []
    values = [_number(value, chroma) for value in light.primaries]
    least, most = (_number(value, luma) for value in light.luminance)
    red, green, blue, white = (",".join(values[start : start + 2]) for start in (0, 2, 4, 6))
    return [f"{name}=G({green})B({blue})R({red})WP({white})L({most},{least})"]


def _number(value: Fraction, unit: int | None) -> str:
    return f"{float(value):.6g}" if unit is None else str(round(value * unit))


def _levels(light: Light, name: str) -> list[str]:
    return [] if light.levels is None else [f"{name}={light.levels[0]},{light.levels[1]}"]


_FIXED = {"flags": "+qscale", "global_quality": str(2 * _QP)}
ENCODERS: dict[str, Encoder] = {
    # Without "mbtree": with it, the bytes of libx264 differ from run to run on processors with AVX-512.
    "h264": Encoder("libx264", (20, 51), {"preset": "medium", "mbtree": "0"}, _x264),
    "hevc": Encoder("libx265", (20, 51), {"preset": "medium"}, _x265),
    "av1": Encoder("libsvtav1", (24, 63), {"preset": "8"}, _svt),
    "vp9": Encoder("libvpx-vp9", (24, 63), {"b": "0", "deadline": "good", "cpu-used": "4"}),
    "vp8": Encoder("libvpx", (10, 63), {"b": "100M", "deadline": "good", "auto-alt-ref": "0"}),
    "prores": Encoder("prores_ks", options={"vendor": "apl0"}),
    "dnxhd": Encoder("dnxhd"),
    "ffv1": Encoder("ffv1", options={"level": "3", "slicecrc": "1"}),
    "mjpeg": Encoder("mjpeg", options=_FIXED),
    "mpeg4": Encoder("mpeg4", options=_FIXED),
    "mpeg2video": Encoder("mpeg2video", options=_FIXED),
    "huffyuv": Encoder("huffyuv"),
    "ffvhuff": Encoder("ffvhuff"),
    "utvideo": Encoder("utvideo"),
    "rawvideo": Encoder("rawvideo"),
}
"""By FFmpeg's names of the codecs. A codec of an input that is not among them is not encoded."""
