"""Fast inference of gated blocks on a CPU; derived from trained blocks, never stored.

A chain of blocks updates its map (H, W, c) in place. A block works through horizontal strips that stay in
the cache, and keeps the expanded rows that the next strip needs too. Consecutive linear operations are
merged: the scale and bias of a normalisation into the convolution behind it, beta and gamma into the
projections before them.

The biases of all projections of a chain are added to its input at once, where they cost nothing: the map
carries the sum of those that are still to come, its offset, which is zero behind the last block.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.fused import dense, pointwise
from mtdeblur.networks.gated import EPS, ChannelLayerNorm, GatedBlock
from mtdeblur.networks.inference_layers import Dense, exact

STRIP = 2_000_000
"""Bytes of a strip's expanded map; a strip and its intermediate results fit into the caches of two cores."""


class InferenceChain:
    """A chain of gated blocks without channel attention, all of one width.

    Attributes:
        offset: (c), float64; add it to the input of the chain.

    Args:
        blocks: trained, float32, on the CPU; may be none.
        channels: of the map.
        dtype: of the map.
    """

    def __init__(self, blocks: Sequence[GatedBlock], channels: int, dtype: torch.dtype) -> None:
        self.offset = torch.zeros(channels, dtype=torch.float64)
        made: list[_Block] = []
        for block in reversed(blocks):
            made.append(_Block(block, self.offset, dtype))
            self.offset = made[-1].offset
        self.blocks = made[::-1]

    def __call__(self, x: Tensor) -> Tensor:
        """Update (H, W, c), contiguous, in place; return it."""
        height, width, channels = x.shape
        rows = max(1, min(height, STRIP // (2 * width * channels * x.element_size())))
        for block in self.blocks:
            block.update(x, rows)
        return x


class _Block:
    """One block; `after` is the offset of its output, `offset` that of its input."""

    def __init__(self, block: GatedBlock, after: Tensor, dtype: torch.dtype) -> None:
        first, second = _scaled(block.project1, block.beta), _scaled(block.project2, block.gamma)
        between = after + second.bias
        self.offset: Tensor = between + first.bias
        self.enter1, expand = _entrance(block.norm1, block.expand1, self.offset, dtype)
        self.depthwise = _Depthwise(exact(block.depthwise), expand.bias, dtype)
        self.expand1 = expand.to(dtype).weight.t()
        self.first = first.to(dtype).weight.t()
        self.enter2, expand = _entrance(block.norm2, block.expand2, between, dtype)
        self.expand2 = expand.to(dtype)
        self.second = second.to(dtype).weight.t()

    def update(self, x: Tensor, rows: int) -> None:
        """Update (H, W, c) in place, in strips of so many rows."""
        height, width, channels = x.shape
        reach, outside = self.depthwise.reach, self.depthwise.outside
        wide = x.new_empty(rows + 2 * reach, width, 2 * channels)  # expanded rows of a strip and its halo
        wide[:reach] = outside
        gated = x.new_empty(rows * width, channels)
        expanded = 0  # rows of x that have been expanded
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            last = min(stop + reach, height)
            above = start - reach  # the row of x that is the first of `wide`
            new = self.enter1(x[expanded:last].view(-1, channels))
            torch.mm(new, self.expand1, out=wide[expanded - above : last - above].view(-1, 2 * channels))
            expanded = last
            if last < stop + reach:
                wide[last - above : stop + reach - above] = outside
            strip, product = x[start:stop].view(-1, channels), gated[: (stop - start) * width]
            left, right = self.depthwise(wide[: stop + reach - above]).chunk(2, dim=1)
            strip.addmm_(torch.mul(left, right, out=product), self.first)
            left, right = dense(self.enter2(strip), self.expand2).chunk(2, dim=1)
            strip.addmm_(torch.mul(left, right, out=product), self.second)
            if stop < height:
                wide[: 2 * reach] = wide[stop - start : stop - start + 2 * reach].clone()


class _Depthwise:
    """Depthwise convolution of rows that still lack a bias.

    The bias goes through the convolution into that behind it, except where the convolution sees the zeros
    around the picture, which lack no bias. So rows above and below have the value `outside`, and columns at
    the edges are corrected.
    """

    def __init__(self, layer: Dense, lacking: Tensor, dtype: torch.dtype) -> None:
        self.reach = layer.weight.shape[-1] // 2
        lacking = lacking.to(dtype).double()
        self.outside = -lacking.to(dtype)
        columns = layer.weight.sum((1, 2)).t() * lacking  # (k, 2c): what each column of taps adds
        self.layer = Dense(layer.weight, layer.bias + columns.sum(0)).to(dtype)
        at_edge = -columns.cumsum(0)[: self.reach].flip(0), -columns.flip(0).cumsum(0)[: self.reach]
        self.left, self.right = (edge.to(dtype) for edge in at_edge)

    def __call__(self, wide: Tensor) -> Tensor:
        """(H + 2 reach, W, 2c) to rows (H W, 2c)."""
        weight, bias = self.layer
        width, channels = wide.shape[1:]
        x = wide[None].permute(0, 3, 1, 2)
        y = functional.conv2d(x, weight, bias, padding=(0, self.reach), groups=channels)
        y = y[0].permute(1, 2, 0)
        if self.reach:
            y[:, : self.reach] += self.left[:width]
            y[:, -self.reach :] += self.right[-width:]
        return y.reshape(-1, channels)


class _Normalisation:
    """Layer normalisation of rows that carry an offset, over the square root of c.

    c times the deviation from the mean is a matrix product with whole numbers, exact in bfloat16 too; so only
    the norm of a row remains to be computed.
    """

    def __init__(self, offset: Tensor, dtype: torch.dtype) -> None:
        channels = len(offset)
        centre = channels * torch.eye(channels, dtype=torch.float64) - 1
        self.centre = Dense(centre, -centre @ offset).to(dtype)
        self.eps = torch.tensor(EPS * channels**3, dtype=dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        """Normalise (P, c)."""
        centred = dense(rows, self.centre)
        norm = cast("Tensor", torch.linalg.vector_norm(centred, dim=-1, keepdim=True))  # pyright: ignore[reportUnknownMemberType]
        return centred.mul_(torch.addcmul(self.eps, norm, norm).rsqrt_())


def _as_it_is(rows: Tensor) -> Tensor:
    return rows


def _entrance(
    norm: nn.Module, expand: nn.Conv2d, offset: Tensor, dtype: torch.dtype
) -> tuple[Callable[[Tensor], Tensor], Dense]:
    """How a half of a block takes in rows that carry an offset: normalisation, then a dense layer."""
    layer = pointwise(expand)
    if not isinstance(norm, ChannelLayerNorm):
        return _as_it_is, Dense(layer.weight, layer.bias - layer.weight @ offset)
    scale, bias = norm.weight.detach().double(), norm.bias.detach().double()
    affine = Dense(torch.diag(scale) * len(scale) ** 0.5, bias)
    return _Normalisation(offset, dtype), layer.after(affine)


def _scaled(project: nn.Conv2d, scale: Tensor) -> Dense:
    """A projection and the scale (c, 1, 1) behind it."""
    factors = scale.detach().double().flatten()
    return Dense(torch.diag(factors), torch.zeros_like(factors)).after(pointwise(project))
