"""Peak signal-to-noise ratio and structural similarity, each by a named convention.

Pictures are numpy arrays (H, W, 3) of one height and width: uint8 and uint16 over their whole range, or
floats in [0, 1]. All are brought to [0, 1] and measured in float64, so the data range is 1: on 8-bit pictures
that is the same as a data range of 255 on the stored values. PSNR needs numpy alone, SSIM scikit-image.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
_Unit = NDArray[np.float64]

PSNR_CONVENTION = "dB over all pixels and channels of RGB, data range 1, estimates rounded as they are stored"
SSIM_CONVENTIONS = {
    "gaussian": "Gaussian window 11x11, sigma 1.5, per channel, without borders (Wang et al. 2004)",
    "uniform": "uniform window 7x7, sample covariance, per channel, without borders (scikit-image's default)",
    "volume": "Gaussian window 11x11x11, sigma 1.5, across channels too, replicated borders (MATLAB, RGB)",
}
"""Name of each SSIM convention and what it stands for; all with K1 = 0.01, K2 = 0.03 and data range 1."""

SMALLEST_SIDE = 11
"""Height and width from which every convention is defined."""


def psnr(estimate: Pixels, sharp: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, see `PSNR_CONVENTION`; infinite for equal pictures.

    Args:
        estimate: (H, W, 3), uint8, uint16 or float in [0, 1].
        sharp: ground truth of the same shape.

    Raises:
        ValueError: if the shapes differ or a dtype is none of these.
    """
    return _psnr(*_as_pair(estimate, sharp))


def ssim(estimate: Pixels, sharp: Pixels, convention: str) -> float:
    """Structural similarity, averaged over the picture (Wang et al., 2004).

    Args:
        estimate: (H, W, 3), at least 11 pixels high and wide, uint8, uint16 or float in [0, 1].
        sharp: ground truth of the same shape.
        convention: a name of `SSIM_CONVENTIONS`.

    Raises:
        ValueError: if the shapes differ, the pictures are too small, or a dtype or the convention is unknown.
    """
    if convention not in _SSIM:
        raise ValueError(f"unknown SSIM convention {convention!r}; known: {', '.join(_SSIM)}")
    unit_estimate, unit_sharp = _as_pair(estimate, sharp)
    if min(unit_sharp.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(f"SSIM needs pictures of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels")
    return _SSIM[convention](unit_estimate, unit_sharp)


def _as_pair(estimate: Pixels, sharp: Pixels) -> tuple[_Unit, _Unit]:
    if estimate.shape != sharp.shape or sharp.ndim != 3 or sharp.shape[2] != 3:
        raise ValueError(
            f"expected two (H, W, 3) pictures of one size, not {estimate.shape} and {sharp.shape}"
        )
    return as_unit(estimate), as_unit(sharp)


def as_unit(pixels: Pixels) -> _Unit:
    """A picture of any of these dtypes, brought to [0, 1] in float64.

    Raises:
        ValueError: if the dtype is none of these.
    """
    if pixels.dtype == np.uint8 or pixels.dtype == np.uint16:
        return pixels.astype(np.float64) / np.iinfo(pixels.dtype).max
    if np.issubdtype(pixels.dtype, np.floating):
        return pixels.astype(np.float64).clip(0, 1)
    raise ValueError(f"expected uint8, uint16 or float in [0, 1], not {pixels.dtype}")


def _psnr(estimate: _Unit, sharp: _Unit) -> float:
    error = float(np.mean((estimate - sharp) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def _ssim_gaussian(estimate: _Unit, sharp: _Unit) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return _scikit_ssim(estimate, sharp, **options)


def _ssim_uniform(estimate: _Unit, sharp: _Unit) -> float:
    return _scikit_ssim(estimate, sharp, win_size=7)


def _scikit_ssim(estimate: _Unit, sharp: _Unit, **options: Any) -> float:
    from skimage.metrics import structural_similarity  # pyright: ignore[reportUnknownVariableType]

    similarity = cast(Any, structural_similarity)
    return float(similarity(estimate, sharp, data_range=1.0, channel_axis=-1, **options))


def _ssim_volume(estimate: _Unit, sharp: _Unit) -> float:
    """Eq. (13) of Wang et al. itself: scikit-image's function takes no window deeper than the 3 channels."""
    from skimage.filters import gaussian  # pyright: ignore[reportUnknownVariableType]

    def mean(values: _Unit) -> _Unit:  # truncated at 5 pixels
        return cast(Any, gaussian)(values, sigma=1.5, truncate=3.5, mode="nearest", channel_axis=None)

    mean_x, mean_y = mean(estimate), mean(sharp)
    variance_x = mean(estimate**2) - mean_x**2
    variance_y = mean(sharp**2) - mean_y**2
    covariance = mean(estimate * sharp) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure))


_SSIM: dict[str, Callable[[_Unit, _Unit], float]] = {
    "gaussian": _ssim_gaussian,
    "uniform": _ssim_uniform,
    "volume": _ssim_volume,
}
