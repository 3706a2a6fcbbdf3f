"""Loss functions of one iteration."""

from typing import Any

import torch
from torch import Tensor

from mtdeblur.training.config import OptimiserConfig


def l1(estimate: Tensor, sharp: Tensor) -> Tensor:
    """The paper's L1 loss of each sample: (B, C, H, W) in [0, 1] twice to (B,)."""
    return (estimate - sharp).abs().mean(dim=(1, 2, 3))


def frequency_l1(estimate: Tensor, sharp: Tensor) -> Tensor:
    """L1 distance of each sample's discrete Fourier transforms, after Cho et al. (MIMO-UNet, ICCV 2021).

    The transform is unitary, so that the loss does not depend on the patch size. For white noise it
    equals the L1 loss of pixels; for an error in few frequencies it is smaller.

    Args:
        estimate: (B, C, H, W) in [0, 1].
        sharp: the same shape.

    Returns:
        (B,): the mean over frequencies and channels of (|real part| + |imaginary part|) / sqrt(2).
    """
    fft: Any = torch.fft  # untyped in PyTorch
    spectrum: Tensor = fft.fft2((estimate - sharp).float(), norm="ortho")  # (B, C, H, W), complex
    return torch.view_as_real(spectrum).abs().sum(dim=-1).mean(dim=(1, 2, 3)) / 2**0.5


def log_l1(distances: Tensor) -> Tensor:
    """Mean logarithm of the samples' L1 losses; like PSNR it measures relative improvement.

    Mildly blurred samples get more weight than with L1. An offset of 4 grey levels limits that weight,
    so that severe blur still counts.

    Args:
        distances: (B,) L1 losses of images in [0, 1], float, not negative.
    """
    return (distances + 4 / 255).log().mean()


def objective(estimate: Tensor, sharp: Tensor, settings: OptimiserConfig) -> Tensor:
    """The configured loss over a batch, a scalar.

    Args:
        estimate: of one iteration, (B, C, H, W) in [0, 1].
        sharp: the iteration's goal, same shape.
        settings: of the optimiser.
    """
    distances, weight = l1(estimate, sharp), settings.frequency
    if weight:
        distances = (distances + weight * frequency_l1(estimate, sharp)) / (1 + weight)
    return distances.mean() if settings.loss == "l1" else log_l1(distances)
