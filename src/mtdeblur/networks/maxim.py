"""MAXIM (Tu et al., CVPR 2022): stages, each a U-Net of multi-axis gated MLPs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, any_size
from mtdeblur.networks.multi_axis import (
    Convolution,
    CrossGating,
    DenseAttention,
    Doubling,
    SupervisedAttention,
    Trunk,
    change_level,
)

LEVELS = 3
"""Full, half and quarter resolution; the bottleneck is at 1/8."""


@dataclass(frozen=True)
class MAXIMConfig:
    """Options; the default is MAXIM-3S, with 22,207,605 parameters.

    Attributes:
        width: channels at full resolution; twice as many at 1/2, four times as many at 1/4 and 1/8.
        tokens: side of the blocks and of the grid at full, 1/2, 1/4 and 1/8 resolution.
        stages: number of stages, without weight sharing.
        converted: convert to multi-temporal: one stage, whose input is concat(I0, estimate).
    """

    width: int = 32
    tokens: tuple[int, int, int, int] = (16, 16, 8, 8)
    stages: int = 3
    converted: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for invalid options."""
        if self.stages < 1 or (self.converted and self.stages > 1):
            raise ValueError(f"stages must be at least 1, and exactly 1 if converted, not {self.stages}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each level."""
        return tuple(self.width << level for level in range(LEVELS))

    @property
    def multiple(self) -> int:
        """Divisor of heights and widths, so that blocks and grids fit at every level."""
        return math.lcm(8, *(side << level for level, side in enumerate(self.tokens)))


class StageMaps(NamedTuple):
    """Encoder and decoder maps of a stage, for the next one: (B, width 2^i, H / 2^i, W / 2^i)."""

    encoder0: Tensor
    encoder1: Tensor
    encoder2: Tensor
    decoder0: Tensor
    decoder1: Tensor
    decoder2: Tensor


class MAXIM(nn.Module):
    """MAXIM; its stages, in order, are its `members`; called itself, it runs the first.

    Every stage returns a full-size estimate, so that inference may stop after any of them.
    """

    def __init__(self, config: MAXIMConfig | None = None) -> None:
        super().__init__()
        self.config = config or MAXIMConfig()
        self.stages = nn.ModuleList(Stage(self.config, number) for number in range(self.config.stages))

    @property
    def members(self) -> Sequence[ProgressiveNetwork]:
        """The stages in order."""
        return cast("list[ProgressiveNetwork]", list(self.stages))

    @property
    def contract(self) -> Contract:
        """Properties of the first stage; those of the others differ only in the tail."""
        return self.members[0].contract

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration with the first stage, see `Stage`."""
        return self.stages[0](blurred, estimate, state)


class Stage(nn.Module):
    """One stage: a U-Net that adds a residual to the blurred image.

    The weights of a stage's supervised attention (SAM) are in the next stage, which uses them.

    Args:
        config: of the network.
        number: number of the stage, from 0.
    """

    def __init__(self, config: MAXIMConfig, number: int) -> None:
        super().__init__()
        self.config, self.number = config, number
        widths, sides = config.widths, config.tokens
        sizes = list(zip(widths, sides, strict=False))  # of each level
        above = (widths[0], *widths[:-1])  # channels from the finer level
        below = (*widths[1:], widths[-1])  # channels from the coarser level
        images = 6 if config.converted else 3
        self.input = nn.ModuleList(Convolution(images, c, 3, padding=1) for c in widths)
        self.supervise, self.fuse, self.cross = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        if number:
            self.supervise = nn.ModuleList(
                SupervisedAttention(c, picture=i > 0) for i, c in enumerate(widths)
            )
            self.fuse = nn.ModuleList(CrossGating(c, c, c, side) for c, side in sizes)
            self.cross = nn.ModuleList(CrossGating(c, c, c, side) for c, side in sizes)
        self.encoder = nn.ModuleList(Trunk(a + c, c, side) for a, (c, side) in zip(above, sizes, strict=True))
        self.down = nn.ModuleList(Convolution(c, c, 4, stride=2, padding=1) for c in widths)
        deepest = widths[-1]
        self.bottleneck = nn.ModuleList(Trunk(deepest, deepest, sides[-1], DenseAttention) for _ in range(2))
        self.bridge = nn.ModuleList(_dense(widths, c) for c in widths)
        self.bridge_gate = nn.ModuleList(
            CrossGating(LEVELS * c, b, c, side, doubles=True)
            for b, (c, side) in zip(below, sizes, strict=True)
        )
        self.skip = nn.ModuleList(_dense(widths, c) for c in widths)
        self.up = nn.ModuleList(Doubling(b, c) for b, c in zip(below, widths, strict=True))
        self.decoder = nn.ModuleList(Trunk((1 + LEVELS) * c, c, side) for c, side in sizes)
        self.output = Convolution(widths[0], 3, 3, padding=1)

    @property
    def contract(self) -> Contract:
        """Properties of this stage."""
        several = self.config.stages > 1
        return Contract(
            multiple=self.config.multiple,
            halo=0,
            state_scales=(1, 2, 4) * 2 if several else (),
            iterations=Contract.iterations if self.config.converted else 1,
            scales=(1,) * self.config.stages if several else (),
            global_operation="grid mixing and channel attention over the whole picture",
            window=8 * self.config.multiple,
            original="Tu et al., CVPR 2022; Apache-2.0",
            tail=self.output,
        )

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration.

        Args:
            blurred: I0, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape. The first stage deblurs it, if converted with I0
                as additional input; later stages deblur I0 and use the estimate for supervised
                attention.
            state: the previous stage's state; ignored by the first stage.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and the `StageMaps` of the padded picture, or
            None if there is only one stage.

        Raises:
            ValueError: if the shapes do not match, or a later stage has no state.
        """
        self.needs_state(state)
        dtype = self.output.weight.dtype
        seen = self.sees(blurred, estimate)  # (B, 3 or 6, H, W)
        images = pyramid(seen)
        maps = [part.permute(0, 2, 3, 1) for part in state or ()]
        inputs = [convolve(x.to(dtype)) for convolve, x in zip(self.input, images, strict=True)]
        if self.number:
            picture = estimate.permute(0, 2, 3, 1)
            inputs = self._fuse_previous(inputs, [picture, *images[1:]], maps)
        encoded, x = self._encode(inputs, maps)
        decoded = self._decode(x, encoded)
        residual = self.output(decoded[0]).permute(0, 3, 1, 2)
        kept = (part.permute(0, 3, 1, 2) for part in (*encoded, *decoded))
        return seen[:, :3] + residual, StageMaps(*kept) if self.config.stages > 1 else None

    def sees(self, blurred: Tensor, estimate: Tensor) -> Tensor:
        """Input: the image to deblur (B, 3, H, W), or if converted concat(I0, estimate) (B, 6, H, W)."""
        if self.config.converted:
            return torch.cat([blurred, estimate], dim=1)
        return blurred if self.number else estimate

    def needs_state(self, state: State) -> None:
        """Raise ValueError if the state is missing."""
        if self.number and state is None:
            raise ValueError(f"stage {self.number + 1} needs the state of stage {self.number}")

    def for_inference(self, dtype: torch.dtype) -> ProgressiveNetwork:
        """See `mtdeblur.networks.contract.inference_form`."""
        from mtdeblur.networks.maxim_inference import InferenceStage

        return InferenceStage(self, dtype)

    def _fuse_previous(
        self, inputs: Iterable[Tensor], pictures: Iterable[Tensor], maps: list[Tensor]
    ) -> list[Tensor]:
        """Fuse the previous stage's features into the inputs of each level."""
        features = (
            supervise(x, picture)
            for supervise, x, picture in zip(self.supervise, maps[LEVELS:], pictures, strict=True)
        )
        return [fuse(x, y)[0] for fuse, x, y in zip(self.fuse, inputs, features, strict=True)]

    def _encode(self, inputs: Sequence[Tensor], maps: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Encoder maps of each level, and the bottleneck's map (B, H/8, W/8, 4 width)."""
        x, encoded = inputs[0], list[Tensor]()
        for i in range(LEVELS):
            x = self.encoder[i](torch.cat([x, inputs[i]], dim=-1))
            if self.number:
                x, _ = self.cross[i](x, maps[i] + maps[LEVELS + i])
            encoded.append(x)
            x = self.down[i](x)
        for trunk in self.bottleneck:
            x = trunk(x)
        return encoded, x

    def _decode(self, x: Tensor, encoded: Sequence[Tensor]) -> list[Tensor]:
        """Decoder maps of each level, finest first."""
        skips, decoded, gate = list(encoded), list(encoded), x
        for i in reversed(range(LEVELS)):
            joined = _gather(self.bridge[i], encoded, i, range(LEVELS))  # (B, .., .., 3 C)
            skips[i], gate = self.bridge_gate[i](joined, gate)
        for i in reversed(range(LEVELS)):
            joined = _gather(self.skip[i], skips, i, reversed(range(LEVELS)))
            x = self.decoder[i](torch.cat([self.up[i](x), joined], dim=-1))  # (B, .., .., 4 C -> C)
            decoded[i] = x
        return decoded


def pyramid(image: Tensor) -> list[Tensor]:
    """(B, C, H, W) as (B, H, W, C) at full, 1/2 and 1/4 size, sampled at the pixel after each centre."""
    x = image.permute(0, 2, 3, 1)
    return [x, x[:, 1::2, 1::2], x[:, 2::4, 2::4]]


def _dense(sources: Iterable[int], channels: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(source, channels) for source in sources)


def _gather(dense: nn.Module, maps: Sequence[Tensor], level: int, order: Iterable[int]) -> Tensor:
    """Concatenate the maps of all levels, resized to one level, each after a dense layer of its own.

    A dense layer and a resize commute, so that the layer is applied at the smaller size.
    """
    layers = cast("nn.ModuleList", dense)
    gathered = [
        change_level(layers[j](maps[j]), j, level)
        if j > level
        else layers[j](change_level(maps[j], j, level))
        for j in order
    ]
    return torch.cat(gathered, dim=-1)
