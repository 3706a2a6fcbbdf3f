"""Fast inference of MAXIM's building blocks on a CPU; derived from trained blocks, never stored.

Consecutive linear operations are merged: the scale and bias of a normalisation into the layers around
it, a concatenation before a dense layer into a sum. Blocks, and offsets of the grid, are independent: the
blocks run over strips that stay in the cache, and expanded maps are never stored whole. Maps are
(H, W, C), one picture at a time.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.inference_layers import (
    Dense,
    behind,
    by_rows,
    divisible,
    exact,
    in_parallel,
    normalise,
    pieces,
)
from mtdeblur.networks.multi_axis import (
    Axis,
    ConvolutionalAttention,
    CrossGating,
    DenseAttention,
    Gate,
    MultiAxisMLP,
    TokenMixing,
    Trunk,
    split_tokens,
)

AXES: tuple[Axis, Axis] = ("grid", "block")


def _strips(x: Tensor, target: Tensor, side: int, axis: Axis) -> list[tuple[Tensor, Tensor]]:
    """Strips of two maps (H, W, C) as views (side, side, rows, W / side, C), token axes first."""
    tokens, targets = (split_tokens(part[None], side, axis)[:, :, 0] for part in (x, target))
    number = pieces(tokens.shape[2], x.numel())
    return list(zip(tokens.chunk(number, dim=2), targets.chunk(number, dim=2), strict=True))


class _Half:
    """One axis of a multi-axis MLP: half of the expansion, the gated MLP, half of the projection.

    The gate is `scale (W n) + shift`, with shift = bias W 1 + b + 1 from the normalisation's bias and the
    token mixing's, and W over tokens. Division by the scale, which goes into the projection, leaves
    W n + shift / scale: one matrix product, if the shift's two terms are two more tokens of n.
    """

    def __init__(self, mlp: MultiAxisMLP, number: int, dtype: torch.dtype) -> None:
        gated = (mlp.grid, mlp.block)[number]
        self.axis: Axis = AXES[number]
        self.side = gated.gate.side
        self.expand = behind(mlp.norm, mlp.expand).halves()[number].to(dtype)
        self.value, self.gate = (half.to(dtype) for half in behind(gated.norm, gated.expand).halves())
        scale, shift = divisible(gated.gate_norm)
        mixing = exact(gated.gate)
        columns = torch.stack([mixing.weight.sum(1), mixing.bias + 1], dim=1)
        self.mixing = torch.cat([mixing.weight, columns], dim=1).to(dtype)
        self.constants = torch.stack([shift / scale, 1 / scale]).to(dtype)
        inner, outer = exact(gated.project), exact(mlp.project).weight.chunk(2, dim=1)[number]
        self.bias: Tensor = outer @ inner.bias
        self.inner, self.outer = (inner.weight * scale).to(dtype).t(), outer.to(dtype)

    def add_to(self, out: Tensor, normalised: Tensor) -> None:
        """Add the output for a normalised map (H, W, C) to `out`."""
        in_parallel(self._add_strip, _strips(normalised, out, self.side, self.axis))

    def _add_strip(self, strip: tuple[Tensor, Tensor]) -> None:
        seen, target = strip
        channels = seen.shape[-1]
        x = self.expand.gelu(seen.reshape(-1, channels))
        n = normalise(x)
        tokens = x.new_empty(self.side**2 + 2, len(x) // self.side**2, channels)
        normalise(self.gate.gelu(n), out=tokens[:-2].view(x.shape))
        tokens[-2:] = self.constants[:, None]
        gate = torch.mm(self.mixing, tokens.flatten(1)).view(x.shape)
        x.addmm_(self.value.gelu(n).mul_(gate), self.inner)
        target.add_(functional.linear(x, self.outer).view(seen.shape))


class _MultiAxis:
    def __init__(self, mlp: MultiAxisMLP, dtype: torch.dtype) -> None:
        self.halves = [_Half(mlp, number, dtype) for number in range(2)]
        self.bias = (exact(mlp.project).bias + self.halves[0].bias + self.halves[1].bias).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out, normalised = torch.empty_like(x), torch.empty_like(x)
        by_rows(self._start, x, out, normalised)
        for half in self.halves:
            half.add_to(out, normalised)
        return out

    def _start(self, x: Tensor, out: Tensor, normalised: Tensor) -> None:
        torch.add(x, self.bias, out=out)
        normalise(x, out=normalised)


class _ConvolutionalAttention:
    """Residual channel attention block with convolutions.

    The normalisation's scale goes into the first convolution. Its bias cannot, for the zero padding comes
    after it; but padding with -bias / scale instead of zero allows for that.
    """

    def __init__(self, block: ConvolutionalAttention, dtype: torch.dtype) -> None:
        scale, shift = divisible(block.norm)
        self.padding = (-shift / scale).to(dtype)
        first = exact(block.conv1)
        bias = first.bias + (first.weight.sum((2, 3)) @ shift)
        self.first = Dense(first.weight * scale[:, None, None], bias).to(dtype)
        self.second = exact(block.conv2).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape
        padded = x.new_empty(height + 2, width + 2, channels)
        for edge in (padded[0], padded[-1], padded[:, 0], padded[:, -1]):
            edge.copy_(self.padding)
        by_rows(normalise, x, padded[1:-1, 1:-1])
        return self.second.convolve(self.first.convolve_leaky(padded))


class _DenseAttention:
    """Residual channel attention block with dense layers."""

    def __init__(self, block: DenseAttention, dtype: torch.dtype) -> None:
        self.first, self.second = behind(block.norm, block.dense1).to(dtype), exact(block.dense2).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        by_rows(self._strip, x, out)
        return out

    def _strip(self, x: Tensor, out: Tensor) -> None:
        y = self.first.gelu(normalise(x).flatten(0, 1))
        out.copy_(self.second(y).view(x.shape))


class _Attention:
    """Residual channel attention block."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        if isinstance(block, ConvolutionalAttention):
            self.layers, attention = _ConvolutionalAttention(block, dtype), block.attention
        else:
            dense = cast("DenseAttention", block)
            self.layers, attention = _DenseAttention(dense, dtype), dense.attention
        self.reduce, self.expand = (exact(layer).to(dtype) for layer in (attention.reduce, attention.expand))

    def __call__(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        means = y.flatten(0, 1).mean(0)  # without a copy in float32, in which it adds up
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


class _GateHalf:
    """One axis of a gate: half of the expansion, token mixing, half of the projection."""

    def __init__(self, expand: Dense, mixing: TokenMixing, project: Tensor, dtype: torch.dtype) -> None:
        self.side = mixing.side
        self.axis: Axis = mixing.axis
        self.expand, self.project = expand.to(dtype), project.to(dtype).contiguous()
        layer = exact(mixing).to(dtype)
        self.weight, self.bias = layer.weight, layer.bias[:, None]

    def add_to(self, out: Tensor, normalised: Tensor) -> None:
        """Add the output for a normalised map (H, W, C) to `out`."""
        in_parallel(self._add_strip, _strips(normalised, out, self.side, self.axis))

    def _add_strip(self, strip: tuple[Tensor, Tensor]) -> None:
        seen, target = strip
        x = self.expand.gelu(seen.reshape(-1, seen.shape[-1]))
        mixed = torch.addmm(self.bias, self.weight, x.view(self.side**2, -1)).view(x.shape)
        target.add_(functional.linear(mixed, self.project).view(seen.shape))


class _Gate:
    """One of the two branches of a cross gating, from its input to the gate for the other branch."""

    def __init__(self, norm: nn.LayerNorm, into: nn.Linear, gate: Gate, dtype: torch.dtype) -> None:
        self.into = behind(norm, into).to(dtype)
        project = exact(gate.project)
        self.bias = project.bias.to(dtype)
        parts = zip(
            behind(gate.norm, gate.expand).halves(),
            (gate.grid, gate.block),
            project.weight.chunk(2, dim=1),
            strict=True,
        )
        self.halves = [_GateHalf(*part, dtype) for part in parts]

    def __call__(self, skip: Tensor) -> tuple[Tensor, Tensor]:
        """The branch's features and the gate that they give, both like the input (H, W, C)."""
        x, out, normalised = (torch.empty_like(skip) for _ in range(3))
        by_rows(self._start, skip, x, out, normalised)
        for half in self.halves:
            half.add_to(out, normalised)
        return x, out

    def _start(self, skip: Tensor, x: Tensor, out: Tensor, normalised: Tensor) -> None:
        y = self.into.gelu(normalise(skip).flatten(0, 1)).view(skip.shape)
        x.copy_(y)
        normalise(y, out=normalised)
        out.copy_(self.bias)


class InferenceCrossGating:
    """`CrossGating` without its projections, which are merged into the preceding layers."""

    def __init__(self, cross: nn.Module, dtype: torch.dtype) -> None:
        cross = cast("CrossGating", cross)
        self.branches = (
            _Gate(cross.norm_x, cross.in_x, cross.gate_x, dtype),
            _Gate(cross.norm_y, cross.in_y, cross.gate_y, dtype),
        )
        self.out = [exact(layer).to(dtype) for layer in (cross.out_x, cross.out_y)]

    def __call__(self, skip_x: Tensor, skip_y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both results in place of the projected maps (H, W, C)."""
        (x, gate_x), (y, gate_y) = (
            branch(skip) for branch, skip in zip(self.branches, (skip_x, skip_y), strict=True)
        )
        by_rows(self._finish, skip_x, skip_y, gate_x.mul_(y), gate_y.mul_(x))
        return skip_x, skip_y

    def _finish(self, skip_x: Tensor, skip_y: Tensor, gated_x: Tensor, gated_y: Tensor) -> None:
        skip_y.add_(self.out[1](gated_x))
        skip_x.add_(self.out[0](gated_y)).add_(skip_y)
