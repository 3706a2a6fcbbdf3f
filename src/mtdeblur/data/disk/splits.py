"""Splits of clips: the official split of GoPro by name, and the user's own."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

from mtdeblur.data.disk.frames import Clip
from mtdeblur.data.disk.layouts import SPLITS
from mtdeblur.errors import UserError

HOLD_OUT = 10
"""Every tenth photograph by sorted name is held out for validation."""

GOPRO_TRAIN = frozenset(
    [
        "GOPR0372_07_00",
        "GOPR0372_07_01",
        "GOPR0374_11_00",
        "GOPR0374_11_01",
        "GOPR0374_11_02",
        "GOPR0374_11_03",
        "GOPR0378_13_00",
        "GOPR0379_11_00",
        "GOPR0380_11_00",
        "GOPR0384_11_01",
        "GOPR0384_11_02",
        "GOPR0384_11_03",
        "GOPR0384_11_04",
        "GOPR0385_11_00",
        "GOPR0386_11_00",
        "GOPR0477_11_00",
        "GOPR0857_11_00",
        "GOPR0868_11_01",
        "GOPR0868_11_02",
        "GOPR0871_11_01",
        "GOPR0881_11_00",
        "GOPR0884_11_00",
    ]
)
"""The 22 videos that GoPro's training pairs come from."""

GOPRO_TEST = frozenset(
    [
        "GOPR0384_11_00",
        "GOPR0384_11_05",
        "GOPR0385_11_01",
        "GOPR0396_11_00",
        "GOPR0410_11_00",
        "GOPR0854_11_00",
        "GOPR0862_11_00",
        "GOPR0868_11_00",
        "GOPR0869_11_00",
        "GOPR0871_11_00",
        "GOPR0881_11_01",
    ]
)
"""The 11 videos that GoPro's test pairs come from. Nothing may be trained on them."""

_GOPRO_NAME = re.compile(r"GOPR\d+_(\d+)_(\d+)")
_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}


def split_clips(clips: Sequence[Clip], chosen: Mapping[str, Sequence[str]]) -> dict[str, list[Clip]]:
    """Assign each clip to a split.

    The user's choice takes precedence, then GoPro's names, then the name of the containing folder (`train`,
    `valid` or `test`); all other clips are for training.

    Args:
        clips: all clips.
        chosen: split to the user's clips for it: names, or patterns such as `GOPR0374*`.

    Returns:
        Split to its clips, for all of `SPLITS`.

    Raises:
        UserError: if a pattern matches no clip, a clip matches the patterns of two splits, or a GoPro test
            video is chosen for training or validation.
    """
    split: dict[str, list[Clip]] = {name: [] for name in SPLITS}
    for name, patterns in chosen.items():
        for pattern in patterns:
            if not any(fnmatch(clip.name, pattern) for clip in clips):
                names = ", ".join(clip.name for clip in clips)
                raise UserError(f"no clip matches {pattern}, chosen for {name}; the clips are {names}")
    for clip in clips:
        choices = [name for name in SPLITS if any(fnmatch(clip.name, p) for p in chosen.get(name, ()))]
        if len(choices) > 1:
            raise UserError(f"the clip {clip.name} is chosen for {' and '.join(choices)}; choose one")
        held_out = any(name in clip.name for name in GOPRO_TEST)
        if held_out and choices and choices != ["test"]:
            raise UserError(
                f"{clip.name} is one of GoPro's {len(GOPRO_TEST)} test videos and cannot be used for "
                f"{choices[0]}: results on GoPro's test pairs would be meaningless; leave it out or in test"
            )
        split[choices[0] if choices else _default_split(clip, held_out)].append(clip)
    return split


def own_level(clip: Clip) -> int:
    """Temporal level of a GoPro video's official pairs: yy of `GOPRxxxx_yy_zz`.

    Raises:
        UserError: if it is not a GoPro name.
    """
    return int(_gopro_name(clip)[1])


def lost_frames(clip: Clip) -> int:
    """Number of frames missing from the first official window of a GoPro video: zz of `GOPRxxxx_yy_zz`.

    Long recordings are published in pieces. Comparisons of the pictures have shown that the windows of piece
    zz begin zz frames before its first published frame.

    Raises:
        UserError: if it is not a GoPro name.
    """
    return int(_gopro_name(clip)[2])


def _gopro_name(clip: Clip) -> re.Match[str]:
    match = _GOPRO_NAME.search(clip.name)
    if not match:
        raise UserError(
            f"{clip.name} is not named like a GoPro video (GOPRxxxx_yy_zz), so its temporal level is "
            "unknown; give the levels"
        )
    return match


def _default_split(clip: Clip, held_out: bool) -> str:
    if held_out:
        return "test"
    if clip.name in GOPRO_TRAIN:
        return "train"
    return _FOLDERS.get(clip.parent.lower(), "train")
