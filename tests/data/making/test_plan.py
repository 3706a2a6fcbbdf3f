from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdeblur.data.disk.frames import Clip
from mtdeblur.data.disk.splits import GOPRO_TEST, GOPRO_TRAIN
from mtdeblur.data.making.plan import GOPRO, T_GOPRO, Recipe, goals_below, pick_evenly, plan_exposures
from mtdeblur.errors import UserError


def clip(name):
    return Clip(name, f"/data/{name}", False)


def runs(lengths):
    """Clips without faults, of these lengths by name."""
    return [(clip(name), [range(length)]) for name, length in lengths.items()]


def frames_of(exposure, window=None):
    n = window or max(exposure.levels)
    return range(exposure.middle - n // 2, exposure.middle + (n - 1) // 2 + 1)


# -- by stride


def test_by_default_exposures_share_no_frame_and_leave_none_out():
    exposures = plan_exposures(Recipe(), {"train": runs({"a": 13 * 5 + 12})})
    assert [frame for exposure in exposures for frame in frames_of(exposure)] == list(range(13 * 5))
    assert [exposure.level for exposure in exposures] == [7, 9, 11, 13, 7]
    assert exposures[0].levels == (1, 3, 5, 7, 9, 11, 13)


def test_a_stride_is_kept_and_no_exposure_spans_a_fault():
    splits = {"train": [(clip("a"), [range(20), range(20, 25), range(25, 60)])]}
    exposures = plan_exposures(Recipe(stride=3), splits)
    assert [exposure.middle for exposure in exposures] == [6, 9, 12, *range(31, 54, 3)]


def test_even_levels_take_one_frame_more_before_the_middle():
    recipe = Recipe((8,), goals_below((8,)), stride=1)
    exposures = plan_exposures(recipe, {"train": runs({"a": 22})})
    assert recipe.goals == (3, 5, 7)
    assert [frames_of(exposure) for exposure in exposures] == [range(s, s + 8) for s in range(15)]
    assert [exposure.middle for exposure in exposures] == list(range(4, 19))


def test_levels_are_dealt_out_within_each_split():
    splits = {"test": runs({"b": 13 * 6}), "train": runs({"a": 13 * 3, "c": 13 * 3})}
    exposures = plan_exposures(Recipe((13, 7)), splits)
    assert [(e.split, e.clip.name, e.level) for e in exposures] == [
        *(("train", "a", level) for level in (13, 7, 13)),
        *(("train", "c", level) for level in (7, 13, 7)),
        *(("test", "b", level) for level in (13, 7) * 3),
    ]


def test_what_is_kept_is_spread_evenly_and_levels_stay_even():
    exposures = plan_exposures(Recipe(), {"train": runs({"a": 13 * 400})}, keep=0.25)
    assert Counter(exposure.level for exposure in exposures) == {7: 25, 9: 25, 11: 25, 13: 25}
    assert set(np.diff([exposure.middle for exposure in exposures])) == {4 * 13}


def test_what_holds_no_exposure_is_refused():
    for length, keep in ((12, 1.0), (100, 0.01)):
        with pytest.raises(UserError, match="no exposure fits"):
            plan_exposures(Recipe(), {"train": runs({"a": length})}, keep)


@pytest.mark.parametrize("wrong", [{"inputs": (1,)}, {"goals": (4,)}, {"goals": (1,)}, {"stride": 0}])
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(UserError):
        Recipe(**wrong)


@given(st.integers(0, 300), st.integers(0, 300))
def test_picking_evenly(total, count):
    picked = pick_evenly(range(total), count)
    assert len(picked) == min(total, count)
    gaps = np.diff(picked)
    assert not len(gaps) or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


# -- the paper's data sets, with invented lengths of the official clips

LENGTHS = st.lists(st.integers(700, 1700), min_size=33, max_size=33)


def official(lengths):
    train, test = sorted(GOPRO_TRAIN), sorted(GOPRO_TEST)
    return {
        "train": runs(dict(zip(train, lengths, strict=False))),
        "valid": [],
        "test": runs(dict(zip(test, lengths[22:], strict=True))),
    }


@settings(max_examples=2)
@given(LENGTHS)
def test_t_gopro_has_5500_110_and_1200_exposures_with_even_levels(lengths):
    exposures = plan_exposures(T_GOPRO, official(lengths))
    counts = Counter((exposure.split, exposure.level) for exposure in exposures)
    for split, each in (("train", [1375] * 4), ("valid", [28, 28, 27, 27]), ("test", [300] * 4)):
        assert [counts[split, level] for level in (7, 9, 11, 13)] == each
    assert len({(e.clip.name, e.middle) for e in exposures}) == 6810
    length = {clip.name: runs[0].stop for clips in official(lengths).values() for clip, runs in clips}
    for exposure in exposures:
        window = frames_of(exposure)
        assert exposure.levels == (1, 3, 5, 7, 9, 11, 13)
        assert len(window) == 13
        assert window.start >= 0
        assert window.stop <= length[exposure.clip.name]


@settings(max_examples=2)
@given(LENGTHS)
def test_t_gopro_never_trains_on_a_test_video_or_on_a_frame_validated_on(lengths):
    exposures = plan_exposures(T_GOPRO, official(lengths))
    of = {split: [e for e in exposures if e.split == split] for split in ("train", "valid", "test")}
    assert {e.clip.name for e in of["test"]} == GOPRO_TEST
    assert {e.clip.name for e in of["train"]} == GOPRO_TRAIN
    assert {e.clip.name for e in of["valid"]} <= GOPRO_TRAIN
    seen = {(e.clip.name, frame) for e in of["train"] for frame in frames_of(e)}
    assert not seen & {(e.clip.name, frame) for e in of["valid"] for frame in frames_of(e)}
    # They are spread over all clips in proportion to length: strides differ by one frame.
    strides = {
        int(gap)
        for name in GOPRO_TRAIN
        for gap in np.diff([e.middle for e in of["train"] if e.clip.name == name])
    }
    assert max(strides) - min(strides) <= 1


def test_validation_clips_of_the_users_own_leave_the_training_clips_whole():
    splits = {"train": runs({"a": 6000}), "valid": runs({"b": 300}), "test": []}
    exposures = plan_exposures(Recipe(counts={"train": 500, "valid": 20, "test": 9}), splits)
    assert Counter((e.split, e.clip.name) for e in exposures) == {("train", "a"): 500, ("valid", "b"): 20}
    assert exposures[499].middle > 5900


def test_too_few_frames_for_the_counts_are_refused():
    with pytest.raises(UserError, match=r"train needs 5500 exposures, .* GOPRO_Large_all"):
        plan_exposures(T_GOPRO, {"train": runs({"GOPR0477_11_00": 2000}), "valid": [], "test": []})


@settings(max_examples=5)
@given(st.lists(st.integers(20, 120), min_size=33, max_size=33))
def test_gopro_has_one_pair_for_each_window_of_a_clips_own_level(pairs):
    lengths = {}
    for name, count in zip([*sorted(GOPRO_TRAIN), *sorted(GOPRO_TEST)], pairs, strict=True):
        lengths[name] = count * int(name.split("_")[1])
    splits = {
        "train": runs({name: lengths[name] for name in sorted(GOPRO_TRAIN)}),
        "test": runs({name: lengths[name] for name in sorted(GOPRO_TEST)}),
    }
    exposures = plan_exposures(GOPRO, splits)
    assert sum(e.split == "train" for e in exposures) == sum(pairs[:22])
    assert sum(e.split == "test" for e in exposures) == sum(pairs[22:])
    for exposure in exposures:
        level = int(exposure.clip.name.split("_")[1])
        assert exposure.levels == (1, level)
        assert frames_of(exposure).start >= 0
        assert frames_of(exposure).stop <= lengths[exposure.clip.name]


def test_gopros_windows_share_no_frame_and_later_pieces_begin_before_their_first_frame():
    def middles(name, length):
        return [e.middle for e in plan_exposures(GOPRO, {"train": runs({name: length})})]

    assert middles("GOPR0372_07_00", 7 * 4 + 6) == [3, 10, 17, 24]
    # As published, the middles of piece 2 are 3, 14, 25 ...; the first window does not exist whole.
    assert middles("GOPR0374_11_02", 11 * 4) == [5, 14, 25, 36]
    assert middles("GOPR0999_08_00", 8 * 2) == [4, 12]
