"""The measures of `quality`, of pictures as arrays (H, W, 3), uint8, uint16 or float in [0, 1]."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtdeblur.metrics import quality

Pixels = NDArray[Any]


def psnr(estimate: Pixels, sharp: Pixels) -> float:
    """Peak signal-to-noise ratio in dB of an array (H, W, 3), see `quality.psnr`."""
    return float(quality.psnr(as_tensor(estimate), as_tensor(sharp)))


def ssim(estimate: Pixels, sharp: Pixels, convention: str) -> float:
    """Structural similarity of an array (H, W, 3), see `quality.ssim`."""
    return float(quality.ssim(as_tensor(estimate), as_tensor(sharp), convention))


def ssims(estimate: Pixels, sharp: Pixels) -> dict[str, float]:
    """Structural similarity of an array (H, W, 3) by every convention, see `quality.ssims`."""
    measured = quality.ssims(as_tensor(estimate), as_tensor(sharp))
    return {name: float(value) for name, value in measured.items()}


def as_tensor(pixels: Pixels) -> Tensor:
    """A picture (H, W, 3) as a batch of one, (1, 3, H, W), of the same dtype and values; a copy.

    Raises:
        ValueError: if it is no such picture.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected a picture (H, W, 3), not {pixels.shape}")
    planes = np.array(pixels.transpose(2, 0, 1), order="C")
    return torch.from_numpy(planes)[None]  # pyright: ignore[reportUnknownMemberType]
