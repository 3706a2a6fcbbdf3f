from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdeblur.metrics.spectrum import spectral_density


def naive(pixels, bins):
    """The definition, frequency by frequency: a windowed Fourier sum, and the mean of its power in a ring."""
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height), np.arange(width)
    window = np.outer(
        0.5 - 0.5 * np.cos(2 * np.pi * (rows + 0.5) / height),
        0.5 - 0.5 * np.cos(2 * np.pi * (columns + 0.5) / width),
    )
    rings = [[] for _ in range(bins)]
    for u in range(height):
        for v in range(width):
            fu, fv = (Fraction(min(k, n - k), n) for k, n in ((u, height), (v, width)))
            if fu**2 + fv**2 >= Fraction(1, 4):
                continue
            wave = np.exp(-2j * np.pi * (u * rows[:, None] / height + v * columns / width))
            power = [
                abs(np.sum((channel - channel.mean()) * window * wave)) ** 2 / np.sum(window**2)
                for channel in np.moveaxis(pixels, -1, 0)
            ]
            rings[isqrt(int((fu**2 + fv**2) * 4 * bins**2))].append(np.mean(power))
    return np.array([np.mean(ring) if ring else np.nan for ring in rings])


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)), bins=st.integers(1, 12), seed=st.integers(0, 999)
)
def test_the_density_is_its_definition(size, bins, seed):
    pixels = np.random.default_rng(seed).random((*size, 3))
    frequency, density = spectral_density(pixels, bins)
    np.testing.assert_allclose(density, naive(pixels, bins), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(frequency, (np.arange(bins) + 0.5) / (2 * bins))


def test_white_noise_has_its_variance_at_every_frequency():
    pixels = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((256, 300, 3))
    assert pixels.min() > 0
    assert pixels.max() < 1
    _, density = spectral_density(pixels, 16)
    np.testing.assert_allclose(density[1:], 0.01, rtol=0.05)


def test_a_wave_shows_at_its_frequency_alone():
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * 0.2 * np.arange(200))
    frequency, density = spectral_density(np.broadcast_to(wave[:, None], (200, 100))[..., None].repeat(3, -1))
    peak = int(np.nanargmax(density))
    assert abs(frequency[peak] - 0.2) < 1 / 128
    assert density[peak] > 1000 * np.median(density)


def test_a_grey_picture_holds_nothing_and_stored_values_are_brought_to_one():
    grey = np.full((20, 30, 3), 77, np.uint8)
    assert np.nanmax(spectral_density(grey)[1]) < 1e-25
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_allclose(spectral_density(pixels)[1], spectral_density(pixels / 255.0)[1])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (0, 8, 3)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="picture"):
        spectral_density(np.zeros(shape))
