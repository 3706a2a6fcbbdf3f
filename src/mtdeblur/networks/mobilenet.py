"""Feature extractor of MobileNetV2 (Sandler et al., CVPR 2018), width 1, a backbone for other networks.

Modules have the names of torchvision's `mobilenet_v2`, so that its ImageNet weights can be loaded.
"""

from torch import Tensor, nn

STAGES = (
    # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2_features(channels_in: int) -> nn.Sequential:
    """The 19 feature layers: convolution, 17 inverted residuals and 1x1 convolution to 1280 channels.

    Weights are initialised from He's normal distribution, fan out.

    Args:
        channels_in: input channels; 3 as published.

    Returns:
        Layers with the output channels of `STAGES`; layers 0, 2, 4, 7 and 14 halve the size.
    """
    layers: list[nn.Module] = [_normalised(channels_in, 32, 3, stride=2)]
    channels = 32
    for expansion, width, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(InvertedResidual(channels, width, stride if block == 0 else 1, expansion))
            channels = width
    layers.append(_normalised(channels, 1280, 1))
    features = nn.Sequential(*layers)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return features


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection; skip connection if the shape is unchanged."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * channels_in
        expand = [] if expansion == 1 else [_normalised(channels_in, inner, 1)]
        self.conv = nn.Sequential(
            *expand,
            _normalised(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) to (B, d, H / stride, W / stride)."""
        return x + self.conv(x) if self.residual else self.conv(x)


def _normalised(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )
