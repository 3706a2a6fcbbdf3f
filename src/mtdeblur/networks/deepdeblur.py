"""DeepDeblur (Nah et al., CVPR 2017): the multi-scale network MSResNet of its PyTorch version."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.blocks import residual_blocks
from mtdeblur.networks.contract import (
    Contract,
    ProgressiveNetwork,
    State,
    any_size,
    coarse_to_fine,
)

GREY_LEVELS = 255.0
MIDDLE = 127.5
KERNEL = 5


@dataclass(frozen=True)
class DeepDeblurConfig:
    """Options; the defaults are the released network.

    Attributes:
        width: channels of every body.
        blocks: residual blocks of every body.
        scales: number of bodies, coarse to fine: 3 in the multi-scale approach, 1 if converted to
            multi-temporal.
    """

    width: int = 64
    blocks: int = 19
    scales: int = 3

    def __post_init__(self) -> None:
        """Raise ValueError for invalid options."""
        if self.scales < 1:
            raise ValueError(f"scales must be at least 1, not {self.scales}")


class DeepDeblur(nn.Module):
    """DeepDeblur: 11,721,321 parameters in three bodies; converted, with one body, 3,908,099.

    Its bodies, coarse to fine, are its `members`; called itself, it runs the finest. The unroll loop
    resizes the blurred image to 1/4 and 1/2 bilinearly; the authors use a Gaussian pyramid.
    """

    def __init__(self, config: DeepDeblurConfig | None = None) -> None:
        super().__init__()
        self.config = config or DeepDeblurConfig()
        size = (self.config.width, self.config.blocks)
        if self.config.scales == 1:
            levels = [Level(*size)]
        else:
            finer = (Level(*size, upscales=True) for _ in range(1, self.config.scales))
            levels = [Level(*size, coarsest=True), *finer]
        self.levels = nn.ModuleList(levels)

    @property
    def members(self) -> Sequence[ProgressiveNetwork]:
        """The bodies, coarse to fine."""
        return cast("list[ProgressiveNetwork]", list(self.levels))

    @property
    def contract(self) -> Contract:
        """Properties of the finest body, with the model's scales."""
        return replace(
            self.members[-1].contract,
            scales=coarse_to_fine(self.config.scales) if self.config.scales > 1 else (),
            original="Nah et al., CVPR 2017; MIT",
        )

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration with the finest body, see `Level`."""
        return self.levels[-1](blurred, estimate, state)


class Level(nn.Module):
    """One body: convolution, residual blocks, convolution, on 0..255 less 127.5; outputs the image.

    The input is the blurred image and, unless it is the coarsest body, the last estimate. A coarser
    estimate is enlarged by a convolution and PixelShuffle.

    Args:
        width: channels.
        blocks: number of residual blocks.
        coarsest: whether the input is the blurred image only.
        upscales: whether the input estimate has half the blurred image's size.
    """

    def __init__(self, width: int, blocks: int, *, coarsest: bool = False, upscales: bool = False) -> None:
        super().__init__()
        self.coarsest = coarsest
        self.upscale = nn.Conv2d(3, 12, KERNEL, padding=KERNEL // 2) if upscales else None
        self.head = nn.Conv2d(3 if coarsest else 6, width, KERNEL, padding=KERNEL // 2)
        self.blocks = residual_blocks(width, KERNEL, blocks)
        self.tail = nn.Conv2d(width, 3, KERNEL, padding=KERNEL // 2)

    @property
    def contract(self) -> Contract:
        """Properties; no bfloat16, because it would round the output image itself."""
        reach = 2 * (2 + 2 * len(self.blocks))
        if self.upscale is None:
            return Contract(multiple=1, halo=reach, state_scales=(), precisions=("float32",))
        return Contract(
            multiple=2, halo=reach + 6, state_scales=(), estimate_scale=2, precisions=("float32",)
        )

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration.

        Args:
            blurred: the blurred image at this scale, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; if `upscales`, half of it, rounded up. Ignored by
                the coarsest body.
            state: always None.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and None.

        Raises:
            ValueError: if the shapes do not match.
        """
        # zero padding is then grey
        blurred_in, estimate_in = (
            (GREY_LEVELS * image - MIDDLE).to(self.head.weight.dtype) for image in (blurred, estimate)
        )
        if self.upscale is not None:
            estimate_in = functional.pixel_shuffle(self.upscale(estimate_in), 2)  # (B, 12 -> 3, H, W)
        # (B, 3 or 6, H, W)
        inputs = blurred_in if self.coarsest else torch.cat([blurred_in, estimate_in], dim=1)
        image = self.tail(self.blocks(self.head(inputs)))
        return (image.to(blurred.dtype) + MIDDLE) / GREY_LEVELS, None
