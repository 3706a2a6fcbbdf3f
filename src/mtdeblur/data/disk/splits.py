"""Which clips are trained on: the official split of GoPro by name, and the user's own."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

from mtdeblur.data.disk.frames import Clip
from mtdeblur.errors import UserError

SPLITS = ("train", "valid", "test")
HOLD_OUT = 10
"""Every tenth photograph by sorted name is never trained on."""

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
    """Say of each clip what it is for.

    What the user has chosen counts first; then GoPro's names; then the folder that the clip lies in (`train`,
    `valid` or `test`); all others are trained on.

    Args:
        clips: all clips.
        chosen: split to the clips that the user wants there: names, or patterns such as `GOPR0374*`.

    Returns:
        Split to its clips, for all of `SPLITS`.

    Raises:
        UserError: if a pattern fits no clip, a clip fits the patterns of two splits, or one of GoPro's test
            videos would be trained or validated on.
    """
    split: dict[str, list[Clip]] = {name: [] for name in SPLITS}
    for name, patterns in chosen.items():
        for pattern in patterns:
            if not any(fnmatch(clip.name, pattern) for clip in clips):
                names = ", ".join(clip.name for clip in clips)
                raise UserError(f"no clip is called {pattern}, which is wanted for {name}; there are {names}")
    for clip in clips:
        wanted = [name for name in SPLITS if any(fnmatch(clip.name, p) for p in chosen.get(name, ()))]
        if len(wanted) > 1:
            raise UserError(f"the clip {clip.name} is wanted for {' and '.join(wanted)}; choose one")
        held_out = any(name in clip.name for name in GOPRO_TEST)
        if held_out and wanted and wanted != ["test"]:
            raise UserError(
                f"{clip.name} is one of the {len(GOPRO_TEST)} test videos of GoPro and cannot be taken for "
                f"{wanted[0]}: results on GoPro's test pairs would mean nothing; leave it out or in test"
            )
        split[wanted[0] if wanted else _usual_split(clip, held_out)].append(clip)
    return split


def own_level(clip: Clip) -> int:
    """The temporal level of the official pairs of a GoPro video: yy of `GOPRxxxx_yy_zz`.

    Raises:
        UserError: if the clip has no such name.
    """
    return int(_gopro_name(clip)[1])


def lost_frames(clip: Clip) -> int:
    """How many frames the first official window of a GoPro video lacks: zz of `GOPRxxxx_yy_zz`.

    A long recording is published in pieces, and others have found by comparing pictures that the windows of
    piece zz begin zz frames before its first published frame.

    Raises:
        UserError: if the clip has no such name.
    """
    return int(_gopro_name(clip)[2])


def _gopro_name(clip: Clip) -> re.Match[str]:
    match = _GOPRO_NAME.search(clip.name)
    if not match:
        raise UserError(
            f"{clip.name} is not named like a GoPro video (GOPRxxxx_yy_zz), so its temporal level is "
            "unknown; name the levels"
        )
    return match


def _usual_split(clip: Clip, held_out: bool) -> str:
    if held_out:
        return "test"
    if clip.name in GOPRO_TRAIN:
        return "train"
    return _FOLDERS.get(clip.parent.lower(), "train")
