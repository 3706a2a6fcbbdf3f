"""Frames interpolated by a stand-in for RIFE: a blend, so that what is averaged is known."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.disk.frames import clip_at
from mtdeblur.data.disk.manifest import check_dataset, read_manifest
from mtdeblur.data.making import interpolation as room
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.interpolation import (
    DenseWindow,
    FrameMotion,
    Gap,
    Interpolation,
    interpolated_run,
    measure_gap,
)
from mtdeblur.data.making.plan import GOPRO, Recipe, plan_exposures
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import GAMMA

pytest.importorskip("pyarrow")
STEP = 8  # grey levels that the clip brightens by from frame to frame


@dataclass(frozen=True)
class Blend:
    """Blends, and takes the change of brightness for motion."""

    name: str = "blend"
    disagreement: float = 0.0

    def between(self, before, after, time):
        return ((1 - time) * before + time * after.astype(float)).round().astype(before.dtype)

    def motion(self, before, after):
        return FrameMotion(float(np.abs(after.astype(float) - before).mean()), self.disagreement)


def brighten(folder, steps, first=100):
    """Flat frames, each brighter than the one before by so many steps of STEP; numbered from `first`."""
    folder.mkdir(parents=True)
    for index, level in enumerate(np.cumsum([1, *steps])):
        pixels = np.full((20, 30, 3), STEP * level, np.uint8)
        Image.fromarray(pixels).save(folder / f"{first + index:06d}.png")
    return folder


@pytest.fixture
def clip(tmp_path):
    return brighten(tmp_path / "walk", [1] * 13)


def of_brightness(rows, level=1):
    return {row.name: row for row in rows if row.level == level}


# -- frames


@pytest.mark.parametrize("times", [2, 4, 8])
def test_frames_come_in_order_of_time_and_captured_ones_are_untouched(clip, times):
    window = DenseWindow(clip_at(clip), Interpolation(Blend(), times))
    frames = window.run(0, 13 * times + 1)
    values = [int(frame.pixels[0, 0, 0]) for frame in frames]
    assert values == [STEP + STEP * index // times for index in range(13 * times + 1)]
    assert [(frame.since, frame.until) for frame in frames[: times + 2]] == [
        (100, 100),
        *[(100, 101)] * (times - 1),
        (101, 101),
        (101, 102),
    ]
    with pytest.raises(UserError, match="fewer than"):
        window.run(13 * times, 2)


def test_runs_that_overlap_make_each_frame_once_and_hold_few(clip):
    asked = []

    class Counting(Blend):
        def between(self, before, after, time):
            asked.append((int(before[0, 0, 0]), time))
            return super().between(before, after, time)

    window = DenseWindow(clip_at(clip), Interpolation(Counting(), 4))
    for first in range(0, 30, 3):
        window.run(first, 9)
        assert len(window._made) <= 9
    assert len(asked) == len(set(asked)) == 36 - 9


def test_without_interpolation_the_frames_are_the_clips(clip):
    frames = DenseWindow(clip_at(clip)).run(3, 2)
    assert [(frame.since, frame.until, int(frame.pixels[0, 0, 0])) for frame in frames] == [
        (103, 103, 4 * STEP),
        (104, 104, 5 * STEP),
    ]


@pytest.mark.parametrize("window", [3, 5, 8, 13])
@pytest.mark.parametrize("stride", [None, 1, 11])
def test_mid_frames_are_captured_and_every_frame_of_an_exposure_is_there(clip, window, stride):
    run = interpolated_run(range(2, 12), 8)
    assert (run.start, run.stop) == (16, 89)
    recipe = Recipe((window,), (), stride)
    exposures = plan_exposures(recipe, {"train": [(clip_at(clip), [run])]}, grid=8)
    middles = [exposure.middle for exposure in exposures]
    assert all(middle % 8 == 0 for middle in middles)
    assert min(middles) - window // 2 >= run.start
    assert max(middles) + (window - 1) // 2 < run.stop
    step = -(-(stride or window) // 8) * 8
    assert {b - a for a, b in pairwise(middles)} <= {step}
    assert max(middles) + step + (window - 1) // 2 >= run.stop


@pytest.mark.parametrize(
    "settings",
    [{"times": 3}, {"times": 16}, {"times": 8, "max_motion": 0.0}, {"times": 8, "max_motion": np.nan}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        Interpolation(Blend(), **settings)


# -- data sets


def test_levels_are_averages_of_captured_and_interpolated_frames(clip, tmp_path, heard):
    rows = augment(
        [clip],
        tmp_path / "set",
        Recipe((13,), (3, 5), stride=8),
        crf=GAMMA,
        interpolation=Interpolation(Blend(), 8),
        workers=1,
        progress=heard,
    )
    assert heard.stages == [["clips", 1, 1], ["gaps", 13, 13], ["exposures", 12, 12]]
    assert heard.notices == []
    assert sorted(of_brightness(rows)) == [f"{number:06d}" for number in range(101, 113)]
    for row in rows:
        middle = STEP * (int(row.name) - 100 + 1)
        values = [middle + STEP * k / 8 for k in range(-(row.level // 2), row.level // 2 + 1)]
        expected = 255 * np.mean((np.round(values) / 255) ** 2.2) ** (1 / 2.2)
        pixels = np.asarray(Image.open(tmp_path / "set" / row.path))
        assert np.abs(pixels - expected).max() <= 0.51
        assert row.interpolated == 8
        near = 0 if row.level == 1 else 1
        assert (row.first_frame, row.last_frame) == (int(row.name) - near, int(row.name) + near)
    stored, facts = read_manifest(tmp_path / "set")
    assert stored == rows
    assert facts["job"]["interpolate"] == {
        "times": 8,
        "by": "blend",
        "max_motion": 64.0,
        "max_disagreement": 3.0,
    }
    assert [problem for problem in check_dataset(tmp_path / "set")[1] if problem] == []


def test_no_exposure_spans_a_gap_that_is_too_wide_and_the_reason_is_kept(tmp_path, heard):
    steps = [1, 1, 1, 3, 1, 1, 1, 1]
    clip = brighten(tmp_path / "walk", steps)
    rows = augment(
        [clip],
        tmp_path / "set",
        Recipe((3,), (), stride=1, keep_faulty=True),
        interpolation=Interpolation(Blend(), 2, max_motion=2 * STEP),
        workers=1,
        progress=heard,
    )
    assert sorted(of_brightness(rows)) == [f"{number:06d}" for number in (101, 102, 105, 106, 107)]
    assert heard.notices[0] == "1 of 8 gaps between frames are not interpolated"
    assert heard.notices[1].startswith("walk: no exposure spans frame 104: it moves by 24 pixels")
    (fault,) = read_manifest(tmp_path / "set")[1]["faults"]["walk"]
    assert (fault["index"], fault["number"]) == (4, 104)
    assert "24 pixels" in fault["reason"]


def test_uncertain_motion_is_refused_and_if_nothing_is_left_it_is_said(clip, tmp_path, heard):
    interpolation = Interpolation(Blend(disagreement=3.5), 4)
    with pytest.raises(UserError, match="no exposure fits"):
        augment([clip], tmp_path / "set", interpolation=interpolation, workers=1, progress=heard)
    assert heard.notices[0] == "13 of 13 gaps between frames are not interpolated"
    assert "uncertain by 3.5 pixels" in heard.notices[1]


def test_motion_that_is_not_a_number_is_refused():
    assert Interpolation(Blend(), 2).refusal(FrameMotion(np.nan, 0.0))
    assert Interpolation(Blend(), 2).refusal(FrameMotion(0.0, np.nan))
    assert not Interpolation(Blend(), 2).refusal(FrameMotion(64.0, 3.0))


def test_frames_that_cannot_be_read_are_left_out(clip, tmp_path, heard):
    (clip / "000106.png").write_bytes(b"no picture")
    rows = augment(
        [clip],
        tmp_path / "set",
        Recipe((3,), (), stride=1),
        interpolation=Interpolation(Blend(), 2),
        workers=1,
        progress=heard,
    )
    assert heard.begun["gaps"] == (5 + 6, 0)
    assert sorted(of_brightness(rows)) == [f"{n:06d}" for n in (101, 102, 103, 104, 108, 109, 110, 111, 112)]


def test_frames_that_differ_in_size_are_refused(clip):
    Image.fromarray(np.zeros((10, 30, 3), np.uint8)).save(clip / "000101.png")
    with pytest.raises(UserError, match="size or depth"):
        measure_gap(Gap(clip_at(clip), 1), Blend())
    with pytest.raises(UserError, match="size or depth"):
        DenseWindow(clip_at(clip), Interpolation(Blend(), 2)).run(0, 2)


def test_other_settings_are_another_job_and_the_pairs_of_gopro_are_refused(clip, tmp_path):
    build = partial(augment, [clip], tmp_path / "set", Recipe((5,), ()), workers=1)
    build(interpolation=Interpolation(Blend(), 4))
    for other in (None, Interpolation(Blend(), 2), Interpolation(Blend("other"), 4)):
        with pytest.raises(UserError, match="other settings"):
            build(interpolation=other)
    with pytest.raises(UserError, match="pairs of GoPro"):
        augment([clip], tmp_path / "pairs", GOPRO, interpolation=Interpolation(Blend(), 4))


# -- interrupted


def test_a_build_that_was_stopped_measures_and_makes_only_what_is_missing(
    clip, tmp_path, monkeypatch, content, heard
):
    recipe, how = Recipe((5,), (3,), stride=4), Interpolation(Blend(), 4)
    augment([clip], tmp_path / "undisturbed", recipe, interpolation=how, workers=1)
    calls = []

    class Stopping(Blend):
        def motion(self, before, after):
            calls.append("motion")
            if len(calls) == 6:
                raise KeyboardInterrupt
            return super().motion(before, after)

        def between(self, before, after, time):
            calls.append("between")
            if len(calls) == 30:
                raise KeyboardInterrupt
            return super().between(before, after, time)

    for _ in range(2):
        room.frame_window.cache_clear()
        with pytest.raises(KeyboardInterrupt):
            augment([clip], tmp_path / "set", recipe, interpolation=Interpolation(Stopping(), 4), workers=1)
    augment([clip], tmp_path / "set", recipe, interpolation=how, workers=1, progress=heard)
    assert calls.count("motion") == 13 + 1
    assert heard.begun["gaps"] == (13, 13)
    total, done = heard.begun["exposures"]
    assert total == 12
    assert 0 < done < 12
    assert content(tmp_path / "set") == content(tmp_path / "undisturbed")


BUILD = """
import sys
from pathlib import Path
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.interpolation import Interpolation, FrameMotion
from mtdeblur.data.making.plan import Recipe
import mtdeblur.data.making.faults, mtdeblur.media.libvips, pyarrow.parquet

