"""Deblurring of a part of a picture."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from mtdeblur.inference.batch import Job, deblur_file
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.finish import Finish, Rectangle
from mtdeblur.inference.within import Box, around
from mtdeblur.networks.contract import Contract, any_size
from mtdeblur.networks.unroll import Step

HALO = 6


class Small(nn.Module):
    """A network that sees six pixels far, in blocks of two, and counts the pixels it runs over."""

    contract = Contract(2, HALO, (2,))

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Conv2d(6, 3, 9, padding=4)
        self.pixels = 0

    @any_size
    def forward(self, blurred, estimate, state=None):
        self.pixels += blurred[0, 0].numel()
        coarse = nn.functional.avg_pool2d(self.layer(torch.cat([blurred, estimate], 1)), 2)
        return blurred + nn.functional.interpolate(coarse, scale_factor=2), (coarse,)


class Windowed(Small):
    contract = Contract(2, 0, (2,), global_operation="pooling", window=32)


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(-50, 350), st.integers(1, 200), st.integers(-50, 350), st.integers(1, 200)),
    st.sampled_from([Contract(8, 96, (1,)), Contract(4, 0, (), global_operation="pooling", window=64)]),
    st.integers(1, 3),
)
def test_what_is_computed_holds_what_is_wanted(size, place, contract, steps):
    top, height, left, width = place
    wanted = Box(top, top + height, left, left + width)
    found = around(wanted, contract, [Step()] * steps, *size)
    for start, stop, low, high, length in (
        (top, top + height, found.top, found.bottom, size[0]),
        (left, left + width, found.left, found.right, size[1]),
    ):
        assert 0 <= low < high <= length
        assert low % contract.multiple == 0
        inside = range(max(0, start), min(stop, length))
        if inside:
            margin = contract.halo * steps or 16
            assert low <= max(0, inside[0] - margin)
            assert high >= min(length, inside[-1] + 1 + margin)
        assert high - low >= min(length, contract.window or 1)
    assert found.size == (found.bottom - found.top, found.right - found.left)


def test_networks_of_the_whole_picture_need_all_of_it():
    for contract in (Contract(2, 0, (), global_operation="pooling"), Contract(2, 4, (), size=(64, 64))):
        assert around(Box(10, 20, 10, 20), contract, [Step()], 64, 64) == Box(0, 64, 0, 64)


@pytest.mark.parametrize("tile", ["off", 32])
@pytest.mark.parametrize("box", [Box(60, 81, 35, 90), Box(0, 30, 150, 161), Box(-9, 200, 40, 44)])
def test_a_part_is_as_in_the_whole_picture_and_the_rest_stays(tile, box):
    image = np.random.default_rng(4).integers(0, 256, (140, 161, 3), np.uint8)
    network = Small()
    deblurrer = Deblurrer(network, iterations=2, device="cpu", precision="float32", tile=tile)
    whole, run = list(deblurrer.progress(image)), network.pixels
    parts = list(deblurrer.progress(image, within=box))
    assert network.pixels - run < run
    rows, columns = (slice(max(0, start), stop) for start, stop in (box[:2], box[2:]))
    computed = around(box, network.contract, deblurrer.steps, 140, 161)
    for estimate, part in zip(whole, parts, strict=True):
        inside = estimate[rows, columns].astype(int) - part[rows, columns]
        assert np.abs(inside).max() <= 1  # sums in another order are rounded otherwise
        part[computed.place] = image[computed.place]
        assert np.array_equal(part, image)


def test_windows_run_around_the_part_alone():
    image = np.random.default_rng(5).integers(0, 256, (300, 400, 3), np.uint8)
    network = Windowed()
    deblurrer = Deblurrer(network, iterations=1, device="cpu", precision="float32")
    deblurrer(image)
    whole, network.pixels = network.pixels, 0
    (result,) = deblurrer.progress(image, within=Box(100, 140, 200, 240))
    assert network.pixels < whole / 10
    assert (result[100:140, 200:240] != image[100:140, 200:240]).any()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_region_of_a_turned_photograph_is_that_of_the_whole_result(tmp_path, orientation):
    pixels = np.random.default_rng(6).integers(0, 256, (120, 90, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    network = Small()
    deblurrer = Deblurrer(network, iterations=2, device="cpu", precision="float32")
    region = Finish(region=Rectangle(20, 30, 25, 35))
    for name, finish in (("whole.png", Finish()), ("part.png", region)):
        network.pixels = 0
        job = Job(tmp_path / "photo.png", tmp_path / name)
        assert deblur_file(deblurrer, job, finish=finish).reason == ""
    assert network.pixels < 2 * 120 * 90
    whole, part = (np.asarray(Image.open(tmp_path / name)) for name in ("whole.png", "part.png"))
    mask = (part != pixels).any(axis=2)
    if orientation in (1, 3):
        expected = (slice(30, 65), slice(20, 45)) if orientation == 1 else (slice(55, 90), slice(45, 70))
        outside = np.ones_like(mask)
        outside[expected] = False
        assert not mask[outside].any()
    assert mask.sum() > 25 * 35 / 2
    middle = np.argwhere(mask).mean(axis=0).round().astype(int)
    close = whole[tuple(middle)].astype(int) - part[tuple(middle)]
    assert np.abs(close).max() <= 1
