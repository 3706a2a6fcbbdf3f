"""What a network sees of a picture, and the picture with what the network made of it.

A network sees integers with sRGB's tone curve (see `mtdeblur.media.colour`). Where a picture differs from
that (another curve, floating point, colours without meaning under full transparency), the network sees a
copy, and the result is the original plus the change: where the network changes nothing, nothing changes,
whatever the copy could not show, such as values beyond white.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.media import spool
from mtdeblur.media.colour import Curve, curve_of_gamma, curve_of_profile
from mtdeblur.media.picture import Picture
from mtdeblur.media.samples import WHITE, Pixels, averaged
from mtdeblur.media.transparency import fill

_BRIGHT = 2.0  # values above, in floats without profile, show that they are linear light


def seen(picture: Picture) -> Pixels:
    """The picture for a network: (H, W, 3) uint8 or uint16 with sRGB's tone curve.

    These are the picture's own pixels, not a copy, if they are like that already.
    """
    curve = _curve(picture)
    hidden = picture.alpha is not None and _has_zero(picture.alpha)
    if curve is None and picture.pixels.dtype != np.float32 and not hidden:
        return picture.pixels
    shown = _shown(picture.pixels, curve)
    return fill(shown, picture.alpha) if hidden and picture.alpha is not None else shown


def with_estimate(picture: Picture, shown: Pixels, estimate: Pixels) -> Picture:
    """The picture with a network's estimate.

    Args:
        picture: the original.
        shown: from `seen`.
        estimate: of its shape and dtype.
    """
    if picture.grey:
        estimate = averaged(estimate)
    if shown is picture.pixels:
        return picture.with_pixels(estimate)
    curve = _curve(picture)
    result = spool.like(picture.pixels, picture.pixels.shape, picture.pixels.dtype)
    for rows in spool.strips(result, shown, estimate):
        change = _value(estimate[rows], curve) - _value(shown[rows], curve)
        if picture.alpha is not None:
            change *= picture.alpha[rows, :, None] > 0
        result[rows] = _plus(picture.pixels[rows], change)
    return picture.with_pixels(result)


def _plus(pixels: Pixels, change: NDArray[np.float32]) -> Pixels:
    """Pixels plus a change relative to white; integers are rounded and clipped."""
    white = WHITE[pixels.dtype.name]
    if pixels.dtype == np.float32:
        return np.where(change == 0, pixels, pixels + change)  # -0.0 and NaN stay as well
    return np.rint(pixels + change.astype(np.float64) * white).clip(0, white).astype(pixels.dtype)


def _value(samples: Pixels, curve: Curve | None) -> NDArray[np.float32]:
    """Values in the picture's own encoding, in [0, 1], of samples with sRGB's curve."""
    if curve is None:
        return samples.astype(np.float32) / np.float32(WHITE[samples.dtype.name])
    return curve.back[_index(samples)]


def _shown(pixels: Pixels, curve: Curve | None) -> Pixels:
    """Pixels with sRGB's curve: uint16, or their own integers if they have that curve."""
    deep = curve is not None or pixels.dtype == np.float32
    shown = spool.like(pixels, pixels.shape, np.uint16 if deep else pixels.dtype)
    for rows in spool.strips(shown, pixels):
        part = pixels[rows]
        if not deep:
            shown[rows] = part
        elif curve is None:
            shown[rows] = _index(part)
        elif part.dtype == np.float32:
            values = np.interp(_clipped(part), np.linspace(0, 1, len(curve.forward)), curve.forward)
            shown[rows] = np.rint(values * 65535)
        else:
            shown[rows] = np.rint(curve.forward[_index(part)] * 65535)
    return shown


def _clipped(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.nan_to_num(values, nan=0.0).clip(0, 1)


def _index(samples: Pixels) -> NDArray[Any]:
    """Samples as 16-bit integers."""
    if samples.dtype == np.float32:
        return np.rint(_clipped(samples) * 65535).astype(np.uint16)
    return samples.astype(np.uint16) * 257 if samples.dtype == np.uint8 else samples


def _curve(picture: Picture) -> Curve | None:
    """The tone curve of a picture; None if it is like sRGB's.

    Floats without profile are taken for linear light if some are far brighter than white, as in HDR pictures;
    otherwise, like integers, for sRGB.
    """
    if picture.colour is not None:
        return None if picture.colour.is_hdr else curve_of_gamma(picture.colour.gamma)
    if picture.icc is not None:
        return curve_of_profile(picture.icc, picture.grey)
    if picture.pixels.dtype != np.float32:
        return None
    bright = any((picture.pixels[rows] > _BRIGHT).any() for rows in spool.strips(picture.pixels))
    return curve_of_gamma(1.0) if bright else None


def _has_zero(alpha: Pixels) -> bool:
    return any(bool((alpha[rows] == 0).any()) for rows in spool.strips(alpha))
