"""The efficient cell `mtnaf`: the recurrent network of Eq. (3) with gated depthwise blocks."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.contract import Contract, ProgressiveNetwork, RecurrentMaps, State, any_size
from mtdeblur.networks.gated import GatedBlock


@dataclass(frozen=True)
class MTNAFConfig:
    """Size of the cell.

    Attributes:
        width: channels at the finest scale; doubled at each of the two coarser ones.
        blocks: number of gated blocks in encoder 1, encoder 2, bottom, decoder 2, decoder 1.
        kernels: kernel size of the depthwise convolutions at 1/2, 1/4 and 1/8 of the picture, odd.
        norm: layer normalisation over the channels before both halves of a block.
        recurrent: pass the recurrent feature maps (RFM) F1, F2 from iteration to iteration.
    """

    width: int = 32
    blocks: tuple[int, int, int, int, int] = (2, 2, 8, 2, 2)
    kernels: tuple[int, int, int] = (3, 3, 3)
    norm: bool = True
    recurrent: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for invalid options."""
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels must be odd numbers, not {self.kernels}")


class MTNAF(nn.Module):
    """One iteration of the efficient cell, with about 1/12 of MT-RNN's multiply-accumulates.

    The recurrent feature maps are the decoders' outputs at 1/4 (F1) and 1/8 (F2) of the picture, fused
    into the encoder by a 1x1 convolution, Eq. (4); the first iteration uses the encoder's own maps
    instead. The output is the blurred image plus a residual that is zero before training.
    """

    def __init__(self, config: MTNAFConfig | None = None) -> None:
        super().__init__()
        self.config = config or MTNAFConfig()
        c, n, k = self.config.width, self.config.blocks, self.config.kernels

        def stack(channels: int, blocks: int, kernel: int) -> nn.Sequential:
            layers = (GatedBlock(channels, kernel=kernel, norm=self.config.norm) for _ in range(blocks))
            return nn.Sequential(*layers)

        self.head = nn.Conv2d(24, c, 3, padding=1)
        self.encoder1 = stack(c, n[0], k[0])
        self.down1 = nn.Conv2d(c, 2 * c, 2, stride=2)
        self.encoder2 = stack(2 * c, n[1], k[1])
        self.down2 = nn.Conv2d(2 * c, 4 * c, 2, stride=2)
        self.bottom = stack(4 * c, n[2], k[2])
        self.up2 = nn.Sequential(nn.Conv2d(4 * c, 8 * c, 1), nn.PixelShuffle(2))
        self.decoder2 = stack(2 * c, n[3], k[1])
        self.up1 = nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1), nn.PixelShuffle(2))
        self.decoder1 = stack(c, n[4], k[0])
        self.tail = nn.Conv2d(c, 12, 3, padding=1)
        self.fuse1 = nn.Conv2d(4 * c, 2 * c, 1) if self.config.recurrent else None
        self.fuse2 = nn.Conv2d(8 * c, 4 * c, 1) if self.config.recurrent else None
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    @property
    def contract(self) -> Contract:
        """Properties of this cell."""
        return Contract(
            multiple=8,
            halo=_halo(self.config),
            state_scales=(4, 8) if self.config.recurrent else (),
            precisions=("float32", "bfloat16", "int8"),
            tail=self.tail,
        )

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration.

        Args:
            blurred: I0, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; I0 itself at the first iteration.
            state: None at the first iteration, then the last returned state.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and the recurrent feature maps
            (B, 2 width, H/4, W/4), (B, 4 width, H/8, W/8) of the picture padded to multiples of 8.

        Raises:
            ValueError: if the shapes do not match.
        """
        inputs = torch.cat([blurred, estimate], dim=1).to(self.head.weight.dtype)  # Eq. (5), (B, 6, H, W)
        e1 = self.encoder1(self.head(functional.pixel_unshuffle(inputs, 2)))  # (B, c, H/2, W/2)
        x = self.down1(e1)  # (B, 2c, H/4, W/4)
        if self.fuse1 is not None:
            x = self.fuse1(torch.cat([x, x if state is None else state[0]], dim=1))  # Eq. (4)
        e2 = self.encoder2(x)
        x = self.down2(e2)  # (B, 4c, H/8, W/8)
        if self.fuse2 is not None:
            x = self.fuse2(torch.cat([x, x if state is None else state[1]], dim=1))  # Eq. (4)
        f2 = self.bottom(x)
        f1 = self.decoder2(self.up2(f2) + e2)
        residual = self.tail(self.decoder1(self.up1(f1) + e1))  # (B, 12, H/2, W/2)
        residual = functional.pixel_shuffle(residual, 2)  # (B, 3, H, W)
        return blurred + residual, RecurrentMaps(f1, f2) if self.config.recurrent else None

    def for_inference(self, dtype: torch.dtype) -> ProgressiveNetwork:
        """See `mtdeblur.networks.contract.inference_form`."""
        from mtdeblur.networks.mtnaf_inference import InferenceMTNAF

        return InferenceMTNAF(self, dtype)


def _halo(config: MTNAFConfig) -> int:
    """Radius of the receptive field: a k x k convolution adds k // 2 pixels of its own scale.

    The 2x2 convolutions, the pixel shuffles and the alignment of the scales add less than one pixel of
    the coarsest scale; the sum is rounded up to a multiple of 8. Tests measure it by perturbation.
    """
    n, reach = config.blocks, [kernel // 2 for kernel in config.kernels]
    finest = 2 * ((n[0] + n[4]) * reach[0] + 2)  # 2 for the head and tail convolutions
    middle = 4 * (n[1] + n[3]) * reach[1]
    coarsest = 8 * n[2] * reach[2]
    return -(-(finest + middle + coarsest + 7) // 8) * 8
