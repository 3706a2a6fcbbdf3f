"""Each convention against a second statement of its definition, window by window, in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.lib.stride_tricks import sliding_window_view

from mtdeblur.evaluation.metrics import SSIM_CONVENTIONS, psnr, ssim


def pair(height=24, width=17, seed=0, noise=0.1):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = 0.5 + 0.4 * np.sin(rows / 3 + columns / 5)[..., None] * np.array([1.0, 0.7, -0.5])
    return np.clip(waves + noise * generator.standard_normal(waves.shape), 0, 1), waves


def gaussian_window(dimensions):
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    window = taps
    for _ in range(dimensions - 1):
        window = np.multiply.outer(window, taps)
    return window


def ssim_of_windows(x, y, window, correction=1.0):
    """x, y: (..., *window.shape) windows; mean of SSIM over them, by deviations from each window's mean."""
    axes = tuple(range(-window.ndim, 0))
    mean_x, mean_y = (np.sum(z * window, axis=axes, keepdims=True) for z in (x, y))
    variance_x = np.sum(window * (x - mean_x) ** 2, axis=axes) * correction
    variance_y = np.sum(window * (y - mean_y) ** 2, axis=axes) * correction
    covariance = np.sum(window * (x - mean_x) * (y - mean_y), axis=axes) * correction
    mean_x, mean_y = mean_x.squeeze(axes), mean_y.squeeze(axes)
    numerator = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    denominator = (mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2)
    return np.mean(numerator / denominator)


def reference_ssim(x, y, convention):
    if convention == "volume":
        x, y = (np.pad(z, 5, mode="edge") for z in (x, y))
        return ssim_of_windows(
            sliding_window_view(x, (11, 11, 11)), sliding_window_view(y, (11, 11, 11)), gaussian_window(3)
        )
    side = 7 if convention == "uniform" else 11
    window = np.full((7, 7), 1 / 49) if convention == "uniform" else gaussian_window(2)
    correction = 49 / 48 if convention == "uniform" else 1.0
    x, y = (sliding_window_view(z, (side, side), axis=(0, 1)) for z in (x, y))
    return ssim_of_windows(x, y, window, correction)


@pytest.mark.parametrize("convention", SSIM_CONVENTIONS)
@pytest.mark.parametrize("size", [(24, 17), (11, 11), (12, 40)])
def test_ssim_is_its_definition(convention, size):
    estimate, sharp = pair(*size)
    expected = reference_ssim(estimate, sharp.clip(0, 1), convention)
    assert ssim(estimate, sharp, convention) == pytest.approx(expected, abs=1e-9)


def test_the_conventions_differ():
    estimate, sharp = pair()
    values = {round(ssim(estimate, sharp, convention), 4) for convention in SSIM_CONVENTIONS}
    assert len(values) == len(SSIM_CONVENTIONS)


@settings(max_examples=30)
@given(
    arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 255)),
    arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 255)),
)
def test_psnr_of_8_bits_is_that_of_a_range_of_255(estimate, sharp):
    error = np.mean((estimate.astype(np.int64) - sharp.astype(np.int64)) ** 2)
    with np.errstate(divide="ignore"):
        expected = 10 * np.log10(255**2 / error)
    assert psnr(estimate, sharp) == pytest.approx(expected)


def test_a_difference_of_a_tenth_is_20_db():
    assert psnr(np.full((3, 3, 3), 0.6), np.full((3, 3, 3), 0.5)) == pytest.approx(20)


@pytest.mark.parametrize("convention", SSIM_CONVENTIONS)
def test_equal_pictures_are_perfect(convention):
    _, sharp = pair()
    assert ssim(sharp, sharp, convention) == pytest.approx(1, abs=1e-12)
    assert psnr(sharp, sharp) == float("inf")


@pytest.mark.parametrize("convention", SSIM_CONVENTIONS)
def test_bit_depths_are_measured_on_one_scale(convention):
    estimate, sharp = (np.round(z * 255).astype(np.uint8) for z in pair(noise=0.05))
    wider_estimate, wider_sharp = (z.astype(np.uint16) * 257 for z in (estimate, sharp))
    unit_estimate, unit_sharp = estimate / 255, sharp / 255
    assert psnr(estimate, sharp) == pytest.approx(psnr(wider_estimate, unit_sharp))
    assert ssim(estimate, sharp, convention) == pytest.approx(ssim(wider_estimate, wider_sharp, convention))
    assert ssim(estimate, sharp, convention) == pytest.approx(ssim(unit_estimate, unit_sharp, convention))


def test_estimates_are_clipped_before_they_are_measured():
    assert psnr(np.full((3, 3, 3), 1.7), np.ones((3, 3, 3))) == float("inf")


def test_what_cannot_be_measured_is_refused():
    small = np.zeros((10, 30, 3))
    with pytest.raises(ValueError, match="11x11"):
        ssim(small, small, "volume")
    with pytest.raises(ValueError, match="one size"):
        psnr(small, np.zeros((30, 10, 3)))
    with pytest.raises(ValueError, match="one size"):
        psnr(np.zeros((4, 4)), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="int64"):
        psnr(np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="gaussian, uniform, volume"):
        ssim(small, small, "matlab")
