"""Views for browsers: reduced, upright, with colours."""

import io

import numpy as np
import pytest
from PIL import Image

from mtdeblur.inference.finish import Finish, Rectangle
from mtdeblur.media.picture import Picture
from mtdeblur.serve.views import LIVE, LiveView, reduced, view


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("height", "width", "factor"), [(12, 9, 3), (13, 8, 3), (200, 3, 2), (5, 5, 7)])
def test_reduced_samples_are_means(dtype, height: int, width: int, factor: int) -> None:
    random = np.random.default_rng(1)
    samples = (random.random((height, width, 3)) * (1 if dtype == np.float32 else 250)).astype(dtype)
    small = reduced(samples, factor)
    assert small.dtype == dtype
    for row in range(-(-height // factor)):
        for column in range(-(-width // factor)):
            block = samples[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert np.abs(small[row, column] - block.mean(axis=(0, 1))).max() <= 0.5001


def test_a_large_picture_is_reduced_and_a_transparent_one_is_webp() -> None:
    pixels = np.full((60, 90, 3), 80, np.uint8)
    content, suffix = view(Picture(pixels), most=60 * 90 // 4)
    assert (opened(content).shape, suffix) == ((30, 45, 3), ".jpg")
    alpha = np.zeros((60, 90), np.uint8)
    alpha[:, 45:] = 255
    content, suffix = view(Picture(pixels, alpha))
    assert suffix == ".webp"
    assert opened(content)[:, :, 3].tolist() == alpha.tolist()


def test_floats_beyond_white_are_shown() -> None:
    pixels = np.full((8, 8, 3), 0.5, np.float32)
    pixels[0] = 3  # linear light
    shown = opened(view(Picture(pixels))[0])
    assert abs(shown[5, 5, 0] - 188) <= 2
    transparent = Picture(pixels, np.full((8, 8), 0.5, np.float32))
    assert abs(opened(view(transparent)[0])[5, 5, 3] - 128) <= 1


def test_the_live_view_has_the_finished_rows_of_the_newest_step() -> None:
    height, width = 2 * LIVE + 1, 30
    before = np.full((height, width, 3), 100, np.uint8)
    live = LiveView(Picture(before), Finish(strength=0.5, region=Rectangle(0, 0, width, height)))
    estimate = np.zeros_like(before)
    estimate[:900] = 140
    assert live.empty
    live.add(0, estimate, 900)
    step, content = live.encode()
    shown = opened(content)[..., 0]
    assert (step, shown.shape) == (0, (854, 10))  # reduced by 3
    assert abs(shown[:296] - 120).max() <= 3
    assert abs(shown[304:] - 100).max() <= 3
    live.add(1, np.full_like(before, 160), height)
    step, content = live.encode()
    assert step == 1
    assert abs(opened(content)[..., 0] - 130).max() <= 3
    live.drop(1)
    assert live.empty
