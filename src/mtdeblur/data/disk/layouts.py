"""Folder layouts of the known deblurring data sets, for `mtdeblur.data.disk.pairs`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

SPLITS = ("train", "valid", "test")


class Sides(NamedTuple):
    """Path patterns of blurred pictures and their ground truth, relative to the data set, without suffix.

    A `{word}` is a wildcard within one path component, with the same value on both sides. `shared`: the sharp
    folder also contains other splits' pictures, so some of its pictures have no partner here.
    """

    blur: str
    sharp: str
    shared: bool = False

    @property
    def expected(self) -> str:
        """The patterns in readable form, such as `blur/NAME.png with sharp/NAME.png`."""
        blur, sharp = (re.sub(r"{(\w+)}", lambda word: word[1].upper(), side) for side in self[:2])
        return f"{blur}.png with {sharp}.png"


@dataclass(frozen=True)
class Layout:
    """Locations of a data set's pairs.

    Attributes:
        sides: split to the patterns of its pairs.
        undivided: patterns of pairs without a split. All of them are test pairs; every tenth by name is used
            for validation and the others for training.
        lists: split to the text file that lists its pairs, `SHARP BLURRED` a line, with relative paths.
        sequences: split to the names of its sequences, where splits share a folder.
    """

    sides: Mapping[str, tuple[Sides, ...]] = field(default_factory=dict[str, tuple[Sides, ...]])
    undivided: tuple[Sides, ...] = ()
    lists: Mapping[str, str] = field(default_factory=dict[str, str])
    sequences: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def expected(self, split: str) -> str:
        """The expected files, for errors."""
        if split in self.lists:
            return f"{self.lists[split]} with a line 'SHARP.png BLURRED.png' for each pair"
        places = (*self.undivided, *self.sides.get(split, ()))
        return "; or ".join(dict.fromkeys(sides.expected for sides in places[:2]))


def _by_split(blur: str, sharp: str, **folders: str) -> dict[str, tuple[Sides, ...]]:
    """The same patterns for several splits; SPLIT is replaced by the split's folder."""
    return {
        split: (Sides(blur.replace("SPLIT", folder), sharp.replace("SPLIT", folder)),)
        for split, folder in folders.items()
    }


_SU = tuple(
    Sides(f"{top}{{sequence}}/input/{{name}}", f"{top}{{sequence}}/GT/{{name}}")
    for top in ("quantitative_datasets/", "")
)
_NAMES_OF_SIDES = (("blur", "sharp"), ("input", "target"), ("input", "GT"), ("blur", "gt"), ("lq", "gt"))

LAYOUTS: Mapping[str, Layout] = {
    # Nah et al. 2017. With TL3/, TL5/ ... beside blur/ and sharp/: a temporal data set such as T-GoPro.
    "GoPro": Layout(
        _by_split(
            "SPLIT/{sequence}/blur/{name}",
            "SPLIT/{sequence}/sharp/{name}",
            **{split: split for split in SPLITS},
        )
    ),
    "REDS": Layout(
        _by_split(
            "SPLIT/SPLIT_blur/{sequence}/{name}",
            "SPLIT/SPLIT_sharp/{sequence}/{name}",
            train="train",
            test="val",  # the ground truth of its test split is not public
        )
    ),
    "HIDE": Layout(
        {
            "train": (Sides("train/{name}", "GT/{name}", shared=True),),
            "test": (Sides("test/{part}/{name}", "GT/{name}", shared=True),),
        }
    ),
    "RealBlur-J": Layout(lists={split: f"RealBlur_J_{split}_list.txt" for split in ("train", "test")}),
    "RealBlur-R": Layout(lists={split: f"RealBlur_R_{split}_list.txt" for split in ("train", "test")}),
    "RSBlur": Layout(
        lists={
            "train": "RSBlur_real_train.txt",
            "valid": "RSBlur_real_val.txt",
            "test": "RSBlur_real_test.txt",
        }
    ),
    # Su et al. 2017 (DVD): one folder contains training and test videos.
    "Su": Layout(
        {"train": _SU, "test": _SU},
        sequences={
            "test": (
                *("720p_240fps_2", "IMG_0003", "IMG_0021", "IMG_0030", "IMG_0031"),
                *("IMG_0032", "IMG_0033", "IMG_0037", "IMG_0039", "IMG_0049"),
            )
        },
    ),
    # Lai et al. 2016: the synthetic pictures; the real ones have no ground truth.
    "Lai": Layout(
        {
            "test": tuple(
                Sides(f"{{kind}}/{{scene}}_{blur}_{{number}}", "ground_truth/{scene}", shared=True)
                for blur in ("kernel", "gyro")
            )
        }
    ),
    "pairs": Layout(
        {
            split: tuple(
                Sides(f"{split}/{sequence}{blur}/{{name}}", f"{split}/{sequence}{sharp}/{{name}}")
                for blur, sharp in _NAMES_OF_SIDES
                for sequence in ("", "{sequence}/")
            )
            for split in SPLITS
        },
        undivided=tuple(
            Sides(f"{sequence}{blur}/{{name}}", f"{sequence}{sharp}/{{name}}")
            for blur, sharp in _NAMES_OF_SIDES
            for sequence in ("", "{sequence}/")
        ),
    ),
}
"""Layouts by name, in order of detection; `pairs` is any folder of pairs."""
