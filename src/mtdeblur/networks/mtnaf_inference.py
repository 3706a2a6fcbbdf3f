"""Fast inference of the efficient cell on a CPU; derived from a trained cell, never stored.

The first convolution reads the pictures directly, a convolution with stride 2 and the fusion behind it are
one, and pixels are shuffled by writing to their places. The blocks are in
`mtdeblur.networks.gated_inference`. Maps are (H, W, C), one picture at a time.
"""

from typing import cast

import torch
from torch import Tensor, nn

from mtdeblur.networks.contract import Contract, RecurrentMaps, State, any_size
from mtdeblur.networks.fused import pointwise
from mtdeblur.networks.gated import GatedBlock
from mtdeblur.networks.gated_inference import STRIP, InferenceChain
from mtdeblur.networks.inference_layers import Dense, convolve, exact
from mtdeblur.networks.mtnaf import MTNAF


class InferenceMTNAF:
    """A trained cell for inference on a CPU: a progressive network without parameters.

    Args:
        cell: trained, float32, on the CPU.
        dtype: dtype of the maps; pictures and sums over them stay float32.
    """

    def __init__(self, cell: MTNAF, dtype: torch.dtype) -> None:
        self.contract: Contract = cell.contract
        self.dtype = dtype
        parts = (cell.encoder1, cell.encoder2, cell.bottom, cell.decoder2, cell.decoder1)
        chains = [
            InferenceChain(cast("list[GatedBlock]", list(part)), cell.config.width * factor, dtype)
            for part, factor in zip(parts, (1, 2, 4, 2, 1), strict=True)
        ]
        self.encoder1, self.encoder2, self.bottom, self.decoder2, self.decoder1 = chains
        self.head = _Head(cell.head, self.encoder1.offset, dtype)
        self.down1 = _Down(cell.down1, cell.fuse1, self.encoder2.offset, dtype)
        self.down2 = _Down(cell.down2, cell.fuse2, self.bottom.offset, dtype)
        self.up2 = _Up(cell.up2, self.decoder2.offset, dtype)
        self.up1 = _Up(cell.up1, self.decoder1.offset, dtype)
        weight, bias = exact(cell.tail)  # channels in the order of the pixels: row, column, colour
        weight = weight.view(3, 4, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)
        self.tail = Dense(weight, bias.view(3, 4).t().flatten()).to(dtype)

    @torch.inference_mode()
    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration as `MTNAF` does; images are (B, 3, H, W) float32 on the CPU."""
        first = _same(blurred, estimate)
        results: list[tuple[Tensor, ...]] = []
        for number, picture in enumerate(blurred):
            before = [part[number].permute(1, 2, 0) for part in state or ()]
            seen = picture if first else torch.cat([picture, estimate[number]])
            results.append(self._iterate(picture.permute(1, 2, 0), seen.permute(1, 2, 0), before))
        output, *maps = (_batch(parts) for parts in zip(*results, strict=True))
        return output, RecurrentMaps(*maps) if self.contract.state_scales else None

    def _iterate(self, picture: Tensor, seen: Tensor, before: list[Tensor]) -> tuple[Tensor, ...]:
        e1 = self.encoder1(self.head(seen.to(self.dtype)))  # (H/2, W/2, c)
        f1 = self.encoder2(self.down1(e1, before[0] if before else None))  # (H/4, W/4, 2c)
        f2 = self.bottom(self.down2(f1, before[1] if before else None))  # (H/8, W/8, 4c)
        self.decoder2(self.up2(f2, f1))
        self.decoder1(self.up1(f1, e1))
        residual = self.tail.convolve(e1)  # (H/2, W/2, 12)
        output = torch.empty(picture.shape)
        pixels, places = (_split(part) for part in (picture, output))
        torch.add(pixels, residual.view(*residual.shape[:2], 2, 2, 3).transpose(1, 2), out=places)
        return output, f1, f2


class _Head:
    """The first convolution, on pictures instead of their unshuffled pixels."""

    def __init__(self, head: nn.Conv2d, offset: Tensor, dtype: torch.dtype) -> None:
        weight, bias = exact(head)  # (c, 24, 3, 3) to (c, 6, 3, 2, 3, 2), then (c, 6, 6, 6)
        weight = weight.view(-1, 6, 2, 2, 3, 3).permute(0, 1, 4, 2, 5, 3).reshape(-1, 6, 6, 6)
        self.both = Dense(weight, bias + offset).to(dtype)
        self.same = Dense(weight[:, :3] + weight[:, 3:], bias + offset).to(dtype)

    def __call__(self, seen: Tensor) -> Tensor:
        """Map (H/2, W/2, c) of I0 and the estimate (H, W, 6), or of I0 alone, if that is the estimate."""
        layer = self.both if seen.shape[2] == 6 else self.same
        return convolve(seen, layer.weight, layer.bias, stride=2, padding=2)


class _Down:
    """2x2 convolution with stride 2 and the fusion with a recurrent map behind it, if any."""

    def __init__(self, down: nn.Conv2d, fuse: nn.Module | None, offset: Tensor, dtype: torch.dtype) -> None:
        self.first = self.later = exact(down)
        self.recurrent: Tensor | None = None
        if fuse is not None:
            layer = pointwise(cast("nn.Conv2d", fuse))
            own, recurrent = layer.weight.chunk(2, dim=1)
            self.first = Dense(own + recurrent, layer.bias).after(self.first)
            self.later = Dense(own, layer.bias).after(self.later)
            self.recurrent = recurrent.to(dtype).t()
        self.first, self.later = (
            Dense(part.weight, part.bias + offset).to(dtype) for part in (self.first, self.later)
        )

    def __call__(self, x: Tensor, before: Tensor | None) -> Tensor:
        """(H, W, c) and the recurrent map (H/2, W/2, 2c), if any, to (H/2, W/2, 2c)."""
        if before is None or self.recurrent is None:
            return self.first.convolve(x, stride=2)
        y = self.later.convolve(x, stride=2)
        y.view(-1, y.shape[2]).addmm_(before.reshape(-1, y.shape[2]), self.recurrent)
        return y


class _Up:
    """1x1 convolution and pixel shuffle, added to a map of twice the size."""

    def __init__(self, up: nn.Module, offset: Tensor, dtype: torch.dtype) -> None:
        weight, bias = pointwise(cast("nn.Conv2d", cast("nn.Sequential", up)[0]))
        bias = bias.view(-1, 2, 2) + offset[:, None, None]
        self.weights = (
            weight.view(-1, 2, 2, weight.shape[1]).permute(1, 3, 2, 0).flatten(2).to(dtype)
        )  # row, in, ...
        self.bias = bias.permute(1, 2, 0).reshape(1, 2, 1, -1).to(dtype)  # row; column and channel

    def __call__(self, x: Tensor, skip: Tensor) -> Tensor:
        """Add (H, W, 2c), enlarged, to (2H, 2W, c) in place."""
        height, width, channels = x.shape
        pairs = skip.view(height, 2, width, channels)  # rows in pairs; columns in pairs with the channels
        rows = max(1, STRIP // (2 * skip[0].numel() * skip.element_size()))
        for start in range(0, height, rows):
            source, target = x[start : start + rows], pairs[start : start + rows]
            target.add_(self.bias)
            for row in range(2):
                target[:, row].baddbmm_(source, self.weights[row].expand(len(source), -1, -1))
        return skip


def _split(picture: Tensor) -> Tensor:
    """Pixels (H, W, 3) in pairs: (H/2, 2, W/2, 2, 3)."""
    height, width, colours = picture.shape
    return picture.view(height // 2, 2, width // 2, 2, colours)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether both are the same pixels in memory, as in the first iteration."""
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()


def _batch(parts: tuple[Tensor, ...]) -> Tensor:
    """Maps (H, W, C) to (B, C, H, W); no copy for one."""
    batch = parts[0][None] if len(parts) == 1 else torch.stack(parts)
    return batch.permute(0, 3, 1, 2)
