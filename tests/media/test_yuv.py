"""Frames as pixels and back: unchanged pixels keep their samples; matrix and range are the tagged ones."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdeblur.media.clip import Clip, Colours, Light

av = pytest.importorskip("av")

from mtdeblur.media.yuv import Converter  # noqa: E402 - needs av

FORMATS = [
    *("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "yuyv422", "yuva420p", "gray", "gbrp", "rgb24"),
    *("bgra", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuva444p10le", "gbrp10le", "gray10le"),
]


def clip(pixel_format: str, height: int, width: int, *, full: bool = False, matrix: int = 2) -> Clip:
    colours = Colours(2 if full else 1, 2, 2, matrix)
    return Clip(
        path=Path("clip.mp4"), stream=0, codec="h264", codec_tag="", profile=None, time_base=Fraction(1, 30),
        rate=Fraction(30), frames=0, width=width, height=height, pixel_format=pixel_format, aspect=None,
        colours=colours, light=Light(), matrix=None, dynamic=False,
    )  # fmt: skip


def samples(frame) -> list[np.ndarray]:
    """The planes' bytes without padding."""
    size = 2 if frame.format.components[0].bits > 8 else 1
    dtype = np.dtype(f"<u{size}")
    planes = [np.frombuffer(plane, dtype).reshape(plane.height, -1) for plane in frame.planes]
    packed = {"yuyv422": 2, "rgb24": 3, "bgra": 4}.get(frame.format.name, 1)
    pairs = 2 if frame.format.name == "nv12" else 1
    widths = [plane.width * packed * (pairs if number else 1) for number, plane in enumerate(frame.planes)]
    return [plane[:, :width] for plane, width in zip(planes, widths, strict=True)]


def random_frame(pixel_format: str, height: int, width: int, seed: int):
    frame = av.VideoFrame(width, height, pixel_format)
    bits = frame.format.components[0].bits
    rng = np.random.default_rng(seed)
    for plane in samples(frame):
        plane[:] = rng.integers(0, 1 << bits, plane.shape)
    frame.pts, frame.time_base = 7, Fraction(1, 30)
    return frame


@given(st.sampled_from(FORMATS), st.integers(2, 40), st.integers(2, 40), st.booleans(), st.integers(0, 99))
def test_where_no_pixel_changes_no_sample_does(pixel_format, height, width, full, seed):
    converter = Converter(clip(pixel_format, height, width, full=full), pixel_format)
    frame = random_frame(pixel_format, height, width, seed)
    kept = [plane.copy() for plane in samples(frame)]
    assert converter.frame(frame) is frame
    pixels = converter.pixels(frame)
    assert pixels.shape == (height, width, 3)
    changed = converter.changed(frame, pixels.copy())
    assert (changed.pts, changed.time_base, changed.format.name) == (7, Fraction(1, 30), pixel_format)
    for found, expected, still in zip(samples(changed), kept, samples(frame), strict=True):
        if pixel_format != "bgra":  # whose fourth sample the colours do not reach
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(still, expected)


KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def reference(yuv: np.ndarray, bits: int, full: bool, matrix: int) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1] by the definition of the matrices."""
    red, blue = KR_KB[matrix]
    scale = 1 << (bits - 8)
    y, u, v = np.moveaxis(yuv.astype(float), -1, 0)
    if full:
        top = (1 << bits) - 1
        y, u, v = y / top, (u - 128 * scale) / top, (v - 128 * scale) / top
    else:
        y, u, v = (y - 16 * scale) / (219 * scale), (u / scale - 128) / 224, (v / scale - 128) / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
def test_the_pixels_follow_the_tagged_matrix_and_range(bits, full, matrix):
    name = "yuv444p" if bits == 8 else "yuv444p10le"
    frame = av.VideoFrame(64, 48, name)
    y, x = np.mgrid[:48, :64]
    scale = 1 << (bits - 8)
    yuv = np.stack([60 + x * 2, 110 + x // 2, 140 - y // 2], -1) * scale
    for plane, values in zip(samples(frame), np.moveaxis(yuv, -1, 0), strict=True):
        plane[:] = values
    pixels = Converter(clip(name, 48, 64, full=full, matrix=matrix), name).pixels(frame)
    expected = reference(yuv, bits, full, matrix).clip(0, 1)
    most = 255 if bits == 8 else 1023 * 64 if full else 255 * 256  # libswscale's white in 16 bits
    np.testing.assert_allclose(pixels / most, expected, atol=1.2 / 255 if bits == 8 else 1.2 / 1023)
    if bits == 10:
        assert len(np.unique(pixels)) > 256  # no step of 8 bits on the way


@pytest.mark.parametrize(("height", "matrix"), [(480, 5), (720, 1)])
def test_without_a_tag_the_size_decides_between_the_matrices(height, matrix):
    frame = av.VideoFrame(16, height, "yuv444p")
    for plane, value in zip(samples(frame), (120, 90, 170), strict=True):
        plane[:] = value
    pixels = Converter(clip("yuv444p", height, 16), "yuv444p").pixels(frame)
    expected = reference(np.array([[[120, 90, 170]]]), 8, False, matrix)[0, 0]
    np.testing.assert_allclose(pixels[0, 0] / 255, expected, atol=1.2 / 255)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_a_change_of_the_pixels_arrives(name):
    converter = Converter(clip(name, 48, 64, matrix=1), name)
    frame = av.VideoFrame(64, 48, name)
    scale = 1 if converter.pixels(frame).dtype == np.uint8 else 4
    x = np.arange(64) * 2
    for number, plane in enumerate(samples(frame)):
        plane[:] = (60 + x) * scale if number == 0 else 128 * scale
    pixels = converter.pixels(frame)
    step = 1 if pixels.dtype == np.uint8 else 257
    estimate = (pixels + np.array([20 * step, 10 * step, 5 * step], pixels.dtype)).astype(pixels.dtype)
    found = converter.pixels(converter.changed(frame, estimate))
    np.testing.assert_allclose(found / step, estimate / step, atol=2)


def test_a_change_keeps_brighter_than_white():
    converter = Converter(clip("yuv420p", 32, 32, matrix=1), "yuv420p")
    frame = av.VideoFrame(32, 32, "yuv420p")
    for number, plane in enumerate(samples(frame)):
        plane[:] = 128 if number else 250  # above 235, limited range's white
    pixels = converter.pixels(frame)
    assert (pixels == 255).all()
    estimate = pixels.copy()
    estimate[:, :16] = 200
    luma = samples(converter.changed(frame, estimate))[0]
    assert (luma[:, 20:] == 250).all()
    assert (luma[:, :12] < 215).all()
