"""DMPHN (Zhang et al., CVPR 2019): deep stacked hierarchical multi-patch networks such as 1-2-4."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtdeblur.networks.blocks import doubling, residual_blocks
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.convert import ImageToImageConfig

GRIDS = ((1, 1), (2, 1), (2, 2), (4, 2), (4, 4))
"""Rows and columns of patches at levels 1, 2, ...: 1, 2, 4, 8 and 16 patches."""
GREY = 0.5
"""Offset subtracted from the input and added to the output."""


@dataclass(frozen=True)
class DMPHNConfig(ImageToImageConfig):
    """Options; the default is DMPHN 1-2-4, with 5,424,393 parameters.

    Attributes:
        levels: 2 for DMPHN 1-2, 3 for 1-2-4, 4 for 1-2-4-8, 5 for 1-2-4-8-16.
        stack: number of such networks in a row, without weight sharing: Stack(n).
        width: channels at the finest scale; doubled at each of the two coarser ones.
    """

    levels: int = 3
    stack: int = 1
    width: int = 32

    def __post_init__(self) -> None:
        """Raise ValueError for invalid options."""
        if not 1 <= self.levels <= len(GRIDS) or self.stack < 1:
            raise ValueError(
                f"levels must be from 1 to {len(GRIDS)} and stack at least 1, not levels {self.levels}, "
                f"stack {self.stack}"
            )


class DMPHN(nn.Module):
    """An encoder and a decoder for each level of patches, from the finest patches to the whole picture.

    Patches form a batch: each level is one call of its encoder. If converted, the levels refine the
    estimate, with I0 as an additional input at each level.
    """

    def __init__(self, config: DMPHNConfig | None = None) -> None:
        super().__init__()
        self.config = config or DMPHNConfig()
        self.stages = nn.ModuleList(_Stage(self.config) for _ in range(self.config.stack))
        self.apply(_initialise)

    @property
    def contract(self) -> Contract:
        """Properties; no bfloat16, because it would round the output picture itself."""
        rows, columns = GRIDS[self.config.levels - 1]
        return Contract(
            multiple=4 * max(rows, columns),
            halo=0,
            state_scales=(),
            precisions=("float32",),
            global_operation="cuts through the middle of the picture",
            original="Zhang et al., CVPR 2019; no licence stated",
        )

    def forward(self, image: Tensor) -> Tensor:
        """Deblur in one step.

        Args:
            image: (B, in_channels, H, W) in [0, 1], float; H and W multiples of `contract.multiple`.

        Returns:
            (B, 3, H, W), not clamped.
        """
        image = image - GREY
        blurred, estimate = image[:, :-3], image[:, -3:]  # if not converted, blurred has no channels
        first: Tensor | None = None
        features: list[Tensor] = []
        for stage in self.stages:
            estimate, features = stage(blurred, estimate, features, first)
            first = estimate if first is None else first
        return estimate + GREY


class _Stage(nn.Module):
    """One network of a stack; `encoders` and `decoders` start with level 1, the whole picture."""

    def __init__(self, config: DMPHNConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            _encoder(config.in_channels, config.width) for _ in range(config.levels)
        )
        self.decoders = nn.ModuleList(_decoder(config.width) for _ in range(config.levels))

    def forward(
        self, blurred: Tensor, image: Tensor, before: list[Tensor], first: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the levels from the finest patches to the whole picture.

        Args:
            blurred: (B, 0 or 3, H, W), additional input at every level.
            image: (B, 3, H, W), the image to deblur: the estimate, or the last stage's output.
            before: features of the previous stage; empty in the first stage.
            first: (B, 3, H, W), the first stage's output; None in the first stage.

        Returns:
            The deblurred image (B, 3, H, W), and the features of each level, finest patches first:
            (B, 4 width, H/4, W/4) each.
        """
        features: list[Tensor] = []
        residual = torch.zeros_like(image)
        for level in reversed(range(len(self.encoders))):
            grid, above = GRIDS[level], GRIDS[max(level - 1, 0)]
            inputs = torch.cat([blurred, image + residual], dim=1)  # (B, in_channels, H, W)
            encoded = join(self.encoders[level](cut(inputs, grid)), grid)  # (B, 4 width, H/4, W/4)
            encoded = encoded + (features[-1] if features else 0)
            encoded = encoded + (before[len(features)] if before else 0)
            features.append(encoded)
            residual = join(self.decoders[level](cut(encoded, above)), above)
            if level == 1 and first is not None:
                residual = residual + first  # as in every released script of a stack
        return residual, features


def cut(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut (B, C, H, W) into patches (B rows columns, C, H / rows, W / columns), in row-major order."""
    rows, columns = grid
    b, c, h, w = x.shape
    patches = x.reshape(b, c, rows, h // rows, columns, w // columns).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(b * rows * columns, c, h // rows, w // columns)


def join(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Inverse of `cut`."""
    rows, columns = grid
    n, c, h, w = patches.shape
    x = patches.reshape(n // (rows * columns), rows, columns, c, h, w).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(-1, c, rows * h, columns * w)


def _encoder(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        residual_blocks(width, 3, 2),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        residual_blocks(2 * width, 3, 2),
        nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
        residual_blocks(4 * width, 3, 2),
    )


def _decoder(width: int) -> nn.Sequential:
    return nn.Sequential(
        residual_blocks(4 * width, 3, 2),
        doubling(4 * width, 2 * width),
        residual_blocks(2 * width, 3, 2),
        doubling(2 * width, width),
        residual_blocks(width, 3, 2),
        nn.Conv2d(width, 3, 3, padding=1),
    )


def _initialise(module: nn.Module) -> None:
    """Initialise as released: normal with half of He's standard deviation, fan out; biases zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(
            module.weight, std=0.5 * (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
        )
        nn.init.zeros_(cast("Tensor", module.bias))
