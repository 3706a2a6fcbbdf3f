"""MT-RNN (Park et al., ECCV 2020): one iteration of the multi-temporal recurrent network, Eq. (3) and (4)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.blocks import doubling, residual_blocks
from mtdeblur.networks.contract import Contract, RecurrentMaps, State, check_inputs, pad_to_multiple

RGB_MEAN = (0.4488, 0.4371, 0.4040)
GREY_LEVELS = 255.0
SLOPE = 0.1  # of every LeakyReLU


@dataclass(frozen=True)
class MTRNNConfig:
    """The paper's network by default; the switches are the ablations of Table 1.

    Attributes:
        width: channels at the finest scale; doubled at each of the two coarser ones.
        kernel: side of the convolutions that the paper has as 3x3; odd.
        recurrent: carry the recurrent feature maps (RFM) F1, F2 from iteration to iteration; "f2" takes in F2
            alone, as the later networks of the stacking version do (7.890 M parameters in Table 2).
        residual: what the network's residual is added to (ResL): the blurred input I0, the previous estimate,
            or nothing.
        images: how many images go in: I0 and the estimate, or 4 with those of the step before, which the
            state carries (MS + MT in Table 2, where the step before is mostly that of a coarser scale).
    """

    width: int = 32
    kernel: int = 3
    recurrent: bool | Literal["f2"] = True
    residual: Literal["blurred", "estimate", "none"] = "blurred"
    images: Literal[2, 4] = 2

    def __post_init__(self) -> None:
        """Refuse what Table 1 has no place for."""
        if self.residual not in ("blurred", "estimate", "none"):
            raise ValueError(f"residual is 'blurred', 'estimate' or 'none', not {self.residual!r}")
        if self.width < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(
                f"width is at least 1 and kernel odd, not width {self.width}, kernel {self.kernel}"
            )
        if self.recurrent not in (True, False, "f2"):
            raise ValueError(f"recurrent is true, false or 'f2', not {self.recurrent!r}")
        if self.images not in (2, 4) or (self.images == 4 and not self.recurrent):
            raise ValueError("images is 2 or, with recurrent maps, 4")


class MapsAndImages(NamedTuple):
    """F1 and F2 of Eq. (3), and the images of the step as the network took them in, padded (B, 6, H, W)."""

    f1: Tensor
    f2: Tensor
    images: Tensor


class MTRNN(nn.Module):
    """One iteration of MT-RNN; 2,635,523 parameters, 2,594,371 without recurrent feature maps.

    Images come and go in [0, 1]. Inside, the parameters live on the authors' scale: the mean colour is
    subtracted and the difference multiplied by 255 before the first convolution, and the residual divided by
    255 after the last. So a parameter here is bit for bit the parameter of the released model (see
    `mtdeblur.weights.layouts.mtrnn`), and an optimiser with the paper's settings takes the paper's steps:
    rescaling the weights instead would make its biases learn 255 times faster against their weights. The
    precision is the same either way for float32 and bfloat16, which have range to spare; float16 is not
    offered.
    """

    def __init__(self, config: MTRNNConfig | None = None) -> None:
        super().__init__()
        self.config = config or MTRNNConfig()
        c, k, r = self.config.width, self.config.kernel, self.config.kernel // 2
        self.head = nn.Conv2d(3 * self.config.images, c, k, padding=r)
        self.encoder1 = residual_blocks(c, k, 3, SLOPE)
        self.down1 = nn.Conv2d(c, 2 * c, k, stride=2, padding=r)
        self.encoder2 = residual_blocks(2 * c, k, 3, SLOPE)
        self.down2 = nn.Conv2d(2 * c, 4 * c, k, stride=2, padding=r)
        self.encoder3 = residual_blocks(4 * c, k, 3, SLOPE)
        self.decoder3 = residual_blocks(4 * c, k, 3, SLOPE)
        self.up2 = doubling(4 * c, 2 * c)
        self.merge2 = nn.Conv2d(4 * c, 2 * c, 1)
        self.decoder2 = residual_blocks(2 * c, k, 3, SLOPE)
        self.up1 = doubling(2 * c, c)
        self.merge1 = nn.Conv2d(2 * c, c, 1)
        self.decoder1 = residual_blocks(c, k, 3, SLOPE)
        self.tail = nn.Conv2d(c, 3, k, padding=r)
        self.fuse1 = nn.Conv2d(4 * c, 2 * c, 1) if self.config.recurrent is True else None
        self.fuse2 = nn.Conv2d(8 * c, 4 * c, 1) if self.config.recurrent else None

    @property
    def contract(self) -> Contract:
        """Facts of this network; convolutions reach 89 pixels per pixel of their radius, upscaling 6."""
        reach = 89 * (self.config.kernel // 2) + 6
        scales = (2, 4) if self.config.images == 2 else (2, 4, 1)
        return Contract(
            multiple=4,
            halo=-(-reach // 4) * 4,
            state_scales=scales if self.config.recurrent else (),
            original="Park et al., ECCV 2020; no licence stated",
            tail=None if self.config.residual == "none" else self.tail,
        )

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration, Eq. (3).

        Args:
            blurred: I0, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; I0 itself at the first iteration.
            state: None at the first iteration, then what the last one gave back.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and the recurrent feature maps (B, 2 width, H/2, W/2),
            (B, 4 width, H/4, W/4) of the picture padded to multiples of 4, on the scale of 0..255, with 4
            images those of this step as well.

        Raises:
            ValueError: if the shapes do not fit.
        """
        check_inputs(blurred, estimate)
        height, width = blurred.shape[-2:]
        mean = torch.tensor(RGB_MEAN, dtype=blurred.dtype, device=blurred.device).view(1, 3, 1, 1)
        # Eq. (5), (B, 6, H, W); the zeros around it stand for the mean colour, as the authors have it
        inputs = GREY_LEVELS * torch.cat([blurred - mean, estimate - mean], dim=1)
        inputs = pad_to_multiple(inputs, 4).to(self.head.weight.dtype)
        seen = inputs
        if self.config.images == 4:
            seen = torch.cat([inputs, inputs if state is None else state[2]], dim=1)  # (B, 12, H, W)
        e1 = self.encoder1(self.head(seen))  # (B, c, H, W)
        x = _leaky(self.down1(e1))  # (B, 2c, H/2, W/2)
        if self.fuse1 is not None:
            x = self.fuse1(torch.cat([x, x if state is None else state[0]], dim=1))  # (B, 4c -> 2c), Eq. (4)
        e2 = self.encoder2(x)
        x = _leaky(self.down2(e2))  # (B, 4c, H/4, W/4)
        if self.fuse2 is not None:
            x = self.fuse2(torch.cat([x, x if state is None else state[1]], dim=1))  # (B, 8c -> 4c), Eq. (4)
        f2 = self.decoder3(self.encoder3(x))
        f1 = self.decoder2(self.merge2(torch.cat([_leaky(self.up2(f2)), e2], dim=1)))  # (B, 4c -> 2c)
        x = self.decoder1(self.merge1(torch.cat([_leaky(self.up1(f1)), e1], dim=1)))  # (B, 2c -> c)
        residual = self.tail(x)[..., :height, :width] / GREY_LEVELS
        base = {"blurred": blurred, "estimate": estimate, "none": mean}[self.config.residual]
        if not self.config.recurrent:
            return base + residual, None
        maps = RecurrentMaps(f1, f2) if self.config.images == 2 else MapsAndImages(f1, f2, inputs)
        return base + residual, maps


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)
