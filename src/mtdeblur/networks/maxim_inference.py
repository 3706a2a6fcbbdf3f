"""Fast inference of a MAXIM stage on a CPU; derived from a trained stage, never stored.

Input convolutions and resizes are merged with the dense layer behind them, and a concatenation before a
dense layer becomes a sum. The blocks are in `mtdeblur.networks.multi_axis_inference`. Maps are
(H, W, C), one picture at a time.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.contract import Contract, State, any_size
from mtdeblur.networks.inference_layers import Dense, convolve, exact, without_bias
from mtdeblur.networks.maxim import LEVELS, Stage, StageMaps, pyramid
from mtdeblur.networks.multi_axis import CrossGating, SupervisedAttention, Trunk
from mtdeblur.networks.multi_axis_inference import InferenceCrossGating, InferenceTrunk


class InferenceStage:
    """A trained stage for inference on a CPU: a progressive network without parameters.

    Args:
        stage: trained, float32, on the CPU.
        dtype: dtype of the maps; pictures and sums over them stay float32.
    """

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        self.contract: Contract = stage.contract
        self.sees, self.needs_state = stage.sees, stage.needs_state
        self.hands_on = stage.config.stages > 1
        self.dtype = dtype
        self.encoder = _Encoder(stage, dtype)
        self.decoder = _Decoder(stage, dtype)

    @torch.inference_mode()
    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration as `Stage` does; images are (B, 3, H, W) float32 on the CPU."""
        self.needs_state(state)
        seen = self.sees(blurred, estimate)
        estimates: list[Tensor] = []
        kept: list[list[Tensor]] = []
        for number in range(blurred.shape[0]):
            images = [image[0] for image in pyramid(seen[number : number + 1])]
            before = [part[number].permute(1, 2, 0) for part in state or ()]
            picture = estimate[number].permute(1, 2, 0)
            encoded, x = self.encoder(images, [picture, *images[1:]], before)
            decoded = self.decoder(x, encoded)
            residual = self.decoder.output.convolve(decoded[0]).permute(2, 0, 1)
            estimates.append(seen[number, :3] + residual)
            kept.append([*encoded, *decoded])
        if not self.hands_on:
            return torch.stack(estimates), None
        maps = (torch.stack(parts).permute(0, 3, 1, 2) for parts in zip(*kept, strict=True))
        return torch.stack(estimates), StageMaps(*maps)


