"""MAXIM as it runs fast on a processor: the function of a trained `Stage`, with its operations in another order.

An `InferenceStage` is derived from a trained stage and never stored. What is linear in a row becomes one map: scale and
bias of a normalisation go into the dense layer behind it; an input convolution or a resize, into the dense layer that
takes it in; a concatenation before a dense layer becomes a sum. Blocks, and offsets of the grid, do not depend on one
another, so that gated MLPs run over strips that stay in the cache and no map of twice the channels is ever whole.

Maps are (H, W, C) here, one picture at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.contract import Contract, State, check_inputs, pad_to_multiple
from mtdeblur.networks.maxim import LEVELS, Stage, StageMaps, pyramid
from mtdeblur.networks.multi_axis import (
    EPS,
    SLOPE,
    Axis,
    ConvolutionalAttention,
    CrossGating,
    DenseAttention,
    Gate,
    MultiAxisMLP,
    SupervisedAttention,
    TokenMixing,
    Trunk,
    split_tokens,
)

STRIP = 600_000
"""Values of a strip: with what is made of it, it stays in the cache."""
AXES: tuple[Axis, Axis] = ("grid", "block")


class Dense(NamedTuple):
    """A dense layer or a convolution: weight (out, in, ...) and bias (out), or None."""

    weight: Tensor
    bias: Tensor | None

    def to(self, dtype: torch.dtype) -> "Dense":
        """The same in another dtype, convolutions channels-last."""
        layout = torch.channels_last if self.weight.dim() == 4 else torch.contiguous_format
        weight = self.weight.detach().to(dtype).contiguous(memory_format=layout)
        return Dense(weight, None if self.bias is None else self.bias.detach().to(dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return functional.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """The same, then GELU; one operation where oneDNN has it."""
        if _FUSED_GELU:
            rows = x.view(-1, x.shape[-1])
            y = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "gelu", [], "tanh")
            return y.view(*x.shape[:-1], -1)
        return functional.gelu(functional.linear(x, self.weight, self.bias), approximate="tanh")

    def convolve(self, x: Tensor, stride: int = 1) -> Tensor:
        """(H, W, in) to (H / stride, W / stride, out), zeros around it."""
        padding = (self.weight.shape[-1] - 1) // 2
        y = functional.conv2d(x[None].permute(0, 3, 1, 2), self.weight, self.bias, stride, padding)
        return y[0].permute(1, 2, 0)


def _has_fused_gelu() -> bool:
    """Whether this PyTorch has the fused operation, which is no part of its public interface."""
    x = torch.zeros(2, 2)
    try:
        torch.ops.mkldnn._linear_pointwise(x, x, x[0], "gelu", [], "tanh")
    except (AttributeError, RuntimeError):
        return False
    return True


_FUSED_GELU = _has_fused_gelu()


def _exact(layer: nn.Module) -> Dense:
    """Weight and bias in float64."""
    found = cast("nn.Linear | nn.Conv2d | nn.ConvTranspose2d", layer)
    assert found.bias is not None
    return Dense(found.weight.detach().double(), found.bias.detach().double())


def _behind(norm: nn.LayerNorm, layer: nn.Linear) -> Dense:
    """A dense layer with the scale and the bias of the normalisation before it."""
    weight, bias = _exact(layer)
    assert bias is not None
    return Dense(weight * norm.weight.double(), bias + weight @ norm.bias.double())


def _halves(layer: Dense) -> tuple[Dense, Dense]:
    """A dense layer as two, for the first and the second half of what it gives."""
    assert layer.bias is not None
    first, second = (Dense(*half) for half in zip(layer.weight.chunk(2), layer.bias.chunk(2), strict=True))
    return first, second


def _after(dense: Dense, layer: Dense, transposed: bool = False) -> Dense:
    """A dense or (transposed) convolution layer, then a dense one, as one layer of the first's kind."""
    assert layer.bias is not None
    rule = "po,iokl->ipkl" if transposed else "po,oi...->pi..."
    bias = dense.weight @ layer.bias
    return Dense(
        torch.einsum(rule, dense.weight, layer.weight), bias if dense.bias is None else bias + dense.bias
    )


def _plus(*layers: Dense) -> Dense:
    """Layers that take in the same and are added, as one."""
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return Dense(
        torch.stack([layer.weight for layer in layers]).sum(0), torch.stack(biases).sum(0) if biases else None
    )


