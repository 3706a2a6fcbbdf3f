import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtdeblur.exposure.crf import GAMMA, IDENTITY, TabulatedCRF
from mtdeblur.exposure.levels import temporal_ladder, temporal_level

LIGHT = (0.0, 0.1, 0.35, 0.8, 1.0)
STORED = (0.0, 0.3, 0.6, 0.95, 1.0)
CURVES = {  # name: (curve under test, g in numpy, its inverse in numpy)
    "identity": (IDENTITY, lambda x: x, lambda x: x),
    "gamma": (GAMMA, lambda x: x ** (1 / 2.2), lambda x: x**2.2),
    "tabulated": (
        TabulatedCRF(LIGHT, STORED),
        lambda x: np.interp(x, LIGHT, STORED),
        lambda x: np.interp(x, STORED, LIGHT),
    ),
}


def random_frames(count, *shape, seed=0):
    return np.random.default_rng(seed).random((count, *shape))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_a_level_is_eq_1_in_float64(curve, dtype, atol):
    crf, encode, decode = CURVES[curve]
    frames = random_frames(13, 2, 3, 6, 5)
    for n in (3, 7, 11, 13):
        around = frames[6 - n // 2 : 6 + n // 2 + 1]
        expected = encode(decode(around).mean(axis=0))
        level = temporal_level(torch.from_numpy(frames).to(dtype), n, crf)
        assert level.dtype == dtype
        np.testing.assert_allclose(level.numpy(), expected, rtol=0, atol=atol)


@settings(max_examples=25)
@given(
    arrays(
        np.float64, st.tuples(st.sampled_from([1, 3, 5, 7]), st.just(2), st.just(3)), elements=st.floats(0, 1)
    ),
    st.sampled_from(sorted(CURVES)),
)
def test_the_ladder_is_every_level_around_one_mid_frame(frames, curve):
    crf, encode, decode = CURVES[curve]
    ladder = temporal_ladder(torch.from_numpy(frames), crf=crf)
    assert list(ladder) == list(range(1, len(frames) + 1, 2))
    middle = len(frames) // 2
    for n, image in ladder.items():
        around = frames[middle - n // 2 : middle + n // 2 + 1]
        np.testing.assert_allclose(image.numpy(), encode(decode(around).mean(axis=0)), rtol=0, atol=1e-9)


def test_level_1_is_the_mid_frame_bit_for_bit():
    frames = torch.from_numpy(random_frames(5, 3, 4, 4)).float()
    for crf, *_ in CURVES.values():
        assert torch.equal(temporal_level(frames, 1, crf), frames[2])


class CountingCRF:
    name = "counting"

    def __init__(self):
        self.decoded = 0

    def decode(self, stored):
        self.decoded += 1
        return stored

    def encode(self, linear):
        return linear


def test_each_frame_is_linearised_once_and_only_where_needed():
    crf = CountingCRF()
    frames = torch.rand(13, 3, 4, 4)
    ladder = temporal_ladder(frames, (7, 3), crf)
    assert list(ladder) == [3, 7]
    assert crf.decoded == 7


@pytest.mark.parametrize("n", [1, 2, 8])
def test_others_averages_start_anywhere_and_may_be_even(n):
    frames = random_frames(10, 3, 4, 4)
    level = temporal_level(torch.from_numpy(frames), n, GAMMA, start=2)
    expected = (frames[2 : 2 + n] ** 2.2).mean(axis=0) ** (1 / 2.2)
    np.testing.assert_allclose(level.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    frames = torch.from_numpy(random_frames(13, 3, 8, 8)).to(dtype)
    level = temporal_level(frames, 13, GAMMA)
    assert level.dtype == dtype
    assert torch.equal(level, temporal_level(frames.float(), 13, GAMMA).to(dtype))


def test_frames_are_left_as_they_were():
    frames = torch.rand(5, 3, 4, 4)
    before = frames.clone()
    ladder = temporal_ladder(frames)
    for image in ladder.values():
        image.zero_()
    assert torch.equal(frames, before)


@pytest.mark.parametrize(
    ("count", "n", "start", "message"),
    [
        (4, 3, None, "no mid-frame"),
        (5, 4, None, "odd"),
        (5, 7, None, "up to 5"),
        (5, -1, None, "odd"),
        (5, 4, 2, "no run of 4"),
        (5, 2, -1, "no run"),
        (5, 0, 0, "no run"),
    ],
)
def test_impossible_levels_are_refused(count, n, start, message):
    with pytest.raises(ValueError, match=message):
        temporal_level(torch.rand(count, 3, 4, 4), n, start=start)


def test_what_is_not_frames_is_refused():
    with pytest.raises(ValueError, match="float"):
        temporal_level(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), 3)
    with pytest.raises(ValueError, match="T, "):
        temporal_level(torch.rand(3, 4), 3)


DATA = os.environ.get("MTDEBLUR_DATA")


@pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder with real high-speed frames")
@pytest.mark.parametrize(("first", "crf"), [(165, GAMMA), (171, IDENTITY), (178, GAMMA)])
def test_real_frames_give_the_averages_that_others_made(first, crf):
    from skimage.io import imread

    folder = Path(DATA or "") / "highspeed"
    files = [folder / "GOPR0477_11_00" / f"{number:06d}.png" for number in range(first + 1, first + 9)]
    frames = torch.from_numpy(np.stack([imread(file) for file in files])).movedim(-1, 1).float() / 255
    theirs = imread(folder / "averages" / "blur" / f"GOPR0477_11_00_st_frame-{first}_n_avg-8.png")
    ours = temporal_level(frames, 8, crf, start=0).mul(255).round().movedim(0, -1).numpy()
    assert np.abs(ours - theirs.astype(np.float32)).max() <= 1
