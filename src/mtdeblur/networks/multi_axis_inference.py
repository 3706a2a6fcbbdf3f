"""Fast inference of MAXIM's building blocks on a CPU; derived from trained blocks, never stored.

Consecutive linear operations are merged: the scale and bias of a normalisation into the dense layer
behind it, a concatenation before a dense layer into a sum. Blocks, and offsets of the grid, are
independent: gated MLPs process strips that stay in the cache, and expanded maps are never stored whole.
Maps are (H, W, C), one picture at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.multi_axis import (
    EPS,
    SLOPE,
    Axis,
    ConvolutionalAttention,
    CrossGating,
    Gate,
    MultiAxisMLP,
    TokenMixing,
    Trunk,
    split_tokens,
)

STRIP = 600_000
"""Values per strip; a strip and its intermediate results fit into the cache."""
AXES: tuple[Axis, Axis] = ("grid", "block")


def _has_fused_gelu() -> bool:
    """Whether this PyTorch has the fused operation, which is not in its public interface."""
    x = torch.zeros(2, 2)
    try:
        torch.ops.mkldnn._linear_pointwise(x, x, x[0], "gelu", [], "tanh")
    except (AttributeError, RuntimeError):
        return False
    return True


FUSED_GELU = _has_fused_gelu()


class Dense(NamedTuple):
    """A dense layer, a convolution or a normalisation: weight (out, in, ...) and bias (out)."""

    weight: Tensor
    bias: Tensor

    def to(self, dtype: torch.dtype) -> "Dense":
        """Convert to a dtype, convolutions to channels-last."""
        layout = torch.channels_last if self.weight.dim() == 4 else torch.contiguous_format
        return Dense(self.weight.to(dtype).contiguous(memory_format=layout), self.bias.to(dtype))

    def halves(self) -> tuple["Dense", "Dense"]:
        """Split into two layers, for the first and the second half of the outputs."""
        weights, biases = self.weight.chunk(2), self.bias.chunk(2)
        return Dense(weights[0], biases[0]), Dense(weights[1], biases[1])

    def after(self, layer: "Dense", *, transposed: bool = False) -> "Dense":
        """Merge a dense or (transposed) convolution layer with this dense layer behind it."""
        rule = "po,iokl->ipkl" if transposed else "po,oi...->pi..."
        weight = torch.einsum(rule, self.weight, layer.weight)
        return Dense(weight, self.bias + self.weight @ layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return functional.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """Dense layer, then GELU; one fused operation if oneDNN supports it."""
        if not FUSED_GELU:
            return functional.gelu(self(x), approximate="tanh")
        rows = x.reshape(-1, x.shape[-1])
        y = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "gelu", [], "tanh")
        return y.view(*x.shape[:-1], -1)

    def convolve(self, x: Tensor, stride: int = 1) -> Tensor:
        """(H, W, in) to (H / stride, W / stride, out), with zero padding."""
        return convolve(x, self.weight, self.bias, stride, (self.weight.shape[-1] - 1) // 2)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int = 1
) -> Tensor:
    """Convolution of (H, W, in); oneDNN recognises the permuted view as channels-last."""
    y = functional.conv2d(x[None].permute(0, 3, 1, 2), weight, bias, stride, padding, groups=groups)
    return y[0].permute(1, 2, 0)


def exact(layer: nn.Module) -> Dense:
    """Weight and bias of a trained layer, float64."""
    linear = cast("nn.Linear", layer)
    return Dense(linear.weight.detach().double(), linear.bias.detach().double())


def without_bias(weight: Tensor) -> Dense:
    """Dense layer with weights (out, in) and zero bias."""
    return Dense(weight, torch.zeros_like(weight[:, 0]))


def behind(norm: nn.LayerNorm, layer: nn.Linear) -> Dense:
    """Dense layer merged with the scale and the bias of the normalisation before it, float64."""
    return exact(layer).after(Dense(torch.diag(exact(norm).weight), exact(norm).bias))


def normalise(x: Tensor, norm: Dense | None = None) -> Tensor:
    """Layer normalisation over the channels, with float32 statistics."""
    weight, bias = (None, None) if norm is None else norm
    return functional.layer_norm(x, x.shape[-1:], weight, bias, EPS)


def _strips(x: Tensor, target: Tensor, side: int, axis: Axis) -> Iterator[tuple[Tensor, Tensor]]:
    """Strips of two maps (H, W, C) as views (side, side, rows, W / side, C), token axes first."""
    tokens, targets = (split_tokens(part[None], side, axis)[:, :, 0] for part in (x, target))
    rows = tokens.shape[2]
    number = -(-rows // max(1, STRIP * rows // x.numel()))
    yield from zip(tokens.chunk(number, dim=2), targets.chunk(number, dim=2), strict=True)


class _Tokens:
    """Token mixing over (tokens, values)."""

    def __init__(self, layer: TokenMixing, dtype: torch.dtype, plus: float = 0.0) -> None:
        self.side = layer.side
        self.weight = layer.weight.detach().to(dtype)
        self.bias = (layer.bias.detach().double() + plus).to(dtype)[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, self.weight, x.view(self.side**2, -1)).view(x.shape)


class _Half:
    """One axis of a multi-axis MLP: half of the expansion, the gated MLP, half of the projection."""

    def __init__(self, mlp: MultiAxisMLP, number: int, dtype: torch.dtype) -> None:
        gated = (mlp.grid, mlp.block)[number]
        self.axis: Axis = AXES[number]
        self.expand = behind(mlp.norm, mlp.expand).halves()[number].to(dtype)
        self.value, self.gate = (half.to(dtype) for half in behind(gated.norm, gated.expand).halves())
        self.norm = exact(gated.gate_norm).to(dtype)
        self.tokens = _Tokens(gated.gate, dtype, plus=1.0)
        inner, outer = exact(gated.project), exact(mlp.project).weight.chunk(2, dim=1)[number]
        self.bias: Tensor = outer @ inner.bias
        self.inner, self.outer = inner.weight.to(dtype).t(), outer.to(dtype)

    def add_to(self, out: Tensor, normalised: Tensor) -> None:
        """Add the output for a normalised map (H, W, C) to `out`, strip by strip."""
        for seen, target in _strips(normalised, out, self.tokens.side, self.axis):
            x = self.expand.gelu(seen.reshape(-1, seen.shape[-1]))
            n = normalise(x)
            gate = self.tokens(normalise(self.gate.gelu(n), self.norm))
            x.addmm_(self.value.gelu(n).mul_(gate), self.inner)
            target.add_(functional.linear(x, self.outer).view(seen.shape))


class _MultiAxis:
    def __init__(self, mlp: MultiAxisMLP, dtype: torch.dtype) -> None:
        self.halves = [_Half(mlp, number, dtype) for number in range(2)]
        self.bias = (exact(mlp.project).bias + self.halves[0].bias + self.halves[1].bias).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out, normalised = x + self.bias, normalise(x)
        for half in self.halves:
            half.add_to(out, normalised)
        return out


class _Attention:
    """Residual channel attention block with convolutions or dense layers."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        self.norm: Dense | None = None
        if isinstance(block, ConvolutionalAttention):  # zero padding prevents merging
            self.norm = exact(block.norm).to(dtype)
            layers = (exact(block.conv1), exact(block.conv2))
        else:
            layers = (behind(block.norm, block.dense1), exact(block.dense2))  # pyright: ignore[reportArgumentType]
        self.first, self.second = (layer.to(dtype) for layer in layers)
        attention = cast("ConvolutionalAttention", block).attention
        self.reduce, self.expand = (exact(layer).to(dtype) for layer in (attention.reduce, attention.expand))

    def __call__(self, x: Tensor) -> Tensor:
        n = normalise(x, self.norm)
        if self.norm is None:
            y = self.second(self.first.gelu(n))
        else:
            y = self.second.convolve(functional.leaky_relu_(self.first.convolve(n), SLOPE))
        means = y.mean((0, 1), dtype=torch.float32).to(y.dtype)
        return torch.addcmul(x, y, torch.sigmoid(self.expand(functional.relu(self.reduce(means)))))


