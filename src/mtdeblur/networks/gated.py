"""The gated depthwise block of NAFNet and of the efficient cell."""

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6  # of the normalisation


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, without a copy if x is channels-last."""
        normed = functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, EPS)
        return normed.permute(0, 3, 1, 2)


class GatedBlock(nn.Module):
    """Gated depthwise block of NAFNet (Chen et al., ECCV 2022): spatial, then channel mixing.

    Each is gated by the product of two halves of the channels. Without channel attention the block is
    local and costs 6 c^2 + 2 k^2 c multiply-accumulates a pixel, with depthwise kernel size k. The
    attention scales each channel by a 1x1 convolution of all channels' averages over the whole picture.
    """

    def __init__(self, channels: int, attention: bool = False, kernel: int = 3, norm: bool = True) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(channels) if norm else nn.Identity()
        self.expand1 = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(
            2 * channels, 2 * channels, kernel, padding=kernel // 2, groups=2 * channels
        )
        self.attention = nn.Conv2d(channels, channels, 1) if attention else None
        self.project1 = nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelLayerNorm(channels) if norm else nn.Identity()
        self.expand2 = nn.Conv2d(channels, 2 * channels, 1)
        self.project2 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) to the same shape."""
        left, right = self.depthwise(self.expand1(self.norm1(x))).chunk(2, dim=1)
        gated = left * right
        if self.attention is not None:
            gated = gated * self.attention(gated.mean(dim=(2, 3), keepdim=True))  # (B, c, 1, 1)
        x = x + _scaled(self.project1, self.beta, gated)
        left, right = self.expand2(self.norm2(x)).chunk(2, dim=1)
        return x + _scaled(self.project2, self.gamma, left * right)


def _scaled(project: nn.Conv2d, scale: Tensor, x: Tensor) -> Tensor:
    """`scale * project(x)`, with the scale (c, 1, 1) multiplied into the weights, which is cheaper."""
    bias = None if project.bias is None else project.bias * scale.flatten()
    return functional.conv2d(x, project.weight * scale[..., None], bias)
