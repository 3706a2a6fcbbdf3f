"""Fast inference of MT-RNN on a CPU; derived from a trained network, never stored.

A residual block updates its map in place by two convolutions, one with its LeakyReLU and one with the sum.
A 1x1 convolution of a concatenation is a sum of two. Maps are (B, C, H, W), channels-last.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.blocks import ResidualBlock
from mtdeblur.networks.contract import Contract, RecurrentMaps, State, any_size
from mtdeblur.networks.fused import add_convolution, convolve_leaky
from mtdeblur.networks.inference_layers import Dense, exact
from mtdeblur.networks.mtrnn import GREY_LEVELS, MTRNN, RGB_MEAN, SLOPE, MapsAndImages


class InferenceMTRNN:
    """A trained MT-RNN for inference on a CPU: a progressive network without parameters.

    Args:
        network: trained, float32, on the CPU.
        dtype: dtype of the maps; pictures and sums over them stay float32.
    """

    def __init__(self, network: MTRNN, dtype: torch.dtype) -> None:
        self.contract: Contract = network.contract
        self.config = network.config
        self.dtype = dtype

        def converted(layer: nn.Module) -> Dense:
            return exact(layer).to(dtype)

        def chain(*parts: nn.Module) -> list[tuple[Dense, Dense]]:
            blocks = [cast("ResidualBlock", block) for part in parts for block in part.children()]
            return [(converted(block.conv1), converted(block.conv2)) for block in blocks]

        self.head, self.down1, self.down2 = map(converted, (network.head, network.down1, network.down2))
        self.encoder1, self.encoder2 = chain(network.encoder1), chain(network.encoder2)
        self.bottom = chain(network.encoder3, network.decoder3)
        self.decoder2, self.decoder1 = chain(network.decoder2), chain(network.decoder1)
        self.up2, self.up1 = converted(network.up2), converted(network.up1)
        self.merge2, self.merge1 = _Sum(network.merge2, dtype), _Sum(network.merge1, dtype)
        self.fuse1, self.fuse2 = (fuse and _Sum(fuse, dtype) for fuse in (network.fuse1, network.fuse2))
        weight, bias = exact(network.tail)
        self.tail = Dense(weight / GREY_LEVELS, bias / GREY_LEVELS).to(dtype)

    @torch.inference_mode()
    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration as `MTRNN` does; images are (B, 3, H, W) float32 on the CPU."""
        mean = torch.tensor(RGB_MEAN, dtype=blurred.dtype).view(1, 3, 1, 1)
        images = torch.cat([blurred - mean, estimate - mean], dim=1).mul_(GREY_LEVELS).to(self.dtype)
        images = seen = images.contiguous(memory_format=torch.channels_last)
        if self.config.images == 4:
            seen = torch.cat([images, images if state is None else state[2]], dim=1)
        e1 = _update(_convolve(seen, self.head), self.encoder1)
        x = convolve_leaky(e1, self.down1, SLOPE, stride=2)
        if self.fuse1 is not None:
            x = self.fuse1(x, None if state is None else state[0])
        e2 = _update(x, self.encoder2)
        x = convolve_leaky(e2, self.down2, SLOPE, stride=2)
        if self.fuse2 is not None:
            x = self.fuse2(x, None if state is None else state[1])
        f2 = _update(x, self.bottom)
        f1 = _update(self.merge2(_enlarge(f2, self.up2), e2), self.decoder2)
        x = _update(self.merge1(_enlarge(f1, self.up1), e1), self.decoder1)
        base = {"blurred": blurred, "estimate": estimate, "none": mean}[self.config.residual]
        output = base + _convolve(x, self.tail)
        if not self.config.recurrent:
            return output, None
        return output, RecurrentMaps(f1, f2) if self.config.images == 2 else MapsAndImages(f1, f2, images)


class _Sum:
    """A 1x1 convolution of two concatenated maps, as a sum."""

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype) -> None:
        weight, bias = exact(layer)
        one, other = weight.chunk(2, dim=1)
        self.one, self.other = Dense(one, bias).to(dtype), Dense(other, 0 * bias).to(dtype)
        self.both = Dense(one + other, bias).to(dtype)

    def __call__(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Of x and y, or of x and x."""
        return (
            _convolve(x, self.both) if y is None else add_convolution(_convolve(x, self.one), y, self.other)
        )


def _convolve(x: Tensor, layer: Dense) -> Tensor:
    return functional.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)


def _enlarge(x: Tensor, layer: Dense) -> Tensor:
    y = functional.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1)
    return functional.leaky_relu_(y, SLOPE)


def _update(x: Tensor, blocks: list[tuple[Dense, Dense]]) -> Tensor:
    """Residual blocks, in place."""
    for first, second in blocks:
        add_convolution(x, convolve_leaky(x, first, SLOPE), second)
    return x
