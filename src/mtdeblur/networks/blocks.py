"""Building blocks shared by several networks."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """conv - LeakyReLU - conv with a skip connection; no activation after the sum, no normalisation.

    Args:
        channels: input and output channels.
        kernel: kernel size of both convolutions, odd.
        slope: negative slope of the LeakyReLU; 0 is ReLU.
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
    """Convolution with stride 2 and TensorFlow's "SAME" padding.

    Maps (B, c, H, W) with H and W even to (B, d, H/2, W/2). Unlike PyTorch's symmetric padding, "SAME"
    adds one zero fewer at the top and left than at the bottom and right if the kernel is odd.
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
    """4x4 transposed convolution with stride 2: (B, c, H, W) to (B, d, 2H, 2W)."""
    return nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)


def colours_apart(*images: Tensor) -> Tensor:
    """Move the colours of n images or maps (B, 3 c, H, W) to the batch axis: (3 B, n c, H, W).

    A network for grey images then processes R, G and B separately.
    """
    batch, _, height, width = images[0].shape
    return torch.cat([x.reshape(3 * batch, -1, height, width) for x in images], dim=1)


def colours_together(x: Tensor) -> Tensor:
    """Inverse of `colours_apart` for one image or map: (3 B, c, H, W) to (B, 3 c, H, W)."""
    return x.reshape(x.shape[0] // 3, -1, *x.shape[2:])


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The outermost modules of this package whose class occurs at least three times in a network.

    Compiled one by one, equal blocks share their code: compilation takes seconds instead of a minute for
    the whole network, and fuses nearly as many operations.
    """
    ours = [part for part in network.modules() if type(part).__module__.startswith("mtdeblur.networks.")]
    counts = Counter(type(part) for part in ours)
    blocks: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for part in ours:  # outer modules come first
        if counts[type(part)] >= 3 and part not in inside:
            blocks.append(part)
            inside.update(part.modules())
    return blocks
