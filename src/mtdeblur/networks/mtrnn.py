"""MT-RNN (Park et al., ECCV 2020): the multi-temporal recurrent network, Eq. (3) and (4)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.blocks import doubling, residual_blocks
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, RecurrentMaps, State, any_size

RGB_MEAN = (0.4488, 0.4371, 0.4040)
GREY_LEVELS = 255.0
SLOPE = 0.1  # of every LeakyReLU


@dataclass(frozen=True)
class MTRNNConfig:
    """Options; the defaults are the paper's network, the others the ablations of Table 1.

    Attributes:
        width: channels at the finest scale; doubled at each of the two coarser ones.
        kernel: kernel size of the convolutions that are 3x3 in the paper; odd.
        recurrent: pass the recurrent feature maps (RFM) F1, F2 from iteration to iteration; "f2" fuses
            only F2, as the later networks of the stacking version do (7.890 M parameters in Table 2).
        residual: base of the residual (ResL): the blurred input I0, the previous estimate, or none.
        images: number of input images: 2 for I0 and the estimate, 4 with those of the previous step,
            which are in the state (MS + MT in Table 2, where that step is usually at a coarser scale).
    """

    width: int = 32
    kernel: int = 3
    recurrent: bool | Literal["f2"] = True
    residual: Literal["blurred", "estimate", "none"] = "blurred"
    images: Literal[2, 4] = 2

    def __post_init__(self) -> None:
        """Raise ValueError for invalid options."""
        if self.residual not in ("blurred", "estimate", "none"):
            raise ValueError(f"residual must be 'blurred', 'estimate' or 'none', not {self.residual!r}")
        if self.width < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(
                f"width must be at least 1 and kernel odd, not width {self.width}, kernel {self.kernel}"
            )
        if self.recurrent not in (True, False, "f2"):
            raise ValueError(f"recurrent must be true, false or 'f2', not {self.recurrent!r}")
        if self.images not in (2, 4) or (self.images == 4 and not self.recurrent):
            raise ValueError("images must be 2, or 4 if recurrent")


class MapsAndImages(NamedTuple):
    """F1 and F2 of Eq. (3), and the step's input images, padded (B, 6, H, W)."""

    f1: Tensor
    f2: Tensor
    images: Tensor


class MTRNN(nn.Module):
    """One iteration of MT-RNN; 2,635,523 parameters, 2,594,371 without recurrent feature maps.

    Images are in [0, 1]; inside the network they are in [0, 255] less the mean colour, and the residual
    is divided by 255. So the parameters equal those of the released model bit for bit (see
    `mtdeblur.weights.layouts.mtrnn`), and the paper's optimiser settings apply: rescaled weights would
    change the ratio of the learning rates of biases and weights by 255. float32 and bfloat16 have enough
    range for this; float16 is not supported.
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
        """Properties; the halo is 89 pixels per pixel of kernel radius, plus 6 for the upscaling."""
        reach = 89 * (self.config.kernel // 2) + 6
        scales = (2, 4) if self.config.images == 2 else (2, 4, 1)
        return Contract(
            multiple=4,
            halo=-(-reach // 4) * 4,
            state_scales=scales if self.config.recurrent else (),
            precisions=("float32", "bfloat16", "int8"),
            engines=("openvino", "pytorch"),
            original="Park et al., ECCV 2020; no licence stated",
            tail=None if self.config.residual == "none" else self.tail,
        )

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration, Eq. (3).

        Args:
            blurred: I0, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; I0 itself at the first iteration.
            state: None at the first iteration, then the last returned state.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and the recurrent feature maps
            (B, 2 width, H/2, W/2), (B, 4 width, H/4, W/4) of the picture padded to multiples of 4, on
            the scale of 0..255; with 4 images also this step's input images.

        Raises:
            ValueError: if the shapes do not match.
        """
        mean = torch.cat([blurred.new_full((1, 1, 1, 1), value) for value in RGB_MEAN], dim=1)
        # Eq. (5), (B, 6, H, W); zero padding is then the mean colour, as in the authors' program
        inputs = GREY_LEVELS * torch.cat([blurred - mean, estimate - mean], dim=1)
        inputs = inputs.to(self.head.weight.dtype)
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
        residual = self.tail(x) / GREY_LEVELS
        base = {"blurred": blurred, "estimate": estimate, "none": mean}[self.config.residual]
        if not self.config.recurrent:
            return base + residual, None
        maps = RecurrentMaps(f1, f2) if self.config.images == 2 else MapsAndImages(f1, f2, inputs)
        return base + residual, maps  # Eq. (3)

    def for_inference(self, dtype: torch.dtype) -> ProgressiveNetwork:
        """See `mtdeblur.networks.contract.inference_form`."""
        from mtdeblur.networks.mtrnn_inference import InferenceMTRNN

        return InferenceMTRNN(self, dtype)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)
