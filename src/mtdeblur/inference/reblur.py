"""How much of a deblurred picture motion blur explains, from the two pictures alone.

If an estimate is right, the blurred picture is the estimate moved along the camera's path: a convolution
with a kernel that is nowhere negative and adds up to 1. The best such kernel is fitted by regularised least
squares. What remains of the change after blurring the estimate with it was invented, or is noise: contrast,
texture and ripples that no motion would have removed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 31
"""Height and width of the kernel in pixels; a window of 512 pixels rarely has blur that is longer."""
ROUNDS = 100
"""Rounds of the accelerated projected gradient method (Beck and Teboulle, 2009)."""
REGULARISATION = 1e-3
"""Of the normal equations, relative to the energy of the gradients."""
_FFT: Any = torch.fft  # has no type stubs


def explained(blurred: Tensor, estimate: Tensor) -> float:
    """The share of a change that motion blur explains.

    It is 1 - |k * estimate - blurred|^2 / |estimate - blurred|^2 for the best kernel k.

    Args:
        blurred: (3, H, W) in [0, 1], float.
        estimate: likewise.

    Returns:
        From 0, for a change that no motion blur explains, to 1. 1 for no change.
    """
    blurred, estimate = blurred.cpu(), estimate.cpu()  # not every device has float64
    changed = (estimate - blurred).square().sum()
    side = min(SIDE, *(length - 1 + length % 2 for length in blurred.shape[-2:]))
    if not changed > 0 or side < 3:
        return 1.0
    kernel = fit_kernel(blurred.mean(dim=0), estimate.mean(dim=0), side)
    left = (convolve(estimate, kernel) - blurred).square().sum()
    return float((1 - left / changed).clamp(0, 1))


def fit_kernel(blurred: Tensor, sharp: Tensor, side: int = SIDE) -> Tensor:
    """The motion-blur kernel that turns one picture into the other as well as possible.

    Gradients are compared, so that brightness plays no part; they are weighted less towards the edges of
    the pictures.

    Args:
        blurred: (H, W), float.
        sharp: likewise.
        side: of the kernel, odd, at most the smaller of H and W.

    Returns:
        (side, side), nowhere negative, with sum 1; flipped, so that it is correlated with `sharp`.
    """
    auto, cross = _correlations(_gradients(blurred), _gradients(sharp), side)
    radius, height, width = side // 2, *auto.shape
    offsets = torch.arange(-radius, radius + 1, device=auto.device)
    down, right = (grid.flatten() for grid in torch.meshgrid(offsets, offsets, indexing="ij"))
    apart = (down[:, None] - down) % height, (right[:, None] - right) % width
    matrix = auto[apart]
    matrix.diagonal().add_(REGULARISATION * auto[0, 0])
    return _solve(matrix, cross[-down % height, -right % width]).view(side, side).to(sharp.dtype)


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each channel of (C, H, W) with a kernel of odd size; edges are repeated."""
    radius = kernel.shape[0] // 2
    padded = functional.pad(image[:, None], (radius,) * 4, mode="replicate")
    return functional.conv2d(padded, kernel[None, None].to(image))[:, 0]


def _gradients(image: Tensor) -> Tensor:
    """Differences down and to the right, smoothed against noise, times a window: (2, H - 1, W - 1)."""
    taps = torch.tensor([0.25, 0.5, 0.25], device=image.device)
    smooth = convolve(image[None], torch.outer(taps, taps))[0].double()
    rows, columns = (
        torch.hann_window(length + 1, periodic=False, dtype=torch.float64, device=image.device)[1:-1].sqrt()
        for length in smooth.shape
    )
    down = smooth.diff(dim=0)[:, :-1]
    return torch.stack([down, smooth.diff(dim=1)[:-1]]) * torch.outer(rows, columns)


def _correlations(blurred: Tensor, sharp: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Correlation of the sharp gradients with themselves and with the blurred ones, at cyclic offsets."""
    size = [length + side for length in sharp.shape[-2:]]
    spectrum = _FFT.rfft2(sharp, size)
    crossed: Tensor = (spectrum.conj() * _FFT.rfft2(blurred, size)).sum(dim=0)
    own: Tensor = spectrum.abs().square().sum(dim=0)
    return _FFT.irfft2(own, size), _FFT.irfft2(crossed, size)


def _solve(matrix: Tensor, target: Tensor) -> Tensor:
    """Minimise x M x / 2 - t x over x >= 0 with sum 1, from the kernel that blurs nothing."""
    rate = 1 / matrix.abs().sum(dim=0).max()
    x = torch.zeros_like(target)
    x[len(x) // 2] = 1
    ahead, momentum = x, 1.0
    for _ in range(ROUNDS):
        after = _onto_simplex(ahead - rate * (matrix @ ahead - target))
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = after + (momentum - 1) / following * (after - x)
        x, momentum = after, following
    return x


def _onto_simplex(x: Tensor) -> Tensor:
    """The nearest point with no negative element and sum 1 (Duchi et al., ICML 2008)."""
    ordered = x.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(1, len(x) + 1, device=x.device)
    last = (ordered > excess).nonzero()[-1, 0]
    return (x - excess[last]).clamp(min=0)
