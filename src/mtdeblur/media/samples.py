"""Arrays of samples: depth, grey, alpha and orientation, strip by strip for those in files."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mtdeblur.media import spool

Pixels = NDArray[Any]
WHITE = {"uint8": 255, "uint16": 65535, "float32": 1.0}
"""The value of white for each dtype."""


def contiguous(samples: Pixels) -> Pixels:
    """Contiguous samples, unless they are in a file."""
    return samples if spool.in_file(samples) else np.ascontiguousarray(samples)


def three_equal(samples: Pixels) -> Pixels:
    """(H, W, 3) with three equal channels, from (H, W, 1)."""
    if spool.in_file(samples):
        return np.broadcast_to(samples, (*samples.shape[:2], 3))
    return np.repeat(samples, 3, axis=2)


def averaged(pixels: Pixels) -> Pixels:
    """(H, W, 3) with three equal channels: the mean of the channels, rounded for integers."""
    mean = spool.like(pixels, (*pixels.shape[:2], 1), pixels.dtype)
    for rows in spool.strips(mean, pixels):
        if pixels.dtype == np.float32:
            equal = (pixels[rows] == pixels[rows, :, :1]).all(axis=2, keepdims=True)
            with np.errstate(invalid="ignore"):  # of infinities
                means = pixels[rows].mean(axis=2, keepdims=True, dtype=np.float64)
            mean[rows] = np.where(equal, pixels[rows, :, :1], means)
        else:
            total = pixels[rows].sum(axis=2, keepdims=True, dtype=np.uint32)
            mean[rows] = (total * 2 + 3) // 6
    return three_equal(mean)


def to_8_bits(samples: Pixels) -> NDArray[np.uint8]:
    """Samples of any shape as 8 bits: 16-bit ones rounded, floats clipped to [0, 1]; 8 bits are unchanged."""
    return converted(samples, np.uint8)


def to_integers(samples: Pixels) -> Pixels:
    """Floats as 16 bits, clipped to [0, 1]; integers are unchanged."""
    return converted(samples, np.uint16) if samples.dtype == np.float32 else samples


def converted(samples: Pixels, dtype: DTypeLike) -> Pixels:
    """Samples of any shape in another dtype, scaled to its white; values beyond it are clipped."""
    target = np.dtype(dtype)
    if samples.dtype == target:
        return samples
    if samples.dtype == np.uint16 and target == np.uint8:
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    white = WHITE[target.name]
    if samples.dtype == np.float32:
        samples = np.nan_to_num(samples, nan=0.0).clip(0, 1)
    values = samples.astype(np.float32) * np.float32(white / WHITE[samples.dtype.name])
    return values if target == np.float32 else np.rint(values).clip(0, white).astype(target)


def stored(
    pixels: Pixels, alpha: Pixels | None, dtype: DTypeLike, *, grey: bool, transparent: bool
) -> Pixels:
    """The samples of a file, (H, W, C).

    Args:
        pixels: (H, W, 3).
        alpha: (H, W) or None.
        dtype: of the result.
        grey: one colour channel instead of three.
        transparent: with alpha; otherwise the pixels are blended with white.
    """
    colours = 1 if grey else 3
    samples = spool.like(pixels, (*pixels.shape[:2], colours + transparent), dtype)
    for rows in spool.strips(samples, pixels):
        part = converted(pixels[rows, :, :colours], dtype)
        cover = None if alpha is None else converted(alpha[rows], dtype)
        if cover is not None and not transparent:
            part = _over_white(part, cover)
        samples[rows, :, :colours] = part
        if cover is not None and transparent:
            samples[rows, :, -1] = cover
    return samples


def _over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Pixels blended with white by their alpha, in the picture's own encoding; integers."""
    white = WHITE[pixels.dtype.name]
    cover = alpha[..., None].astype(np.uint64)
    return ((pixels * cover + white * (white - cover) + white // 2) // white).astype(pixels.dtype)


def divided(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Colours that are multiplied by alpha, divided by it; `multiply` gives them back exactly.

    Colours without any alpha become black, and those brighter than their alpha white.
    """
    white = WHITE[pixels.dtype.name]
    result = spool.like(pixels, pixels.shape, pixels.dtype)
    for rows in spool.strips(result, pixels):
        cover = alpha[rows, :, None].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            colours = np.where(cover > 0, pixels[rows] * (white / cover), 0)
            result[rows] = colours if white == 1 else np.rint(colours).clip(0, white)
    return result


def multiply(samples: Pixels) -> None:
    """Multiply the colours of (H, W, C) by their alpha, the last channel."""
    white = WHITE[samples.dtype.name]
    for rows in spool.strips(samples):
        with np.errstate(invalid="ignore", over="ignore"):  # of infinities
            colours = samples[rows, :, :-1] * (samples[rows, :, -1:].astype(np.float64) / white)
            samples[rows, :, :-1] = colours if white == 1 else np.rint(colours)


def turned(samples: Pixels, orientation: int) -> Pixels:
    """Turn (H, W) or (H, W, C) samples upright by their EXIF orientation."""
    if orientation > 4:
        samples = samples.swapaxes(0, 1)
    # The first stored row is the visual bottom (3, 4) or right (6, 7); the first column the right (2, 3) or
    # bottom.
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return contiguous(samples)


def from_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """Integers of fewer bits (9 to 16) scaled to 16, so that white stays white."""
    top = 2**bits - 1
    return ((values.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)


def to_bits(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    """16-bit integers rounded to fewer bits, in the upper bits."""
    top = 2**bits - 1
    rounded = (values.astype(np.uint32) * top + 32767) // 65535
    return (rounded << (16 - bits)).astype(np.uint16)
