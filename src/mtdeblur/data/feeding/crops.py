"""Crops of pictures for training, the same for all pictures of an exposure."""

import numpy as np
import torch
from torch import Tensor

from mtdeblur.data.disk.decode import Pixels


def random_corner(rng: np.random.Generator, picture: Pixels, side: int) -> tuple[int, int]:
    """Top and left of a random crop inside the picture; 0 along an axis that is too short."""
    height, width = len(picture), len(picture[0])
    return int(rng.integers(max(height - side, 0) + 1)), int(rng.integers(max(width - side, 0) + 1))


def cut(picture: Pixels, corner: tuple[int, int], side: int) -> Pixels:
    """A crop (side, side, 3); a picture that is too small is padded by its mirror image."""
    top, left = corner
    part = picture[top : top + side, left : left + side]
    gaps = [side - length for length in part.shape[:2]]
    if any(gaps):
        part = np.pad(part, [*((gap // 2, gap - gap // 2) for gap in gaps), (0, 0)], mode="symmetric")
    return part


def turn(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (..., H, H) under one random flip and quarter turn."""
    images = images.flip(-1) if rng.integers(2) else images
    return torch.rot90(images, int(rng.integers(4)), (-2, -1))


def to_tensor(*pictures: Pixels) -> Tensor:
    """Pictures (H, W, 3) of one size as a tensor (N, 3, H, W), uint8, channels-last."""
    stacked: Tensor = torch.from_numpy(np.stack(pictures))  # pyright: ignore[reportUnknownMemberType]
    return stacked.movedim(-1, 1)