def _columns(dense: Dense, start: int, stop: int) -> Dense:
    """What a dense layer does with some of its inputs; without its bias."""
    return Dense(dense.weight[:, start:stop], None)


def _normalise(x: Tensor, norm: Dense | None = None) -> Tensor:
    """Layer normalisation over the channels; its statistics are float32 inside."""
    weight, bias = (None, None) if norm is None else norm
    return functional.layer_norm(x, x.shape[-1:], weight, bias, EPS)


def _strips(x: Tensor, side: int, axis: Axis) -> Iterator[tuple[Tensor, slice]]:
    """Views (side, side, rows, W / side, C) over a map, tokens first, and which rows of each cell they are."""
    tokens = split_tokens(x[None], side, axis)[:, :, 0]  # (s, s, H/s, W/s, C)
    rows = tokens.shape[2]
    number = -(-rows // max(1, STRIP * rows // x.numel()))  # of strips
    step = -(-rows // number)
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        yield tokens[:, :, part], part


class _Tokens:
    """Token mixing over (tokens, values)."""

    def __init__(self, layer: TokenMixing, dtype: torch.dtype, plus: float = 0.0) -> None:
        self.side = layer.side
        self.weight = layer.weight.detach().to(dtype)
        self.bias = (layer.bias.detach().double() + plus).to(dtype)[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, self.weight, x.view(self.side**2, -1)).view(x.shape)


class _Half:
    """One axis of a multi-axis MLP: its half of the expansion, its gated MLP, and its part of the projection."""

    def __init__(self, mlp: MultiAxisMLP, number: int, dtype: torch.dtype) -> None:
        gated = (mlp.grid, mlp.block)[number]
        channels = gated.norm.weight.shape[0]
        self.axis = AXES[number]
        self.expand = _halves(_behind(mlp.norm, mlp.expand))[number].to(dtype)
        self.value, self.gate = (half.to(dtype) for half in _halves(_behind(gated.norm, gated.expand)))
        self.norm = _exact(gated.gate_norm).to(dtype)
        self.tokens = _Tokens(gated.gate, dtype, plus=1.0)
        self.inner = _exact(gated.project).to(dtype).weight.t()
        outer = _columns(_exact(mlp.project), number * channels, (number + 1) * channels)
        self.bias = outer.weight @ _exact(gated.project).bias
        self.outer = outer.to(dtype)

    def add_to(self, out: Tensor, normalised: Tensor) -> None:
        """Add what it makes of a normalised map (H, W, C) to another, strip by strip."""
        side = self.tokens.side
        for (seen, _), (target, _) in zip(
            _strips(normalised, side, self.axis), _strips(out, side, self.axis), strict=True
        ):
            x = self.expand.gelu(seen.reshape(-1, seen.shape[-1]))
            n = _normalise(x)
            gate = self.tokens(_normalise(self.gate.gelu(n), self.norm))
            x.addmm_(self.value.gelu(n).mul_(gate), self.inner)
            target.add_(self.outer(x).view(seen.shape))


class _MultiAxis:
    def __init__(self, mlp: MultiAxisMLP, dtype: torch.dtype) -> None:
        self.halves = [_Half(mlp, number, dtype) for number in range(2)]
        bias = _exact(mlp.project).bias
        assert bias is not None
        self.bias = (bias + self.halves[0].bias + self.halves[1].bias).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out, normalised = x + self.bias, _normalise(x)
        for half in self.halves:
            half.add_to(out, normalised)
        return out


class _Attention:
    """Residual channel attention, by convolutions or dense layers."""

    def __init__(self, block: ConvolutionalAttention | DenseAttention, dtype: torch.dtype) -> None:
        self.norm: Dense | None = None
        if isinstance(block, ConvolutionalAttention):  # whose zeros around the map forbid to fold
            self.norm = _exact(block.norm).to(dtype)
            layers = (_exact(block.conv1), _exact(block.conv2))
        else:
            layers = (_behind(block.norm, block.dense1), _exact(block.dense2))
        self.first, self.second = (layer.to(dtype) for layer in layers)
        self.reduce, self.expand = (
            _exact(x).to(dtype) for x in (block.attention.reduce, block.attention.expand)
        )

    def __call__(self, x: Tensor) -> Tensor:
        n = _normalise(x, self.norm)
        if self.norm is None:
            y = self.second(self.first.gelu(n))
        else:
            y = self.second.convolve(functional.leaky_relu_(self.first.convolve(n), SLOPE))
        means = y.mean((0, 1), dtype=torch.float32).to(y.dtype)
        return torch.addcmul(x, y, torch.sigmoid(self.expand(functional.relu(self.reduce(means)))))


class _Trunk:
    """A trunk behind its first dense layer, which is merged into what comes before."""

    def __init__(self, trunk: nn.Module, dtype: torch.dtype) -> None:
        assert isinstance(trunk, Trunk)
        pairs = zip(trunk.mix, trunk.attend, strict=True)
        self.blocks = [
            made
            for mix, attend in pairs
            for made in (
                _MultiAxis(cast("MultiAxisMLP", mix), dtype),
                _Attention(cast("ConvolutionalAttention | DenseAttention", attend), dtype),
            )
        ]

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y)
        return y.add_(x)


class _Gate:
    def __init__(self, gate: Gate, dtype: torch.dtype) -> None:
        channels = gate.norm.weight.shape[0]
        self.expand = [half.to(dtype) for half in _halves(_behind(gate.norm, gate.expand))]
        self.tokens = [_Tokens(layer, dtype) for layer in (gate.grid, gate.block)]
        project = _exact(gate.project)
        self.project = [_columns(project, n * channels, (n + 1) * channels).to(dtype) for n in range(2)]
        assert project.bias is not None
        self.bias = project.bias.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out, normalised = self.bias.expand(x.shape).contiguous(), _normalise(x)
        for axis, expand, tokens, project in zip(AXES, self.expand, self.tokens, self.project, strict=True):
            for (seen, _), (target, _) in zip(
                _strips(normalised, tokens.side, axis), _strips(out, tokens.side, axis), strict=True
            ):
                mixed = tokens(expand.gelu(seen.reshape(-1, seen.shape[-1])))
                target.add_(project(mixed).view(seen.shape))
        return out


class _Cross:
    """Cross gating behind its projections, which are merged into what comes before."""

    def __init__(self, cross: nn.Module, dtype: torch.dtype) -> None:
        assert isinstance(cross, CrossGating)
        self.into = [
            _behind(n, i).to(dtype) for n, i in ((cross.norm_x, cross.in_x), (cross.norm_y, cross.in_y))
        ]
        self.gates = [_Gate(cross.gate_x, dtype), _Gate(cross.gate_y, dtype)]
        self.out = [_exact(layer).to(dtype) for layer in (cross.out_x, cross.out_y)]

    def __call__(self, skip_x: Tensor, skip_y: Tensor) -> tuple[Tensor, Tensor]:
        """Both results; they take the place of the projected maps (H, W, C)."""
        x, y = (into.gelu(_normalise(skip)) for into, skip in zip(self.into, (skip_x, skip_y), strict=True))
        gate_x, gate_y = self.gates[0](x), self.gates[1](y)
        skip_y.add_(self.out[1](gate_x.mul_(y)))
        skip_x.add_(self.out[0](gate_y.mul_(x))).add_(skip_y)
        return skip_x, skip_y


class _Gathering:
    """The maps of all levels at one of them: each resized, through its dense layer, and added up."""

    def __init__(
        self, dense: Dense, layers: nn.Module, order: Sequence[int], level: int, dtype: torch.dtype
    ) -> None:
        merged: dict[int, Dense] = {}
        channels = dense.weight.shape[1] // LEVELS
        for place, source in enumerate(order):
            part = _columns(dense, place * channels, (place + 1) * channels)
            merged[source] = _after(part, _exact(cast("nn.ModuleList", layers)[source]))
        biases = [layer.bias for layer in merged.values() if layer.bias is not None]
        self.bias = torch.stack([*biases, *([] if dense.bias is None else [dense.bias])]).sum(0).to(dtype)
        self.layers: Mapping[int, Dense] = {
            j: _columns(layer, 0, layer.weight.shape[1]).to(dtype) for j, layer in merged.items()
        }
        self.level = level

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        i = self.level
        out = functional.linear(maps[i], self.layers[i].weight, self.bias)
        for j, layer in self.layers.items():
            if j < i:
                out.add_(layer(_shrink(maps[j], 1 << (i - j))))
            elif j > i:
                small = layer(maps[j])[None].permute(0, 3, 1, 2)
                out.add_(functional.interpolate(small, out.shape[:2], mode="bilinear")[0].permute(1, 2, 0))
        return out


def _shrink(x: Tensor, factor: int) -> Tensor:
    """Antialiased bilinear shrinking of (H, W, C): a triangle filter, whose missing taps at edges are made up for."""
    taps = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    channels = x.shape[-1]
    weight = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    y = functional.conv2d(x[None].permute(0, 3, 1, 2), weight, None, factor, factor // 2, groups=channels)
    y = y[0].permute(1, 2, 0)
    share = taps[factor // 2 :].sum() / taps.sum()  # of the taps that lie inside at an edge
    for edge in (y[0], y[-1], y[:, 0], y[:, -1]):
        edge.div_(share)
    return y


class _Doubling:
    """A transposed convolution 2x2 with stride 2, as a dense layer to four pixels."""

    def __init__(self, layer: Dense, dtype: torch.dtype) -> None:
        inputs, self.channels = layer.weight.shape[:2]
        assert layer.bias is not None
        weight = layer.weight.permute(2, 3, 1, 0).reshape(-1, inputs)
        self.dense = Dense(weight, layer.bias.repeat(4)).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        h, w, _ = x.shape
        return self.dense(x).view(h, w, 2, 2, self.channels).permute(0, 2, 1, 3, 4).reshape(2 * h, 2 * w, -1)


class _Supervision:
    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        assert isinstance(module, SupervisedAttention)
        self.feature, self.attention = (_exact(x).to(dtype) for x in (module.feature, module.attention))
        self.image = None if module.image is None else _exact(module.image).to(dtype)

    def __call__(self, x: Tensor, picture: Tensor) -> Tensor:
        if self.image is not None:
            picture = picture + self.image.convolve(x)
        weights = torch.sigmoid_(self.attention.convolve(picture.to(x.dtype)))
        return torch.addcmul(x, self.feature.convolve(x), weights)


class InferenceStage:
    """A trained stage for inference on a processor, in one dtype; a progressive network without parameters.

    Args:
        stage: trained, float32 on the CPU; not kept.
        dtype: that maps are computed in. Pictures and sums over them stay float32.
    """

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        self.contract: Contract = stage.contract
        self.dtype, self.number, self.config = dtype, stage.number, stage.config
        self.output = _exact(stage.output).to(dtype)
        self._derive_encoder(stage, dtype)
        self.middle = [_Trunk(trunk, dtype) for trunk in stage.bottleneck]
        self.middle_project = _exact(_project(stage.bottleneck[1])).to(dtype)
        upwards, downwards = tuple(range(LEVELS)), tuple(reversed(range(LEVELS)))
        self.bridge: list[_Gathering] = []
        self.bridge_up: list[_Doubling] = []
        self.skip: list[_Gathering] = []
        self.up: list[_Doubling] = []
        for i in range(LEVELS):
            cross, trunk = cast("CrossGating", stage.bridge_gate[i]), _exact(_project(stage.decoder[i]))
            channels = trunk.weight.shape[0]
            self.bridge.append(_Gathering(_exact(cross.project_x), stage.bridge[i], upwards, i, dtype))
            up = _after(_exact(cross.project_y), _exact(cast("nn.Module", cross.up)), transposed=True)
            self.bridge_up.append(_Doubling(up, dtype))
            part = Dense(trunk.weight[:, channels:], trunk.bias)
            self.skip.append(_Gathering(part, stage.skip[i], downwards, i, dtype))
            up = _after(_columns(trunk, 0, channels), _exact(stage.up[i]), transposed=True)
            self.up.append(_Doubling(up, dtype))
        self.bridge_gate = [_Cross(cross, dtype) for cross in stage.bridge_gate]
        self.decoder = [_Trunk(trunk, dtype) for trunk in stage.decoder]

    def _derive_encoder(self, stage: Stage, dtype: torch.dtype) -> None:
        self.encoder = [_Trunk(trunk, dtype) for trunk in stage.encoder]
        self.input: list[Dense] = []
        self.down: list[Dense] = []
        self.take: list[Dense] = []
        for i in range(LEVELS):
            project, convolution = _exact(_project(stage.encoder[i])), _exact(stage.input[i])
            channels = convolution.weight.shape[0]
            split = project.weight.shape[1] - channels
            above, beside = _columns(project, 0, split), Dense(project.weight[:, split:], project.bias)
            if i == 0:
                beside = _plus(above, beside)  # at full size both are the same map
            else:
                self.down.append(_after(above, _exact(stage.down[i - 1])).to(dtype))
            if self.number == 0:
                self.input.append(_after(beside, convolution).to(dtype))
            else:
                fuse = cast("CrossGating", stage.fuse[i])
                self.input.append(_after(_exact(fuse.project_x), convolution).to(dtype))
                self.take.append(beside.to(dtype))
        self.down.append(_after(_exact(_project(stage.bottleneck[0])), _exact(stage.down[-1])).to(dtype))
        if self.number:
            self.supervise = [_Supervision(module, dtype) for module in stage.supervise]
            self.fuse = [_Cross(cross, dtype) for cross in stage.fuse]
            self.cross = [_Cross(cross, dtype) for cross in stage.cross]
            crosses = [cast("CrossGating", cross) for cross in (*stage.fuse, *stage.cross)]
            self.fuse_y = [_exact(cross.project_y).to(dtype) for cross in crosses[:LEVELS]]
            self.cross_x = [_exact(cross.project_x).to(dtype) for cross in crosses[LEVELS:]]
            self.cross_y = [_exact(cross.project_y).to(dtype) for cross in crosses[LEVELS:]]

    @torch.inference_mode()
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration, as `Stage` has it; (B, 3, H, W) float32 on the CPU in and out."""
        check_inputs(blurred, estimate)
        height, width = blurred.shape[-2:]
        first = estimate if self.number == 0 else blurred
        seen = torch.cat([blurred, estimate], dim=1) if self.config.converted else first
        padded = [pad_to_multiple(image, self.config.multiple) for image in (seen, estimate)]
        estimates: list[Tensor] = []
        kept: list[list[Tensor]] = []
        for b in range(blurred.shape[0]):
            maps = [part[b].permute(1, 2, 0) for part in state or ()]
            images = [image[0] for image in pyramid(padded[0][b : b + 1])]
            encoded, x = self._encode(images, padded[1][b].permute(1, 2, 0), maps)
            decoded = self._decode(x, encoded)
            residual = self.output.convolve(decoded[0]).permute(2, 0, 1)[:, :height, :width]
            estimates.append(seen[b, :3] + residual)
            kept.append([*encoded, *decoded])
        if self.config.stages == 1:
            return torch.stack(estimates), None
        maps = (torch.stack(parts).permute(0, 3, 1, 2) for parts in zip(*kept, strict=True))
        return torch.stack(estimates), StageMaps(*maps)

    def _encode(
        self, images: list[Tensor], estimate: Tensor, maps: list[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        if self.number and not maps:
            raise ValueError(f"stage {self.number + 1} needs the state that stage {self.number} gives")
        encoded: list[Tensor] = []
        x: Tensor | None = None
        for i in range(LEVELS):
            y = self.input[i].convolve(images[i].to(self.dtype))
            if self.number:
                features = self.supervise[i](maps[LEVELS + i], images[i] if i else estimate)
                y, _ = self.fuse[i](y, self.fuse_y[i](features))
                y = self.take[i](y)
            x = self.encoder[i](y if x is None else x.add_(y))
            if self.number:
                before = self.cross_y[i](maps[i] + maps[LEVELS + i])
                x, _ = self.cross[i](self.cross_x[i](x), before)
            encoded.append(x)
            x = self.down[i].convolve(x, stride=2)
        x = self.middle[0](x)
        return encoded, self.middle[1](self.middle_project(x))

    def _decode(self, x: Tensor, encoded: list[Tensor]) -> list[Tensor]:
        skips, decoded, gate = list(encoded), list(encoded), x
        for i in reversed(range(LEVELS)):
            skips[i], gate = self.bridge_gate[i](self.bridge[i](encoded), self.bridge_up[i](gate))
        for i in reversed(range(LEVELS)):
            x = decoded[i] = self.decoder[i](self.skip[i](skips).add_(self.up[i](x)))
        return decoded


def _project(trunk: nn.Module) -> nn.Linear:
    assert isinstance(trunk, Trunk)
    return trunk.project
