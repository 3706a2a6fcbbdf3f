"""DMPHN (Zhang et al., CVPR 2019): deep stacked hierarchical multi-patch network, 1-2-4 and its relatives."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtdeblur.networks.blocks import doubling, residual_blocks
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.convert import ImageToImageConfig

GRIDS = ((1, 1), (2, 1), (2, 2), (4, 2), (4, 4))
"""Rows and columns of patches into which levels 1, 2, ... cut the picture: 1, 2, 4, 8 and 16 patches."""
GREY = 0.5
"""What is subtracted from every value inside."""


@dataclass(frozen=True)
class DMPHNConfig(ImageToImageConfig):
    """DMPHN 1-2-4 by default, with 5,424,393 parameters.

    Attributes:
        levels: 2 for DMPHN 1-2, 3 for 1-2-4, 4 for 1-2-4-8, 5 for 1-2-4-8-16.
        stack: how many such networks follow one another, each with weights of its own: Stack(n).
        width: channels at the finest scale; doubled at each of the two coarser ones.
    """

    levels: int = 3
    stack: int = 1
    width: int = 32

    def __post_init__(self) -> None:
        """Refuse what there is no grid of patches for."""
        if not 1 <= self.levels <= len(GRIDS) or self.stack < 1:
            raise ValueError(
                f"levels is from 1 to {len(GRIDS)} and stack at least 1, not levels {self.levels}, "
                f"stack {self.stack}"
            )


class DMPHN(nn.Module):
    """Encoder and decoder of its own for each level of patches, from the finest patches to the whole picture.

    Patches travel as a batch, so that each level is one call of its encoder. Converted, the estimate is what
    the levels refine; I0 is seen beside it at each of them.
    """

    def __init__(self, config: DMPHNConfig | None = None) -> None:
        super().__init__()
        self.config = config or DMPHNConfig()
        self.stages = nn.ModuleList(_Stage(self.config) for _ in range(self.config.stack))
        self.apply(_initialise)

    @property
    def contract(self) -> Contract:
        """Facts of this network; without a skip from input to output, bfloat16 would round the picture."""
        rows, columns = GRIDS[self.config.levels - 1]
        return Contract(
            multiple=4 * max(rows, columns),
            halo=0,
            state_scales=(),
            precisions=("float32",),
            global_operation="cuts through the middle of the picture, wherever that lies",
            original="Zhang et al., CVPR 2019; no licence stated",
        )

    def forward(self, image: Tensor) -> Tensor:
        """Deblur at once.

        Args:
            image: (B, in_channels, H, W) in [0, 1], float; H and W multiples of `contract.multiple`.

        Returns:
            (B, 3, H, W), not clamped.
        """
        image = image - GREY
        blurred, estimate = image[:, :-3], image[:, -3:]  # without conversion, the first has no channels
        first: Tensor | None = None
        features: list[Tensor] = []
        for stage in self.stages:
            estimate, features = stage(blurred, estimate, features, first)
            first = estimate if first is None else first
        return estimate + GREY


class _Stage(nn.Module):
    """One network of a stack; `encoders` and `decoders` have level 1, the whole picture, first."""

    def __init__(self, config: DMPHNConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            _encoder(config.in_channels, config.width) for _ in range(config.levels)
        )
        self.decoders = nn.ModuleList(_decoder(config.width) for _ in range(config.levels))

    def forward(
        self, blurred: Tensor, image: Tensor, before: list[Tensor], first: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Go up the levels.

        Args:
            blurred: (B, 0 or 3, H, W), seen beside the image at every level.
            image: (B, 3, H, W), what is to be deblurred: the estimate, or the last stage's output.
            before: the last stage's features; none in the first stage.
            first: (B, 3, H, W), the first stage's output; None in the first stage.

        Returns:
            The deblurred image (B, 3, H, W), and what each level decoded, the finest patches' first:
            (B, 4 width, H/4, W/4) each.
        """
        features: list[Tensor] = []
        residual = torch.zeros_like(image)
        for level in reversed(range(len(self.encoders))):
            grid, above = GRIDS[level], GRIDS[max(level - 1, 0)]
            inputs = torch.cat([blurred, image + residual], dim=1)  # (B, in_channels, H, W)
            found = join(self.encoders[level](cut(inputs, grid)), grid)  # (B, 4 width, H/4, W/4)
            found = found + (features[-1] if features else 0)
            found = found + (before[len(features)] if before else 0)
            features.append(found)
            residual = join(self.decoders[level](cut(found, above)), above)
            if level == 1 and first is not None:
                residual = residual + first  # so in every released script of a stack
        return residual, features


def cut(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, C, H, W) into patches (B rows columns, C, H / rows, W / columns), row by row of each picture."""
    rows, columns = grid
    b, c, h, w = x.shape
    patches = x.reshape(b, c, rows, h // rows, columns, w // columns).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(b * rows * columns, c, h // rows, w // columns)


def join(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """The reverse of `cut`."""
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
    """As released: normal with half of He's standard deviation, fan out, biases zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(
            module.weight, std=0.5 * (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
        )
        nn.init.zeros_(cast("Tensor", module.bias))
