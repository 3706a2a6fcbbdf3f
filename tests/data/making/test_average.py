import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mtdeblur.data.disk.frames import Clip, FrameWindow, clip_at
from mtdeblur.data.making.average import average_levels, make_exposure
from mtdeblur.data.making.plan import Exposure
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import GAMMA, IDENTITY, TabulatedCRF

DATA = os.environ.get("MTDEBLUR_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder with real frames")
LEVELS = (1, 3, 5, 7, 9, 11, 13)


def average(frames, n, gamma):
    """The independent reference: float64, in light, of the n frames around T // 2."""
    first = len(frames) // 2 - n // 2
    white = np.iinfo(frames[0].dtype).max
    light = [(frame.astype(np.float64) / white) ** gamma for frame in frames[first : first + n]]
    return white * np.mean(light, axis=0) ** (1 / gamma)


def draw(count, dtype=np.uint8, height=100, seed=0):
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, np.iinfo(dtype).max + 1, (count, height, 17, 3), dtype=dtype))


@pytest.mark.parametrize(("crf", "gamma"), [(IDENTITY, 1.0), (GAMMA, 2.2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_are_the_float64_averages(crf, gamma, dtype):
    frames = draw(13, dtype)
    levels = average_levels(frames, LEVELS, crf)
    np.testing.assert_array_equal(levels[1], frames[6])
    for n, picture in levels.items():
        assert picture.dtype == dtype
        assert np.abs(picture - average(frames, n, gamma)).max() <= (0.501 if dtype == np.uint8 else 0.6)


@settings(max_examples=10)
@given(n=st.integers(2, 14), seed=st.integers(0, 99))
def test_even_levels_take_one_frame_more_before_the_middle(n, seed):
    frames = draw(n, height=8, seed=seed)
    assert np.abs(average_levels(frames, (n,), GAMMA)[n] - average(frames, n, 2.2)).max() <= 0.501


def test_any_curve_serves():
    curve = TabulatedCRF([0, 0.1, 1], [0, 0.5, 1])
    frames = draw(3)
    light = np.mean([np.interp(frame / 255, [0, 0.5, 1], [0, 0.1, 1]) for frame in frames], 0)
    expected = 255 * np.interp(light, [0, 0.1, 1], [0, 0.5, 1])
    assert np.abs(average_levels(frames, (3,), curve)[3] - expected).max() <= 0.51


# -- on disk


def exposure_of(folder, middle=8, level=7, goals=(3, 5, 7, 9)):
    clip = clip_at(folder)
    return Exposure("train", clip, middle, level, goals)


def test_an_exposure_writes_each_level_once_and_says_what_it_is(tmp_path, save):
    frames = [save(tmp_path / f"clip/f{number:03}.png", number) for number in range(100, 120)]
    rows = make_exposure(exposure_of(tmp_path / "clip"), tmp_path / "out")
    folders = {row.level: row.path.split("/")[-2] for row in rows}
    assert folders == {1: "sharp", 3: "TL3", 5: "TL5", 7: "blur", 9: "TL9"}
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in written) == sorted(
        f"train/clip/{folder}/000108.png" for folder in folders.values()
    )
    for row in rows:
        pixels = np.asarray(Image.open(tmp_path / "out" / row.path))
        half = row.level // 2
        assert np.abs(pixels - average(frames[8 - half : 9 + half], row.level, 1)).max() <= 0.501
        assert (row.first_frame, row.last_frame) == (108 - half, 108 + half)
        assert (row.width, row.height, row.bits, row.input_level) == (50, 40, 8, 7)
        assert (row.split, row.clip, row.name, row.crf) == ("train", "clip", "000108", "identity")
        assert row.bytes == (tmp_path / "out" / row.path).stat().st_size


def test_the_same_exposure_gives_the_same_bytes(tmp_path, save):
    for number in range(20):
        save(tmp_path / f"clip/{number}.png", number)
    exposure = exposure_of(tmp_path / "clip")
    one, two = (make_exposure(exposure, tmp_path / name, GAMMA) for name in ("one", "two"))
    assert one == two
    assert {row.crf for row in one} == {"gamma 2.2"}


def test_frames_that_change_within_an_exposure_are_refused(tmp_path, save):
    for number in range(20):
        save(tmp_path / f"clip/{number}.png", number, height=40 + number // 9)
    with pytest.raises(UserError, match="change their size"):
        make_exposure(exposure_of(tmp_path / "clip"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- real footage


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("crf", "gamma"), [(IDENTITY, 1.0), (GAMMA, 2.2)])
def test_levels_of_real_frames_are_the_float64_averages(crf, gamma):
    run = FrameWindow(clip_at(Path(DATA, "highspeed/GOPR0477_11_00"))).run(5, 13)
    frames = [pixels for _, pixels in run]
    for n, picture in average_levels(frames, LEVELS, crf).items():
        assert np.abs(picture - average(frames, n, gamma)).max() <= 0.501


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("crf", "gamma"), [(IDENTITY, 1.0), (GAMMA, 2.2)])
def test_levels_of_a_real_video_are_those_of_its_frames_within_the_codecs_loss(crf, gamma):
    folder = Path(DATA, "highspeed/GOPR0477_11_00")
    frames = [pixels for _, pixels in FrameWindow(clip_at(folder)).run(5, 13)]  # numbers 170 to 182
    video = Clip("video", f"{folder}.mp4", video=True)
    decoded = [pixels for _, pixels in FrameWindow(video).run(169, 13)]  # counted from 0
    loss = [np.abs(a.astype(float) - b).mean() for a, b in zip(frames, decoded, strict=True)]
    assert max(loss) < 2.5
    for n, picture in average_levels(decoded, LEVELS, crf).items():
        assert np.abs(picture - average(decoded, n, gamma)).max() <= 0.501
        difference = np.abs(picture - average(frames, n, gamma))
        assert difference.mean() <= max(loss)  # averaging never adds to it
        assert np.quantile(difference, 0.999) < 16


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("start", "crf"), [(165, GAMMA), (171, IDENTITY), (178, GAMMA)])
def test_averages_that_others_made_of_real_frames_come_out(tmp_path, start, crf):
    clip = clip_at(Path(DATA, "highspeed/GOPR0477_11_00"))
    exposure = Exposure("train", clip, start + 5 - 165, 8, ())
    for row in make_exposure(exposure, tmp_path, crf):
        side = "sharp" if row.level == 1 else "blur"
        name = f"highspeed/averages/{side}/GOPR0477_11_00_st_frame-{start}_n_avg-8.png"
        made, theirs = (
            np.asarray(Image.open(path)).astype(int) for path in (tmp_path / row.path, Path(DATA, name))
        )
        assert np.abs(made - theirs).max() <= (1 if side == "blur" else 0)
