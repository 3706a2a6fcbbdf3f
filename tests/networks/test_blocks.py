"""Shared building blocks against their definitions written out in numpy."""

import math

import numpy as np
import pytest
import torch

from mtdeblur.networks.blocks import Halving, ResidualBlock, colours_apart, colours_together, doubling


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 6), (4, 10)])
def test_halving_pads_as_tensorflow_s_same(kernel, size):
    layer = Halving(2, 3, kernel).double()
    x = np.random.default_rng(0).normal(size=(2, *size))
    weight = layer.conv.weight.detach().numpy()
    total = [max((math.ceil(n / 2) - 1) * 2 + kernel - n, 0) for n in size]
    padded = np.pad(x, [(0, 0), *((t // 2, t - t // 2) for t in total)])
    expected = np.empty((3, *(math.ceil(n / 2) for n in size)))
    for row in range(expected.shape[1]):
        for column in range(expected.shape[2]):
            window = padded[:, 2 * row : 2 * row + kernel, 2 * column : 2 * column + kernel]
            expected[:, row, column] = np.tensordot(weight, window, axes=3)
    expected += layer.conv.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(layer(torch.from_numpy(x)[None]).detach()[0], expected, atol=1e-12)


def test_doubling_gives_exactly_twice_the_size():
    assert doubling(3, 2)(torch.rand(1, 3, 5, 7)).shape == (1, 2, 10, 14)


def test_a_residual_block_activates_between_its_convolutions_only():
    block = ResidualBlock(1, 3, slope=0.1)
    for convolution in (block.conv1, block.conv2):
        torch.nn.init.zeros_(convolution.bias)
        torch.nn.init.dirac_(convolution.weight)
    x = torch.tensor([-2.0, 0.0, 3.0]).view(1, 1, 1, 3)
    assert block(x).flatten().tolist() == pytest.approx([-2.2, 0.0, 6.0])


def test_colours_go_apart_and_come_together_again():
    blurred, estimate = torch.rand(2, 2, 3, 4, 5)
    apart = colours_apart(blurred, estimate)
    assert apart.shape == (6, 2, 4, 5)
    for picture in range(2):
        for colour in range(3):
            assert torch.equal(apart[3 * picture + colour, 0], blurred[picture, colour])
            assert torch.equal(apart[3 * picture + colour, 1], estimate[picture, colour])
    maps = torch.rand(2, 12, 4, 5)
    assert torch.equal(colours_apart(maps)[4], maps[1, 4:8])
    assert torch.equal(colours_together(colours_apart(maps)), maps)
