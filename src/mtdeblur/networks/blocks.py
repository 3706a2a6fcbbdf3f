"""Building blocks that several networks share."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """conv - LeakyReLU - conv, plus the identity; no activation after the sum, no normalisation.

    Args:
        channels: in and out.
        kernel: side of both convolutions, odd.
        slope: of the LeakyReLU below zero; 0 is ReLU.
    """

    def __init__(self, channels: int, kernel: int, slope: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) to the same shape."""
        return x + self.conv2(functional.leaky_relu(self.conv1(x), self.slope))


def residual_blocks(channels: int, kernel: int, number: int, slope: float = 0.0) -> nn.Sequential:
    """A chain of residual blocks."""
    return nn.Sequential(*(ResidualBlock(channels, kernel, slope) for _ in range(number)))


class Halving(nn.Module):
    """Convolution with stride 2 and TensorFlow's "SAME" padding: (B, c, H, W) to (B, d, H/2, W/2), H, W even.

    For an even size that is one zero fewer at the top and left than at the bottom and right, where PyTorch's
    own padding is alike on all sides.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        self.padding = (before, after, before, after)
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        return self.conv(functional.pad(x, self.padding))


def doubling(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """Transposed convolution 4x4 with stride 2: (B, c, H, W) to (B, d, 2H, 2W)."""
    return nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)


def colours_apart(*images: Tensor) -> Tensor:
    """Some images or maps (B, 3 c, H, W) side by side for each colour, (3 B, n c, H, W).

    So R, G and B go through a network for grey images as if they were three pictures of the batch.
    """
    batch, _, height, width = images[0].shape
    apart = [x.reshape(3 * batch, -1, height, width) for x in images]
    return torch.cat(apart, dim=1)


def colours_together(x: Tensor) -> Tensor:
    """(3 B, c, H, W) to (B, 3 c, H, W), the reverse of `colours_apart` for one image or map."""
    return x.reshape(x.shape[0] // 3, -1, *x.shape[2:])


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network is built of: our modules of a class that occurs three times or more.

    A block inside another block is not listed. Compiled one by one, equal blocks share what is compiled: it
    takes seconds where the whole network takes a minute, and fuses nearly as much.
    """
    ours = [part for part in network.modules() if type(part).__module__.startswith("mtdeblur.networks.")]
    counts = Counter(type(part) for part in ours)
    blocks: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for part in ours:  # outer ones come first
        if counts[type(part)] >= 3 and part not in inside:
            blocks.append(part)
            inside.update(part.modules())
    return blocks
