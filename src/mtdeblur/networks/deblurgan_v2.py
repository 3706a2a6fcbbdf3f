"""Generator of DeblurGAN-v2 (Kupyn et al., ICCV 2019): a feature pyramid on a MobileNetV2 backbone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.contract import Contract
from mtdeblur.networks.convert import ImageToImageConfig
from mtdeblur.networks.mobilenet import mobilenet_v2_features

TAPS = ((0, 2, 16), (2, 4, 24), (4, 7, 32), (7, 11, 64), (11, 16, 160))
"""Backbone layers [first, stop) and output channels at strides 2, 4, 8, 16 and 32."""
USED_LAYERS = TAPS[-1][1]


@dataclass(frozen=True)
class DeblurGANv2Config(ImageToImageConfig):
    """Options; the defaults are the published MobileNet generator.

    Attributes:
        width: channels of the feature pyramid; its heads have half as many.
    """

    width: int = 128


class DeblurGANv2(nn.Module):
    """Residual generator with 3,312,707 parameters, of which 2,106,627 are used.

    Three layers of the backbone are never used, as published; they are frozen.

    Unlike the authors' program, which never leaves training mode, batch normalisation uses its running
    statistics in evaluation mode: a picture's result does not depend on its batch.
    """

    def __init__(self, config: DeblurGANv2Config | None = None) -> None:
        super().__init__()
        self.config = config or DeblurGANv2Config()
        c, half = self.config.width, self.config.width // 2
        self.features = mobilenet_v2_features(self.config.in_channels)
        self.features[USED_LAYERS:].requires_grad_(False)
        self.laterals = nn.ModuleList(
            nn.Conv2d(channels, half if level == 0 else c, 1, bias=False)
            for level, (_, _, channels) in enumerate(TAPS)
        )
        self.top_down = nn.ModuleList(_normalised(c, c) for _ in range(3))  # strides 4, 8, 16
        self.heads = nn.ModuleList(_head(c, half) for _ in range(4))  # strides 4, 8, 16, 32
        self.smooth1 = _normalised(4 * half, half)
        self.smooth2 = _normalised(half, half // 2)
        self.tail = nn.Conv2d(half // 2, 3, 3, padding=1)

    @property
    def contract(self) -> Contract:
        """Properties; no bfloat16, because the normalisation amplifies rounding errors."""
        return Contract(
            multiple=32,
            halo=0,
            state_scales=(),
            precisions=("float32",),
            global_operation="instance normalisation, which averages over the whole picture",
            original="Kupyn et al., ICCV 2019; BSD",
            tail=self.tail,
            backbone=self.features,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Deblur in one step.

        Args:
            image: (B, in_channels, H, W) in [0, 1], float; H and W multiples of 32. The authors pad with
                grey, by at least one row and column; here the adapter pads.

        Returns:
            (B, 3, H, W) in [0, 1]: the first three channels plus the residual, clamped as published.
        """
        finest, *maps = self._pyramid((2 * image - 1).to(self.tail.weight.dtype))
        at_stride_4 = [
            _enlarge(head(x), 2**n) for n, (head, x) in enumerate(zip(self.heads, maps, strict=True))
        ]
        x = self.smooth1(torch.cat(at_stride_4[::-1], dim=1))  # (B, 4 c/2 -> c/2, H/4, W/4)
        x = self.smooth2(_enlarge(x, 2) + finest)  # (B, c/4, H/2, W/2)
        residual = torch.tanh(self.tail(_enlarge(x, 2)))  # (B, 3, H, W), of images in [-1, 1]
        return (image[:, :3] + residual / 2).clamp(0, 1)

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """Feature pyramid: (B, c/2, H/2, W/2), then (B, c, H/n, W/n) for n = 4, 8, 16, 32."""
        maps: list[Tensor] = []
        for (first, stop, _), lateral in zip(TAPS, self.laterals, strict=True):
            x = self.features[first:stop](x)
            maps.append(lateral(x))
        for level in (3, 2, 1):
            maps[level] = self.top_down[level - 1](maps[level] + _enlarge(maps[level + 1], 2))
        return maps


def _normalised(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.InstanceNorm2d(channels_out), nn.ReLU()
    )


def _head(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.ReLU(),
    )


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="nearest")
