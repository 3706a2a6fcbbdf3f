"""Parameter selective sharing and nested skip connections, PSS-NSC (Gao et al., CVPR 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.blocks import (
    Halving,
    colours_apart,
    colours_together,
    doubling,
    residual_blocks,
)
from mtdeblur.networks.contract import (
    Contract,
    ProgressiveNetwork,
    RecurrentMaps,
    State,
    any_size,
    coarse_to_fine,
)


@dataclass(frozen=True)
class PSSNSCConfig:
    """Options; the defaults are the released network.

    Attributes:
        width: channels at the finest scale; doubled at each of the two coarser ones.
        scales: number of scales, each with its own convolutions, coarse to fine: 3 in the multi-scale
            approach, 1 if converted to multi-temporal.
        recurrent: pass on the recurrent feature maps (RFM) F1, F2 of Eq. (4), unlike the paper's
            conversion.
    """

    width: int = 32
    scales: int = 3
    recurrent: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for invalid options."""
        if self.scales < 1:
            raise ValueError(f"scales must be at least 1, not {self.scales}")


class ScaleConvolutions(nn.Module):
    """The convolutions without weight sharing over scales: those that change channels or resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        c = width
        self.head = nn.Conv2d(2, c, 3, padding=1)
        self.down1 = Halving(c, 2 * c, 3)
        self.down2 = Halving(2 * c, 4 * c, 3)
        self.up2 = doubling(4 * c, 2 * c)
        self.up1 = doubling(2 * c, c)
        self.tail = nn.Conv2d(c, 1, 3, padding=1)


class SharedModule(nn.Module):
    """The nonlinear module with weight sharing over scales; each scale applies it twice in a row.

    Its nested skip connections, x + a1 + a2 + ... where the input of each unit is the sum so far, are a
    chain of four residual blocks.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.units = residual_blocks(channels, 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) to the same shape."""
        return self.units(self.units(x))


class PSSNSC(nn.Module):
    """PSS-NSC: 3,871,715 parameters for three scales; converted to multi-temporal, with one, 3,357,345.

    With recurrent feature maps the converted network has 3,398,497. A network for grey images, applied
    to R, G and B separately. The input is the blurred image and an estimate, of the coarser scale or the
    last iteration; the output is the blurred image plus a residual. `members` are the scales, coarse to
    fine, which share the nonlinear modules; called itself, it runs the finest.

    Like `mtdeblur.networks.scale_recurrent` it needs multiples of 4 at each scale. The authors'
    initialisation is not known; PyTorch's default is used, because with Xavier's, as in the
    scale-recurrent network, the output diverges over the 48 residual blocks of a scale.
    """

    def __init__(self, config: PSSNSCConfig | None = None) -> None:
        super().__init__()
        self.config = config or PSSNSCConfig()
        c = self.config.width
        self.scales = nn.ModuleList(ScaleConvolutions(c) for _ in range(self.config.scales))
        self.encoder1, self.decoder1 = SharedModule(c), SharedModule(c)
        self.encoder2, self.decoder2 = SharedModule(2 * c), SharedModule(2 * c)
        self.encoder3, self.decoder3 = SharedModule(4 * c), SharedModule(4 * c)
        self.fuse1 = nn.Conv2d(4 * c, 2 * c, 1) if self.config.recurrent else None
        self.fuse2 = nn.Conv2d(8 * c, 4 * c, 1) if self.config.recurrent else None

    @property
    def contract(self) -> Contract:
        """Properties of the finest scale."""
        return self.facts(-1)

    def facts(self, scale: int) -> Contract:
        """Properties of a scale, by number; they differ only in the tail."""
        return Contract(
            multiple=4,
            halo=236,
            state_scales=(2, 4) if self.config.recurrent else (),
            scales=coarse_to_fine(self.config.scales) if self.config.scales > 1 else (),
            original="Gao et al., CVPR 2019; no licence stated",
            tail=self._own(scale).tail,
        )

    @property
    def members(self) -> Sequence[ProgressiveNetwork]:
        """The scales, coarse to fine."""
        return [Scale(self, number) for number in range(self.config.scales)]

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration at the finest scale, see `step`."""
        return self.step(-1, blurred, estimate, state)

    def step(self, scale: int, blurred: Tensor, estimate: Tensor, state: State) -> tuple[Tensor, State]:
        """Compute one iteration.

        Args:
            scale: number of the scale, coarse to fine.
            blurred: the blurred image at this scale, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; the blurred image at the first iteration.
            state: None at the first iteration, then the last returned state, resized to this scale.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and the recurrent feature maps, if any, of the
            picture padded to multiples of 4: (B, 6 width, H/2, W/2) and (B, 12 width, H/4, W/4), one
            third for each colour.

        Raises:
            ValueError: if the shapes do not match.
        """
        own = self._own(scale)
        inputs = colours_apart(blurred, estimate).to(own.head.weight.dtype)  # (3B, 2, H, W)
        f1, f2 = (None, None) if state is None else map(colours_apart, state)
        e1 = self.encoder1(functional.relu(own.head(inputs)))  # (3B, c, H, W)
        x = _fuse_state(self.fuse1, functional.relu(own.down1(e1)), f1)
        e2 = self.encoder2(x)  # (3B, 2c, H/2, W/2)
        x = _fuse_state(self.fuse2, functional.relu(own.down2(e2)), f2)
        f2 = self.decoder3(self.encoder3(x))  # (3B, 4c, H/4, W/4)
        f1 = self.decoder2(functional.relu(own.up2(f2)) + e2)
        x = self.decoder1(functional.relu(own.up1(f1)) + e1)
        residual = colours_together(own.tail(x))  # (3B, 1, H, W) to (B, 3, H, W)
        maps = RecurrentMaps(colours_together(f1), colours_together(f2)) if self.config.recurrent else None
        return blurred + residual, maps

    def _own(self, scale: int) -> ScaleConvolutions:
        return cast("ScaleConvolutions", self.scales[scale])


class Scale:
    """One scale of `PSSNSC` as a progressive network; the model owns its parameters."""

    def __init__(self, model: PSSNSC, number: int) -> None:
        self.model = model
        self.number = number

    @property
    def contract(self) -> Contract:
        """See `PSSNSC.facts`."""
        return self.model.facts(self.number)

    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration, see `PSSNSC.step`."""
        return self.model.step(self.number, blurred, estimate, state)


def _fuse_state(fuse: nn.Conv2d | None, x: Tensor, state: Tensor | None) -> Tensor:
    """Fuse x with a recurrent feature map, Eq. (4), or with itself at the first iteration."""
    return x if fuse is None else fuse(torch.cat([x, x if state is None else state], dim=1))  # (B, 2c -> c)
