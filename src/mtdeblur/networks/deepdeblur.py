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

    It takes the blurred image and, unless it is the coarsest, beside it the coarser result or the last
    iteration's estimate. The authors upscale the coarser result by a convolution of its own and PixelShuffle.
    The loop has doubled it bilinearly by then, from which it can be had back exactly, see `undo_doubling`: so
    the upscaling is learned as theirs is, their weights fit, and nothing but the estimate is handed on. (A
    picture whose height or width cannot be halved as often as there are scales is not exactly doubled: pad it
    to a multiple of 4 before, as the authors do, where the last digit matters.)

    Args:
        width: channels.
        blocks: residual blocks.
        coarsest: take the blurred image alone.
        upscales: take the estimate for a coarser one that was doubled, and upscale that by learned weights.
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
        return Contract(multiple=2, halo=reach + 6, state_scales=(), precisions=("float32",))

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration.

        Args:
            blurred: the blurred image at this scale, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; not looked at by the coarsest body.
            state: None, as this network keeps none.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and None.

        Raises:
            ValueError: if the shapes do not fit.
        """
        check_inputs(blurred, estimate)
        height, width = blurred.shape[-2:]
        blurred_in, estimate_in = (self._prepare(image) for image in (blurred, estimate))
        if self.upscale is not None:
            coarser = undo_doubling(estimate_in)  # (B, 3, H/2, W/2)
            estimate_in = functional.pixel_shuffle(self.upscale(coarser), 2)  # (B, 12 -> 3, H, W)
        inputs = (
            blurred_in if self.coarsest else torch.cat([blurred_in, estimate_in], dim=1)
        )  # (B, 3 or 6, H, W)
        image = self.tail(self.blocks(self.head(inputs)))[..., :height, :width]
        return (image.to(blurred.dtype) + MIDDLE) / GREY_LEVELS, None

    def _prepare(self, image: Tensor) -> Tensor:
        values = GREY_LEVELS * image - MIDDLE  # the zeros around it stand for grey
        return pad_to_multiple(values, self.contract.multiple).to(self.head.weight.dtype)


def undo_doubling(image: Tensor) -> Tensor:
    """Get an image back that was doubled bilinearly, exactly but for rounding.

    Doubled, pixel x_i became u_2i = (x_(i-1) + 3 x_i) / 4 and u_(2i+1) = (3 x_i + x_(i+1)) / 4, so that
    x_i = (3 u_2i - u_(2i-1)) / 2 = (3 u_(2i+1) - u_(2i+2)) / 2; this is the mean of both, in both directions.

    Args:
        image: (B, C, H, W), float, H and W even.

    Returns:
        (B, C, H/2, W/2).
    """
    channels = image.shape[1]
    taps = torch.tensor([-0.25, 0.75, 0.75, -0.25], dtype=image.dtype, device=image.device)
    kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, kernel, stride=2, groups=channels)