class _Encoder:
    """Encoder and bottleneck."""

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        self.trunks = [InferenceTrunk(trunk, dtype) for trunk in stage.encoder]
        self.bottleneck = [InferenceTrunk(trunk, dtype) for trunk in stage.bottleneck]
        first, second = (_first_layer(trunk) for trunk in stage.bottleneck)
        self.between = second.to(dtype)
        gatings = zip(stage.supervise, stage.fuse, stage.cross, strict=True)
        self.fusions = [_Fusion(*modules, dtype) for modules in gatings]
        self.input: list[Dense] = []
        self.take: list[Dense] = []  # the trunk's first layer for a fused map
        self.down: list[Dense] = []
        for level, (trunk, convolution) in enumerate(zip(stage.encoder, stage.input, strict=True)):
            layer, picture = _first_layer(trunk), exact(convolution)
            split = layer.weight.shape[1] - picture.weight.shape[0]
            above, beside = layer.weight[:, :split], Dense(layer.weight[:, split:], layer.bias)
            if level == 0:  # both inputs are the same map
                beside = Dense(above + beside.weight, beside.bias)
            else:
                merged = without_bias(above).after(exact(stage.down[level - 1]))
                self.down.append(merged.to(dtype))
            if self.fusions:
                fuse = exact(cast("CrossGating", stage.fuse[level]).project_x)
                self.input.append(fuse.after(picture).to(dtype))
                self.take.append(beside.to(dtype))
            else:
                self.input.append(beside.after(picture).to(dtype))
        self.down.append(first.after(exact(stage.down[-1])).to(dtype))

    def __call__(
        self, images: Sequence[Tensor], pictures: Sequence[Tensor], before: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """Encoder maps of each level, and the bottleneck's map.

        Args:
            images: the stage's input at each level.
            pictures: input of the supervised attention at each level.
            before: maps of the previous stage.
        """
        x: Tensor | None = None
        encoded: list[Tensor] = []
        for level in range(LEVELS):
            y = self.input[level].convolve(images[level].to(self.input[level].bias.dtype))
            if self.fusions:
                y = self.fusions[level].fuse(y, before[LEVELS + level], pictures[level])
                y = self.take[level](y)
            x = self.trunks[level](y if x is None else x.add_(y))
            if self.fusions:
                x = self.fusions[level].cross(x, before[level] + before[LEVELS + level])
            encoded.append(x)
            x = self.down[level].convolve(x, stride=2)
        assert x is not None
        first, second = self.bottleneck
        return encoded, second(self.between(first(x)))


class _Fusion:
    """Fusion of the previous stage's maps at one level."""

    def __init__(self, supervise: nn.Module, fuse: nn.Module, cross: nn.Module, dtype: torch.dtype) -> None:
        sam = cast("SupervisedAttention", supervise)
        fuse, cross = cast("CrossGating", fuse), cast("CrossGating", cross)
        self.feature, self.attention = (exact(layer).to(dtype) for layer in (sam.feature, sam.attention))
        self.image = None if sam.image is None else exact(sam.image).to(dtype)
        self.gatings = [InferenceCrossGating(gating, dtype) for gating in (fuse, cross)]
        layers = (fuse.project_y, cross.project_x, cross.project_y)
        self.fuse_y, self.cross_x, self.cross_y = (exact(layer).to(dtype) for layer in layers)

    def fuse(self, x: Tensor, features: Tensor, picture: Tensor) -> Tensor:
        """Supervised attention on features, then cross gating into a projected map."""
        if self.image is not None:
            picture = picture + self.image.convolve(features)
        weights = torch.sigmoid_(self.attention.convolve(picture.to(features.dtype)))
        weighted = torch.addcmul(features, self.feature.convolve(features), weights)
        return self.gatings[0](x, self.fuse_y(weighted))[0]

    def cross(self, x: Tensor, before: Tensor) -> Tensor:
        """Cross gating of the encoder's map with the sum of the previous stage's maps."""
        return self.gatings[1](self.cross_x(x), self.cross_y(before))[0]


class _Decoder:
    """Decoder."""

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        self.output = exact(stage.output).to(dtype)
        self.trunks = [InferenceTrunk(trunk, dtype) for trunk in stage.decoder]
        self.gates = [InferenceCrossGating(cross, dtype) for cross in stage.bridge_gate]
        self.bridge: list[_Gathering] = []
        self.skip: list[_Gathering] = []
        self.gate_up: list[_Doubling] = []
        self.up: list[_Doubling] = []
        for level in range(LEVELS):
            cross, trunk = cast("CrossGating", stage.bridge_gate[level]), _first_layer(stage.decoder[level])
            channels = trunk.weight.shape[0]
            above, beside = trunk.weight[:, :channels], Dense(trunk.weight[:, channels:], trunk.bias)
            upwards, downwards = range(LEVELS), range(LEVELS)[::-1]
            project = exact(cross.project_x)
            self.bridge.append(_Gathering(project, stage.bridge[level], upwards, level, dtype))
            self.skip.append(_Gathering(beside, stage.skip[level], downwards, level, dtype))
            up = exact(cast("nn.Module", cross.up))
            self.gate_up.append(_Doubling(exact(cross.project_y).after(up, transposed=True), dtype))
            up = without_bias(above).after(exact(stage.up[level]), transposed=True)
            self.up.append(_Doubling(up, dtype))

    def __call__(self, x: Tensor, encoded: list[Tensor]) -> list[Tensor]:
        """Decoder maps of each level."""
        skips, decoded, gate = list(encoded), list(encoded), x
        for level in reversed(range(LEVELS)):
            joined = self.bridge[level](encoded)
            skips[level], gate = self.gates[level](joined, self.gate_up[level](gate))
        for level in reversed(range(LEVELS)):
            x = decoded[level] = self.trunks[level](self.skip[level](skips).add_(self.up[level](x)))
        return decoded


class _Gathering:
    """Sum of the maps of all levels, resized to one level, each after its dense layer."""

    def __init__(
        self, dense: Dense, layers: nn.Module, order: Sequence[int], level: int, dtype: torch.dtype
    ) -> None:
        self.level = level
        self.weights: dict[int, Tensor] = {}
        bias = dense.bias
        for source, part in zip(order, dense.weight.chunk(LEVELS, dim=1), strict=True):
            merged = without_bias(part).after(exact(cast("nn.ModuleList", layers)[source]))
            self.weights[source] = merged.weight.to(dtype)
            bias = bias + merged.bias
        self.bias = bias.to(dtype)

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        level = self.level
        out = functional.linear(maps[level], self.weights[level], self.bias)
        for source, weight in self.weights.items():
            if source < level:
                out.add_(functional.linear(shrink(maps[source], 1 << (level - source)), weight))
            elif source > level:
                small = functional.linear(maps[source], weight)[None].permute(0, 3, 1, 2)
                large = functional.interpolate(small, out.shape[:2], mode="bilinear")
                out.add_(large[0].permute(1, 2, 0))
        return out


class _Doubling:
    """2x2 transposed convolution with stride 2, as a dense layer to four pixels."""

    def __init__(self, layer: Dense, dtype: torch.dtype) -> None:
        weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (in, out, 2, 2) to (4 out, in)
        self.dense = Dense(weight, layer.bias.repeat(4)).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        h, w, _ = x.shape
        return self.dense(x).view(h, w, 2, 2, -1).permute(0, 2, 1, 3, 4).reshape(2 * h, 2 * w, -1)


def shrink(x: Tensor, factor: int) -> Tensor:
    """Shrink (H, W, C) by 2 or 4, bilinear and antialiased: a triangle filter, renormalised at edges."""
    taps = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    channels = x.shape[-1]
    y = convolve(x, kernel.to(x.dtype).expand(channels, 1, -1, -1), None, factor, factor // 2, channels)
    inside = taps[factor // 2 :].sum() / taps.sum()  # sum of the taps inside the map at an edge
    for edge in (y[0], y[-1], y[:, 0], y[:, -1]):
        edge.div_(inside)
    return y


def _first_layer(trunk: nn.Module) -> Dense:
    return exact(cast("Trunk", trunk).project)
