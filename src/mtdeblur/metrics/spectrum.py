"""Spectral density of pictures: how much each spatial frequency holds (Fig. 5 of the paper)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.metrics.arrays import as_tensor
from mtdeblur.metrics.quality import as_unit

Spectrum = NDArray[np.float64]


def spectral_density(pixels: NDArray[Any], bins: int = 64) -> tuple[Spectrum, Spectrum]:
    """Azimuthally averaged power spectral density, averaged over the colours.

    The mean colour is subtracted and a Hann window laid over the picture, so that its borders count for
    nothing; the density is scaled so that white noise of variance v has density v at every frequency.

    Args:
        pixels: (H, W, 3), uint8, uint16 or float in [0, 1].
        bins: rings of equal width between 0 and 1/2 cycle a pixel.

    Returns:
        Frequency of each ring's middle in cycles a pixel, (bins,), and the mean density in it, (bins,), not a
        number for a ring without a frequency in it. The corners above 1/2 cycle a pixel are left out.

    Raises:
        ValueError: if the array is no such picture, or there are no bins.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or bins < 1:
        raise ValueError(f"expected a (H, W, 3) picture and bins, not {pixels.shape} and {bins}")
    unit = as_unit(as_tensor(pixels))[0].permute(1, 2, 0).numpy()  # (H, W, 3)
    height, width = unit.shape[:2]
    window = np.outer(_hann(height), _hann(width))
    windowed = (unit - unit.mean(axis=(0, 1))) * window[..., None]
    power = np.abs(np.fft.fft2(windowed, axes=(0, 1))) ** 2 / np.sum(window**2)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = np.floor(radius * 2 * bins + 1e-9).astype(int)  # one on an edge belongs to the ring outside
    inside = ring < bins
    total = np.bincount(ring[inside], weights=power.mean(axis=-1)[inside], minlength=bins)
    count = np.bincount(ring[inside], minlength=bins)
    density = np.full(bins, np.nan)
    np.divide(total, count, out=density, where=count > 0)
    return (np.arange(bins) + 0.5) / (2 * bins), density


def _hann(length: int) -> Spectrum:
    """Hann window whose zeros lie half a pixel outside of the picture, (length,)."""
    return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
