"""Each convention against scikit-image, or a second statement of its definition, window by window."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mtdeblur.metrics.quality import SSIM_CONVENTIONS, psnr, ssim, ssims

KINDS = ("noise", "smooth", "equal", "constant", "black and white")


def as_tensor(*pictures):
    """(H, W, 3) arrays as a batch."""
    return torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2)


def waves(height=24, width=17, seed=0, noise=0.1):
    """An estimate, and the smooth picture that it is of: (H, W, 3) in [0, 1]."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    sharp = 0.5 + 0.4 * np.sin(rows / 3 + columns / 5)[..., None] * np.array([1.0, 0.7, -0.5])
    return np.clip(sharp + noise * generator.standard_normal(sharp.shape), 0, 1), sharp


def pair(kind, height, width, seed):
    generator = np.random.default_rng(seed)
    noise = generator.random((2, height, width, 3))
    if kind == "noise":
        return noise
    if kind == "smooth":
        return waves(height, width, seed, noise=0.02)
    if kind == "equal":
        return noise[0], noise[0]
    if kind == "constant":
        return np.broadcast_to(noise[:, :1, :1], noise.shape)
    return np.round(noise)


pairs = st.builds(
    pair, st.sampled_from(KINDS), st.integers(11, 50), st.integers(11, 50), st.integers(0, 9999)
)


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
@settings(max_examples=30)
@given(pictures=pairs)
def test_ssim_is_its_definition(convention, pictures):
    estimate, sharp = pictures
    expected = reference_ssim(estimate, sharp, convention)
    (found,) = ssim(as_tensor(estimate), as_tensor(sharp), convention)
    assert float(found) == pytest.approx(expected, abs=1e-9)


OF_SCIKIT_IMAGE = {
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
    "uniform": {"win_size": 7},
}
"""Its function takes no window deeper than the three channels, so it has no counterpart of "volume"."""


@pytest.mark.parametrize("convention", OF_SCIKIT_IMAGE)
@settings(max_examples=60)
@given(pictures=pairs)
def test_ssim_is_that_of_scikit_image(convention, pictures):
    estimate, sharp = pictures
    options = {"data_range": 1.0, "channel_axis": -1} | OF_SCIKIT_IMAGE[convention]
    (found,) = ssim(as_tensor(estimate), as_tensor(sharp), convention)
    assert float(found) == pytest.approx(structural_similarity(estimate, sharp, **options), abs=1e-9)


@given(pictures=pairs)
def test_psnr_of_8_bits_is_that_of_scikit_image(pictures):
    estimate, sharp = ((255 * picture).round().astype(np.uint8) for picture in pictures)
    with np.errstate(divide="ignore"):
        expected = peak_signal_noise_ratio(sharp, estimate)
    (found,) = psnr(as_tensor(estimate), as_tensor(sharp))
    assert float(found) == pytest.approx(expected)
    assert (float(found) == float("inf")) == bool((estimate == sharp).all())


def test_the_conventions_differ():
    measured = ssims(*(as_tensor(picture) for picture in waves()))
    assert len({round(float(value), 4) for value in measured.values()}) == len(SSIM_CONVENTIONS)


def test_all_conventions_at_once_are_each_by_itself():
    estimate, sharp = (as_tensor(picture) for picture in waves(40, 33))
    measured = ssims(estimate, sharp)
    assert list(measured) == list(SSIM_CONVENTIONS)
    for convention, value in measured.items():
        assert torch.equal(value, ssim(estimate, sharp, convention))


def test_a_batch_is_measured_picture_by_picture():
    pictures = [waves(19, 37, seed, noise) for seed, noise in ((1, 0.3), (2, 0.01), (3, 0.1))]
    estimates, sharps = (as_tensor(*column) for column in zip(*pictures, strict=True))
    apart = [(as_tensor(estimate), as_tensor(sharp)) for estimate, sharp in pictures]
    torch.testing.assert_close(psnr(estimates, sharps), torch.cat([psnr(*one) for one in apart]))
    for convention, values in ssims(estimates, sharps).items():
        torch.testing.assert_close(values, torch.cat([ssim(*one, convention) for one in apart]))


def test_the_layout_in_memory_does_not_count():
    estimate, sharp = (as_tensor(picture) for picture in waves(19, 37))
    turned = estimate.contiguous().transpose(-1, -2), sharp.contiguous().transpose(-1, -2)
    torch.testing.assert_close(psnr(*turned), psnr(estimate, sharp))
    for convention, values in ssims(*turned).items():
        torch.testing.assert_close(values, ssim(estimate, sharp, convention))


def test_a_difference_of_a_tenth_is_20_db():
    assert float(psnr(torch.full((1, 3, 3, 3), 0.6), torch.full((1, 3, 3, 3), 0.5))) == pytest.approx(20)


@given(pictures=pairs)
def test_equal_pictures_are_perfect(pictures):
    sharp = as_tensor(pictures[1])
    assert float(psnr(sharp, sharp)) == float("inf")
    for value in ssims(sharp, sharp).values():
        assert float(value) == pytest.approx(1, abs=1e-12)


def test_dtypes_are_measured_on_one_scale():
    eight = [as_tensor(np.round(picture * 255).astype(np.uint8)) for picture in waves(noise=0.05)]
    sixteen = [(picture.int() * 257).to(torch.uint16) for picture in eight]
    unit = [picture.double() / 255 for picture in eight]
    single = [picture.float() for picture in unit]
    for alike, tolerance in ((sixteen, 1e-12), (unit, 1e-12), (single, 1e-6)):
        torch.testing.assert_close(psnr(*alike), psnr(*eight), rtol=tolerance, atol=0)
        for convention, value in ssims(*alike).items():
            torch.testing.assert_close(value, ssim(*eight, convention), rtol=0, atol=tolerance)


def test_estimates_are_clipped_before_they_are_measured():
    white = torch.ones(1, 3, 12, 12)
    assert float(psnr(1.7 * white, white)) == float("inf")
    assert float(ssim(1.7 * white, white, "volume")) == 1


def test_what_cannot_be_measured_is_refused():
    small = torch.zeros(1, 3, 10, 30)
    with pytest.raises(ValueError, match="11x11"):
        ssim(small, small, "volume")
    with pytest.raises(ValueError, match="11x11"):
        ssims(small, small)
    for one, other in (
        (small, torch.zeros(1, 3, 30, 10)),
        (small[0], small[0]),
        (small[:, :1], small[:, :1]),
    ):
        with pytest.raises(ValueError, match=r"\(B, 3, H, W\) batches of one size"):
            psnr(one, other)
    with pytest.raises(ValueError, match="int64"):
        psnr(small.long(), small)
    with pytest.raises(ValueError, match="gaussian, uniform, volume"):
        ssim(small, small, "matlab")
