"""Peak signal-to-noise ratio and structural similarity, each by a named convention.

Pictures are batches of tensors (B, 3, H, W) on any device: uint8 and uint16 over their whole range, or
floats in [0, 1]. All are brought to [0, 1] and measured in float64, so the data range is 1: on 8-bit pictures
that is the same as a data range of 255 on the stored values. `mtdeblur.metrics.arrays` takes arrays.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

PSNR_CONVENTION = "dB over all pixels and channels of RGB, data range 1, estimates rounded as they are stored"
SSIM_CONVENTIONS = {
    "gaussian": "Gaussian window 11x11, sigma 1.5, per channel, without borders (Wang et al. 2004)",
    "uniform": "uniform window 7x7, sample covariance, per channel, without borders (scikit-image's default)",
    "volume": "Gaussian window 11x11x11, sigma 1.5, across channels too, replicated borders (MATLAB, RGB)",
}
"""Name of each SSIM convention and what it stands for; all with K1 = 0.01, K2 = 0.03 and data range 1."""

SMALLEST_SIDE = 11
"""Height and width from which every convention is defined."""

_C1, _C2 = 0.01**2, 0.03**2
_RADIUS = 5  # of the longest window
_STRIP = 16  # rows that are measured at once: what they need fits into a processor's cache

_LARGEST = {torch.uint8: 255, torch.uint16: 65535}


class _Convention(NamedTuple):
    """What tells one SSIM convention from another.

    Attributes:
        window: a name of `_WINDOWS`.
        margin: pixels at each border where no window is placed.
        correction: of variances and covariance, n / (n - 1) for those of a sample of n.
        across: the window covers the channels too.
    """

    window: str
    margin: int
    correction: float = 1.0
    across: bool = False


_CONVENTIONS = {
    "gaussian": _Convention("gaussian", margin=5),
    "uniform": _Convention("uniform", margin=3, correction=49 / 48),
    "volume": _Convention("gaussian", margin=0, across=True),
}
_OFFSETS = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
_WINDOWS = {
    "gaussian": torch.softmax(-(_OFFSETS**2) / (2 * 1.5**2), dim=0),
    "uniform": (_OFFSETS.abs() <= 3).double() / 7,
}
"""Weights of each window along an axis, of sum 1, (11,)."""


def psnr(estimate: Tensor, sharp: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, see `PSNR_CONVENTION`; infinite for equal pictures.

    Args:
        estimate: (B, 3, H, W), uint8, uint16 or float in [0, 1]; floats beyond are clipped.
        sharp: ground truth of the same shape.

    Returns:
        (B,), float64, on the pictures' device; on the CPU if that device has no float64 (mps).

    Raises:
        ValueError: if the shapes differ or a dtype is none of these.
    """
    estimate, sharp = _as_pair(estimate, sharp)
    return -10 * torch.log10((as_unit(estimate) - as_unit(sharp)).square().mean(dim=(1, 2, 3)))


def ssim(estimate: Tensor, sharp: Tensor, convention: str) -> Tensor:
    """Structural similarity by one convention, averaged over the picture (Wang et al., 2004).

    Args:
        estimate: (B, 3, H, W), at least 11 pixels high and wide, uint8, uint16 or float in [0, 1]; floats
            beyond are clipped.
        sharp: ground truth of the same shape.
        convention: a name of `SSIM_CONVENTIONS`.

    Returns:
        (B,), float64, on the pictures' device; on the CPU if that device has no float64 (mps).

    Raises:
        ValueError: if the shapes differ, the pictures are too small, or a dtype or the convention is unknown.
    """
    if convention not in _CONVENTIONS:
        raise ValueError(f"unknown SSIM convention {convention!r}; known: {', '.join(_CONVENTIONS)}")
    return _means(estimate, sharp, {convention: _CONVENTIONS[convention]})[convention]


def ssims(estimate: Tensor, sharp: Tensor) -> dict[str, Tensor]:
    """Structural similarity by name of the convention, see `ssim`; cheaper than one after the other."""
    return _means(estimate, sharp, _CONVENTIONS)


def as_unit(pixels: Tensor) -> Tensor:
    """Pixels of any of these dtypes, brought to [0, 1] in float64.

    Raises:
        ValueError: if the dtype is none of these.
    """
    if pixels.dtype in _LARGEST:
        return pixels.double() / _LARGEST[pixels.dtype]
    if pixels.is_floating_point():
        return pixels.double().clamp(0, 1)
    raise ValueError(f"expected uint8, uint16 or float in [0, 1], not {pixels.dtype}")


