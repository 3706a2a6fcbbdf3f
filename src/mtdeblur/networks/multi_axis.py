"""Building blocks of MAXIM (Tu et al., CVPR 2022): gated MLPs that mix pixels along two axes.

Maps are (B, H, W, C): dense layers and normalisation work on the last axis without a copy, and the
permuted view for a convolution is already channels-last.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Axis = Literal["grid", "block"]
EPS = 1e-6  # of every layer normalisation
SLOPE = 0.2  # of every LeakyReLU
REDUCTION = 4  # of channels in the channel attention


class Convolution(nn.Conv2d):
    """Convolution of (B, H, W, c) to (B, H', W', d)."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve."""
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Doubling(nn.ConvTranspose2d):
    """2x2 transposed convolution with stride 2: (B, H, W, c) to (B, 2H, 2W, d)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 2, stride=2)  # pyright: ignore[reportUnknownMemberType]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Double height and width."""
        return super().forward(input.permute(0, 3, 1, 2), output_size).permute(0, 2, 3, 1)


class TokenMixing(nn.Linear):
    """Dense layer over the tokens of each block or of the grid, for each channel separately.

    `block`: the picture is cut into blocks of side x side neighbouring pixels; the tokens are the pixels
    of a block. `grid`: the picture is cut into side x side cells; the tokens are the pixels at one
    position in all cells, so that every pixel depends on the whole picture.

    Args:
        side: side of a block, or of the grid.
        axis: `grid` or `block`.
    """

    def __init__(self, side: int, axis: Axis) -> None:
        super().__init__(side * side, side * side)  # pyright: ignore[reportUnknownMemberType]
        self.side = side
        self.axis: Axis = axis

    def forward(self, input: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape; H and W are multiples of the side."""
        tokens = split_tokens(input, self.side, self.axis)  # (s, s, B, H/s, W/s, C)
        mixed = torch.addmm(self.bias[:, None], self.weight, tokens.reshape(self.side**2, -1))
        return join_tokens(mixed.view(tokens.shape), self.axis)


def split_tokens(x: Tensor, side: int, axis: Axis) -> Tensor:
    """View (B, H, W, C) as (side, side, B, H / side, W / side, C), with the token axes first."""
    b, h, w, c = x.shape
    if axis == "grid":
        return x.reshape(b, side, h // side, side, w // side, c).permute(1, 3, 0, 2, 4, 5)
    return x.reshape(b, h // side, side, w // side, side, c).permute(2, 4, 0, 1, 3, 5)


def join_tokens(tokens: Tensor, axis: Axis) -> Tensor:
    """Inverse of `split_tokens`."""
    side, _, b, rows, columns, c = tokens.shape
    order = (2, 0, 3, 1, 4, 5) if axis == "grid" else (2, 3, 0, 4, 1, 5)
    return tokens.permute(order).reshape(b, side * rows, side * columns, c)


def layer_norm(channels: int) -> nn.LayerNorm:
    """Layer normalisation over the channels of each pixel."""
    return nn.LayerNorm(channels, eps=EPS)


def gelu(x: Tensor) -> Tensor:
    """GELU, tanh approximation."""
    return functional.gelu(x, approximate="tanh")


class GatedMLP(nn.Module):
    """Residual gated MLP (gMLP): half of the channels, mixed over pixels, gates the other half."""

    def __init__(self, channels: int, side: int, axis: Axis) -> None:
        super().__init__()
        self.norm = layer_norm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.gate_norm = layer_norm(channels)
        self.gate = TokenMixing(side, axis)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        value, gate = gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        return x + self.project(value * (self.gate(self.gate_norm(gate)) + 1))


class MultiAxisMLP(nn.Module):
    """Multi-axis gated MLP: half of the expanded channels are mixed over the grid, half over blocks."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.norm = layer_norm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.grid = GatedMLP(channels, side, "grid")
        self.block = GatedMLP(channels, side, "block")
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        far, near = gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        return x + self.project(torch.cat([self.grid(far), self.block(near)], dim=-1))


class ChannelAttention(nn.Module):
    """Squeeze and excitation: scale each channel by a function of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, max(1, channels // REDUCTION))
        self.expand = nn.Linear(max(1, channels // REDUCTION), channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        means = x.mean(dim=(1, 2), keepdim=True)
        return x * torch.sigmoid(self.expand(functional.relu(self.reduce(means))))


class ConvolutionalAttention(nn.Module):
    """Residual channel attention block (RCAB): two convolutions, then channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = layer_norm(channels)
        self.conv1 = Convolution(channels, channels, 3, padding=1)
        self.conv2 = Convolution(channels, channels, 3, padding=1)
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        y = functional.leaky_relu(self.conv1(self.norm(x)), SLOPE)
        return x + self.attention(self.conv2(y))


class DenseAttention(nn.Module):
    """Residual dense channel attention block (RDCAB): two dense layers, then channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = layer_norm(channels)
        self.dense1 = nn.Linear(channels, channels)
        self.dense2 = nn.Linear(channels, channels)
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return x + self.attention(self.dense2(gelu(self.dense1(self.norm(x)))))


class Trunk(nn.Module):
    """Dense layer, then twice a multi-axis MLP and an attention block, with a skip connection."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        side: int,
        attention: type[ConvolutionalAttention] | type[DenseAttention] = ConvolutionalAttention,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(channels_in, channels)
        self.mix = nn.ModuleList(MultiAxisMLP(channels, side) for _ in range(2))
        self.attend = nn.ModuleList(attention(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, c) to (B, H, W, channels)."""
        x = skip = self.project(x)
        for mix, attend in zip(self.mix, self.attend, strict=True):
            x = attend(mix(x))
        return x + skip


class Gate(nn.Module):
    """Gate for another map: half of the channels mixed over the grid, half over blocks."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.norm = layer_norm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.grid = TokenMixing(side, "grid")
        self.block = TokenMixing(side, "block")
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        far, near = gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        return self.project(torch.cat([self.grid(far), self.block(near)], dim=-1))


class CrossGating(nn.Module):
    """Cross gating: two maps gate each other, and the second is added to the first.

    Args:
        x_channels: channels of the first map.
        y_channels: channels of the second map.
        channels: channels of both results.
        side: side of blocks and of the grid.
        doubles: whether the second map has half the height and width, and is enlarged first.
    """

    def __init__(
        self, x_channels: int, y_channels: int, channels: int, side: int, *, doubles: bool = False
    ) -> None:
        super().__init__()
        self.up = Doubling(y_channels, channels) if doubles else None
        self.project_x = nn.Linear(x_channels, channels)
        self.project_y = nn.Linear(channels if doubles else y_channels, channels)
        self.norm_x, self.norm_y = layer_norm(channels), layer_norm(channels)
        self.in_x, self.in_y = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.gate_x, self.gate_y = Gate(channels, side), Gate(channels, side)
        self.out_x, self.out_y = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, x_channels), (B, H or H/2, W or W/2, y_channels) to two maps (B, H, W, channels)."""
        skip_x, skip_y = self.project_x(x), self.project_y(y if self.up is None else self.up(y))
        x = gelu(self.in_x(self.norm_x(skip_x)))
        y = gelu(self.in_y(self.norm_y(skip_y)))
        gate_x, gate_y = self.gate_x(x), self.gate_y(y)
        y = skip_y + self.out_y(y * gate_x)
        return skip_x + self.out_x(x * gate_y) + y, y


class SupervisedAttention(nn.Module):
    """Supervised attention (SAM): a stage's features, weighted by its picture, for the next stage.

    Args:
        channels: channels of the features.
        picture: whether to compute the picture here, at a coarser level; at full size it is the
            estimate.
    """

    def __init__(self, channels: int, *, picture: bool) -> None:
        super().__init__()
        self.feature = Convolution(channels, channels, 3, padding=1)
        self.image = Convolution(channels, 3, 3, padding=1) if picture else None
        self.attention = Convolution(3, channels, 3, padding=1)

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        """Weight features.

        Args:
            x: (B, H, W, C).
            picture: (B, H, W, 3), the stage's estimate, or the blurred image of a coarser level.
        """
        if self.image is not None:
            picture = picture + self.image(x)
        return x + self.feature(x) * torch.sigmoid(self.attention(picture.to(x.dtype)))


def change_level(x: Tensor, source: int, target: int) -> Tensor:
    """Resize (B, H, W, C) bilinearly to another level of the pyramid, antialiased when shrinking.

    Args:
        x: map at 1 / 2^source of full size.
        source: level of the map.
        target: level of the result.
    """
    if source == target:
        return x
    size = (x.shape[1] << source >> target, x.shape[2] << source >> target)
    channels_first = x.permute(0, 3, 1, 2)
    if target > source and x.dtype == torch.bfloat16:  # antialiasing does not support bfloat16
        channels_first = channels_first.float()
    resized = functional.interpolate(channels_first, size, mode="bilinear", antialias=target > source)
    return resized.permute(0, 2, 3, 1).to(x.dtype)