class InferenceTrunk:
    """A `Trunk` without its first dense layer, which is merged into the preceding layer."""

    def __init__(self, trunk: nn.Module, dtype: torch.dtype) -> None:
        trunk = cast("Trunk", trunk)
        self.mix = [_MultiAxis(cast("MultiAxisMLP", block), dtype) for block in trunk.mix]
        self.attend = [_Attention(block, dtype) for block in trunk.attend]

    def __call__(self, x: Tensor) -> Tensor:
        """(H, W, C) to the same shape."""
        y = x
        for mix, attend in zip(self.mix, self.attend, strict=True):
            y = attend(mix(y))
        return y.add_(x)


class _Gate:
    def __init__(self, gate: Gate, dtype: torch.dtype) -> None:
        self.expand = [half.to(dtype) for half in behind(gate.norm, gate.expand).halves()]
        self.tokens = [_Tokens(layer, dtype) for layer in (gate.grid, gate.block)]
        project = exact(gate.project).to(dtype)
        self.project = [half.contiguous() for half in project.weight.chunk(2, dim=1)]
        self.bias = project.bias

    def __call__(self, x: Tensor) -> Tensor:
        out, normalised = self.bias.expand(x.shape).contiguous(), normalise(x)
        for axis, expand, tokens, project in zip(AXES, self.expand, self.tokens, self.project, strict=True):
            for seen, target in _strips(normalised, out, tokens.side, axis):
                mixed = tokens(expand.gelu(seen.reshape(-1, seen.shape[-1])))
                target.add_(functional.linear(mixed, project).view(seen.shape))
        return out


class InferenceCrossGating:
    """`CrossGating` without its projections, which are merged into the preceding layers."""

    def __init__(self, cross: nn.Module, dtype: torch.dtype) -> None:
        cross = cast("CrossGating", cross)
        pairs = ((cross.norm_x, cross.in_x), (cross.norm_y, cross.in_y))
        self.into = [behind(norm, layer).to(dtype) for norm, layer in pairs]
        self.gates = [_Gate(gate, dtype) for gate in (cross.gate_x, cross.gate_y)]
        self.out = [exact(layer).to(dtype) for layer in (cross.out_x, cross.out_y)]

    def __call__(self, skip_x: Tensor, skip_y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both results in place of the projected maps (H, W, C)."""
        skips = (skip_x, skip_y)
        x, y = (into.gelu(normalise(skip)) for into, skip in zip(self.into, skips, strict=True))
        gate_x, gate_y = self.gates[0](x), self.gates[1](y)
        skip_y.add_(self.out[1](gate_x.mul_(y)))
        skip_x.add_(self.out[0](gate_y.mul_(x))).add_(skip_y)
        return skip_x, skip_y
