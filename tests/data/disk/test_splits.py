import pytest

from mtdeblur.data.disk.frames import Clip
from mtdeblur.data.disk.splits import GOPRO_TEST, GOPRO_TRAIN, lost_frames, own_level, split_clips
from mtdeblur.errors import UserError


def clip(name, parent="", video=False):
    return Clip(name, f"/somewhere/{parent}/{name}", video, parent)


def names(split):
    return {part: [clip.name for clip in clips] for part, clips in split.items()}


def test_the_official_split_has_22_and_11_videos_that_share_none():
    assert (len(GOPRO_TRAIN), len(GOPRO_TEST)) == (22, 11)
    assert not GOPRO_TRAIN & GOPRO_TEST


def test_gopros_clips_are_split_by_name_wherever_they_lie():
    split = split_clips([clip(name, "train") for name in sorted(GOPRO_TRAIN | GOPRO_TEST)], {})
    assert names(split) == {"train": sorted(GOPRO_TRAIN), "valid": [], "test": sorted(GOPRO_TEST)}


def test_other_clips_are_split_by_the_users_wish_then_by_folder_and_are_trained_on_otherwise():
    clips = [clip("walk"), clip("run", "val"), clip("jump", "test"), clip("swim"), clip("GOPR0374_11_02")]
    assert names(split_clips(clips, {})) == {
        "train": ["walk", "swim", "GOPR0374_11_02"],
        "valid": ["run"],
        "test": ["jump"],
    }
    chosen = {"valid": ["GOPR0374*"], "test": ["sw?m"], "train": ["jump"]}
    assert names(split_clips(clips, chosen)) == {
        "train": ["walk", "jump"],
        "valid": ["run", "GOPR0374_11_02"],
        "test": ["swim"],
    }


@pytest.mark.parametrize("name", ["GOPR0384_11_00", "GOPR0384_11_00-copy", "my_GOPR0881_11_01"])
@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_test_video_is_never_trained_or_validated_on(name, part):
    with pytest.raises(UserError, match=rf"{name} .*11 test videos.* {part}"):
        split_clips([clip(name), clip("walk")], {part: ["*"]})
    assert names(split_clips([clip(name, "train")], {}))["test"] == [name]
    assert names(split_clips([clip(name)], {"test": ["*"]}))["test"] == [name]


def test_wishes_that_cannot_be_met_are_refused():
    with pytest.raises(UserError, match="wolk, chosen for valid"):
        split_clips([clip("walk")], {"valid": ["wolk"]})
    with pytest.raises(UserError, match="train and test"):
        split_clips([clip("walk")], {"train": ["w*"], "test": ["walk"]})


def test_gopros_names_tell_level_and_lost_frames():
    assert [own_level(clip(name)) for name in ("GOPR0372_07_00", "GOPR0378_13_00", "GOPR0384_11_05")] == [
        7,
        13,
        11,
    ]
    assert [lost_frames(clip(name)) for name in ("GOPR0372_07_00", "GOPR0384_11_05")] == [0, 5]
    with pytest.raises(UserError, match="not named like a GoPro video"):
        own_level(clip("walk"))
