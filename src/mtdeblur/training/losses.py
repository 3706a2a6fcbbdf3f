"""What training minimises for each iteration, from its estimate and the picture that it aims at."""

from typing import Any

import torch
from torch import Tensor

from mtdeblur.training.config import OptimiserConfig


def l1(estimate: Tensor, sharp: Tensor) -> Tensor:
    """The paper's L1 loss of each sample: (B, C, H, W) in [0, 1] twice to (B,)."""
    return (estimate - sharp).abs().mean(dim=(1, 2, 3))


def frequency_l1(estimate: Tensor, sharp: Tensor) -> Tensor:
    """L1 distance of each sample's discrete Fourier transforms, after Cho et al. (MIMO-UNet, ICCV 2021).

    The transform is unitary, so that the loss does not depend on the patch's size. White noise costs what it
    costs as L1 of pixels, an error of few frequencies less.

    Args:
        estimate: (B, C, H, W) in [0, 1].
        sharp: the same shape.

    Returns:
        (B,): the mean over frequencies and channels of (|real part| + |imaginary part|) / sqrt(2).
    """
    fft: Any = torch.fft  # PyTorch does not say of which type its functions are
    spectrum: Tensor = fft.fft2((estimate - sharp).float(), norm="ortho")  # (B, C, H, W), complex
    return torch.view_as_real(spectrum).abs().sum(dim=-1).mean(dim=(1, 2, 3)) / 2**0.5


def log_l1(distances: Tensor) -> Tensor:
    """The mean logarithm of the samples' L1 loss: like PSNR it counts by which factor an error shrinks.

    A mildly blurred sample, which L1 all but overlooks beside severe ones, gets more weight; what lies below
    four grey levels gets no more than that, or severe blur would be overlooked in turn.

    Args:
        distances: (B,) L1 losses of images in [0, 1], float, not negative.
    """
    return (distances + 4 / 255).log().mean()


def objective(estimate: Tensor, sharp: Tensor, settings: OptimiserConfig) -> Tensor:
    """What is minimised over a batch: the configured loss of pixels, and of frequencies where they count too.

    Args:
        estimate: of one iteration, (B, C, H, W) in [0, 1].
        sharp: what it aims at, the same shape.
        settings: of the optimiser.
    """
    distances, weight = l1(estimate, sharp), settings.frequency
    if weight:
        distances = (distances + weight * frequency_l1(estimate, sharp)) / (1 + weight)
    return distances.mean() if settings.loss == "l1" else log_l1(distances)