def _as_pair(estimate: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
    if estimate.shape != sharp.shape or sharp.dim() != 4 or sharp.shape[1] != 3:
        shapes = f"{tuple(estimate.shape)} and {tuple(sharp.shape)}"
        raise ValueError(f"expected two (B, 3, H, W) batches of one size, not {shapes}")
    if sharp.device.type == "mps":
        return estimate.cpu(), sharp.cpu()
    return estimate, sharp


def _means(estimate: Tensor, sharp: Tensor, conventions: dict[str, _Convention]) -> dict[str, Tensor]:
    """Mean similarity by name of the convention, each (B,)."""
    estimate, sharp = _as_pair(estimate, sharp)
    height, width = sharp.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"SSIM needs pictures of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels")
    windows = {convention.window for convention in conventions.values()}
    bands = {window: _band(_WINDOWS[window]).to(sharp.device) for window in windows}
    across = _across(_WINDOWS["gaussian"]).to(sharp.device)
    totals = {name: torch.zeros(len(sharp), dtype=torch.float64, device=sharp.device) for name in conventions}
    for top, products in _strips(estimate, sharp):
        moments = {window: _convolve(products, band) for window, band in bands.items()}
        for name, (window, margin, correction, over_channels) in conventions.items():
            local = moments[window]
            if over_channels:
                local = (across @ local.flatten(-2)).view_as(local)
            first, end = max(0, margin - top), max(0, height - margin - top)
            kept = local[..., first:end, margin : width - margin]
            totals[name] += _similarity(kept, correction).sum(dim=(1, 2, 3))
    return {
        name: total / (3 * (height - 2 * c.margin) * (width - 2 * c.margin))
        for (name, total), c in zip(totals.items(), conventions.values(), strict=True)
    }


def _strips(estimate: Tensor, sharp: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each strip's first row, and what is averaged over windows to find the moments.

    The five moments are needed as four: the means, the sum of both mean squares, and the mean product.

    Yields:
        The row, and x, y, x^2 + y^2 and 2xy of the strip and 5 pixels around it, beyond the picture the
        nearest ones: (4, B, 3, 16 + 10, W + 10), W rounded up to a multiple of 16.
    """
    height, width = sharp.shape[-2:]
    sides = (_RADIUS, -width % _STRIP + _RADIUS, 0, 0)
    for top in range(0, height, _STRIP):
        rows = torch.arange(top - _RADIUS, top + _STRIP + _RADIUS, device=sharp.device).clamp(0, height - 1)
        x, y = (pad(as_unit(batch[:, :, rows]), sides, mode="replicate") for batch in (estimate, sharp))
        yield top, torch.stack([x, y, x * x + y * y, 2 * x * y])


def _band(window: Tensor) -> Tensor:
    """The matrix that averages over a window placed at each of 16 pixels in a row, (16, 16 + 10)."""
    band = torch.zeros(_STRIP, _STRIP + 2 * _RADIUS, dtype=torch.float64)
    for pixel in range(_STRIP):
        band[pixel, pixel : pixel + len(window)] = window
    return band


def _across(window: Tensor) -> Tensor:
    """The matrix that averages over a window across the channels, the outer ones repeated, (3, 3)."""
    channels = torch.arange(-_RADIUS, 3 + _RADIUS).clamp(0, 2)
    across = torch.zeros(3, 3, dtype=torch.float64)
    for channel in range(3):
        across[channel].index_add_(0, channels[channel : channel + len(window)], window)
    return across


def _convolve(maps: Tensor, band: Tensor) -> Tensor:
    """Average over a separable window: (..., 16 + 10, W + 10) to (..., 16, W).

    As products of matrices, which in float64 are many times as fast as PyTorch's convolutions.
    """
    pieces = (band @ maps).unfold(-1, band.shape[1], _STRIP)  # (..., 16, W / 16, 16 + 10)
    averages = pieces.reshape(-1, band.shape[1]) @ band.T
    return averages.view(*pieces.shape[:-2], -1)


def _similarity(moments: Tensor, correction: float) -> Tensor:
    """Eq. (13) of Wang et al.: (4, ...), averages of x, y, x^2 + y^2 and 2xy, to (...)."""
    x, y, squares, product = moments
    mean_squares, mean_product = x * x + y * y, 2 * x * y
    c2 = _C2 / correction
    above = (mean_product + _C1) * (product - mean_product + c2)
    below = (mean_squares + _C1) * (squares - mean_squares + c2)
    return above / below
