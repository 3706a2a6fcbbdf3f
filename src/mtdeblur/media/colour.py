"""Tone curves of colour encodings, and ICC profiles for those that are given by numbers.

The networks were trained on photographs with sRGB's tone curve. Other encodings (linear light, gamma 1.8)
look unusual to them, so `mtdeblur.media.working` gives a picture that curve. The primaries stay the picture's
own: to a network, wide-gamut values are those of a less saturated photograph, no colour is out of range, and
the curve is one function of each sample, which can be reversed exactly.
"""

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtdeblur.media import libvips
from mtdeblur.media.primaries import Colour

Floats = NDArray[np.float64]
_ALIKE = 0.01  # difference of two tone curves, of white
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


class Curve(NamedTuple):
    """A tone curve as tables over 65,536 equal steps from 0 to 1.

    `forward` gives the value with sRGB's curve for a value of the picture, `back` the picture's value.
    """

    forward: NDArray[np.float32]
    back: NDArray[np.float32]


def curve_of_gamma(gamma: float | None) -> Curve | None:
    """The curve of a gamma; None if it is like sRGB's."""
    return None if gamma is None else _curve(np.linspace(0, 1, 65536) ** gamma)


@lru_cache(maxsize=8)
def curve_of_profile(icc: bytes, grey: bool) -> Curve | None:
    """The curve of a profile's neutral colours; None if it is like sRGB's, or the profile cannot be used."""
    light = libvips.luminances(icc, grey)
    if light is None or not np.isfinite(light).all() or light[-1] <= light[0]:
        return None
    return _curve((light - light[0]) / (light[-1] - light[0]))


def _curve(light: Floats) -> Curve | None:
    """The curve of an encoding from the light of its 65,536 values, in [0, 1]."""
    values = np.linspace(0, 1, 65536)
    forward = np.maximum.accumulate(np.clip(to_srgb(light), 0, 1))
    if np.abs(forward - values).max() < _ALIKE:
        return None
    return Curve(forward.astype(np.float32), np.interp(values, forward, values).astype(np.float32))


def to_srgb(light: Floats) -> Floats:
    """Values with sRGB's curve (IEC 61966-2-1) from linear light."""
    light = np.maximum(light, 0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@lru_cache(maxsize=8)
def profile_of(colour: Colour, grey: bool) -> bytes:
    """An ICC profile (version 2) of an encoding.

    Args:
        colour: the encoding, not HDR.
        grey: of one channel.
    """
    white, *others = (_from_xy(*colour.primaries[start : start + 2]) for start in range(0, 8, 2))
    columns = np.stack(others, axis=1)
    matrix = _adaptation(white) @ (columns * np.linalg.solve(columns, white))
    name = b"Colour of the source file\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    tags: dict[bytes, bytes] = {
        b"desc": description,
        b"cprt": b"text" + bytes(4) + b"No copyright\0",
        b"wtpt": _xyz(_D50),
    }
    curve = _tone_curve(colour.gamma)
    if grey:
        tags[b"kTRC"] = curve
    else:
        for channel, column in zip((b"r", b"g", b"b"), matrix.T, strict=True):
            tags |= {channel + b"XYZ": _xyz(column), channel + b"TRC": curve}
    return _profile(tags, b"GRAY" if grey else b"RGB ")


def _from_xy(x: float, y: float) -> Floats:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: Floats) -> Floats:
    """The matrix that takes colours under a white to D50 (Bradford)."""
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD


def _xyz(values: Floats) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _tone_curve(gamma: float | None) -> bytes:
    if gamma == 1:
        return b"curv" + bytes(8)
    if gamma is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, min(65535, round(gamma * 256)))
    steps = np.linspace(0, 1, 4096)
    light = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", 4096) + np.rint(light * 65535).astype(">u2").tobytes()


def _profile(tags: dict[bytes, bytes], space: bytes) -> bytes:
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header: list[Any] = [start + len(data), b"", 0x02100000, b"mntr", space, b"XYZ ", 2000, 1, 1, 0, 0, 0]
    packed = struct.pack(">I4sI4s4s4s6H", *header) + b"acsp" + bytes(28)
    illuminant = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return (packed + illuminant).ljust(128, b"\0") + table + data