class Blend:
    name = "blend"
    def between(self, before, after, time):
        return ((1 - time) * before + time * after.astype(float)).round().astype(before.dtype)
    def motion(self, before, after):
        return FrameMotion(1.0, 0.0)

def build(folder, workers):
    how = Interpolation(Blend(), 4)
    augment([sys.argv[1]], folder, Recipe((5,), (3,), stride=1), interpolation=how, workers=workers)
"""


@pytest.mark.slow
def test_killed_at_random_moments_the_data_set_has_the_same_bytes(tmp_path, builder):
    clip = brighten(tmp_path / "walk", [1] * 20)
    recipe = Recipe((5,), (3,), stride=1)
    augment([clip], tmp_path / "undisturbed", recipe, interpolation=Interpolation(Blend(), 4), workers=1)
    builder.kill_and_repeat(BUILD, clip, tmp_path / "undisturbed", times=8, pictures=3)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(clip, tmp_path, content):
    for workers in (1, 2):
        augment(
            [clip, brighten(tmp_path / "run", [1] * 9)] if workers == 1 else [clip, tmp_path / "run"],
            tmp_path / f"{workers}",
            Recipe((5,), (3,), stride=4),
            interpolation=Interpolation(Blend(), 4),
            workers=workers,
        )
    assert content(tmp_path / "1") == content(tmp_path / "2")
