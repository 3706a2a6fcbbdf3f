"""DeepDeblur (Nah et al., CVPR 2017): the multi-scale residual network MSResNet of its PyTorch version."""

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
    check_inputs,
    coarse_to_fine,
    pad_to_multiple,
)

GREY_LEVELS = 255.0
MIDDLE = 127.5
KERNEL = 5


@dataclass(frozen=True)
class DeepDeblurConfig:
    """The released network by default.

    Attributes:
        width: channels of every body.
        blocks: residual blocks of every body.
        scales: how many bodies, coarse to fine: 3 in the multi-scale approach, 1 where it is converted to
            multi-temporal.
    """

    width: int = 64
    blocks: int = 19
    scales: int = 3

    def __post_init__(self) -> None:
        """Refuse a network of no scale."""
        if self.scales < 1:
            raise ValueError(f"scales is at least 1, not {self.scales}")


class DeepDeblur(nn.Module):
    """DeepDeblur: 11,721,321 parameters in three bodies; one finer body, converted, has 3,908,099.

    Its bodies, coarse to fine, are its `members`; as a network of its own it is the finest. The blurred image
    at 1/4 and 1/2 is what the loop that unrolls it makes by bilinear resizing; the authors blur a little
    before they halve (Gaussian pyramid).
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
        """Facts of the finest body, and of the model."""
        return replace(
            self.members[-1].contract,
            scales=coarse_to_fine(self.config.scales) if self.config.scales > 1 else (),
            original="Nah et al., CVPR 2017; MIT",
        )

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration by the finest body, see `Level`."""
        return self.levels[-1](blurred, estimate, state)


class Level(nn.Module):
    """One body: convolution, residual blocks, convolution, on 0..255 less 127.5; the output is the image.

    It takes the blurred image and, unless it is the coarsest, beside it the last iteration's estimate or the
    coarser result, which it doubles itself by a convolution and PixelShuffle.

    Args:
        width: channels.
        blocks: residual blocks.
        coarsest: take the blurred image alone.
        upscales: take an estimate of half the blurred image's size.
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
        """Facts of this body; bfloat16 would round the image itself, which is its output."""
        reach = 2 * (2 + 2 * len(self.blocks))
        if self.upscale is None:
            return Contract(multiple=1, halo=reach, state_scales=(), precisions=("float32",))
        return Contract(
            multiple=2, halo=reach + 6, state_scales=(), estimate_scale=2, precisions=("float32",)
        )

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration.

        Args:
            blurred: the blurred image at this scale, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape, or half of it where it is doubled here, sizes rounded
                up; not looked at by the coarsest body.
            state: None, as this network keeps none.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and None.

        Raises:
            ValueError: if the shapes do not fit.
        """
        smaller = self.contract.estimate_scale
        check_inputs(blurred, estimate, smaller)
        height, width = blurred.shape[-2:]
        blurred_in = self._prepare(blurred, self.contract.multiple)
        estimate_in = self._prepare(estimate, self.contract.multiple // smaller)
        if self.upscale is not None:
            estimate_in = functional.pixel_shuffle(self.upscale(estimate_in), 2)  # (B, 12 -> 3, H, W)
        inputs = (
            blurred_in if self.coarsest else torch.cat([blurred_in, estimate_in], dim=1)
        )  # (B, 3 or 6, H, W)
        image = self.tail(self.blocks(self.head(inputs)))[..., :height, :width]
        return (image.to(blurred.dtype) + MIDDLE) / GREY_LEVELS, None

    def _prepare(self, image: Tensor, multiple: int) -> Tensor:
        values = GREY_LEVELS * image - MIDDLE  # the zeros around it stand for grey
        return pad_to_multiple(values, multiple).to(self.head.weight.dtype)
