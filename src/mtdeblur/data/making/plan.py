"""Planning of exposures: levels, positions in the clips, and the recipes of the paper's two data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mtdeblur.data.disk.frames import Clip
from mtdeblur.data.disk.splits import SPLITS, lost_frames, own_level
from mtdeblur.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Recipe:
    """Levels and positions of the exposures of a temporal data set.

    Attributes:
        inputs: temporal levels of the blurred pictures, 2 or more, assigned in turn within each split. An
            even level has two middle frames; the later one is the sharp picture. Empty: each clip's
            exposures have the level in its GoPro name.
        goals: further levels to store, odd, 3 or more.
        stride: frames from one mid-frame to the next; None: exposures are adjacent and share no frame.
        counts: split to number of exposures, spread evenly over its clips' frames regardless of the stride.
            If no clip is for validation, the ends of the training clips are held out for it.
        keep_faulty: whether exposures may span scene cuts, lost and repeated frames.

    Raises:
        UserError: if a level or the stride is out of range.
    """

    inputs: tuple[int, ...] = (7, 9, 11, 13)
    goals: tuple[int, ...] = (3, 5, 7, 9, 11, 13)
    stride: int | None = None
    counts: Mapping[str, int] | None = None
    keep_faulty: bool = False

    def __post_init__(self) -> None:
        if any(level < 2 for level in self.inputs):
            raise UserError("the level of a blurred picture is 2 or more")
        if any(level < 3 or level % 2 == 0 for level in self.goals):
            raise UserError("levels stored as goals are odd, 3 or more")
        if self.stride is not None and self.stride < 1:
            raise UserError("the stride is 1 frame or more")

    @property
    def window(self) -> int:
        """Frames of an exposure, the same for all levels; 0 if they depend on the clip's name."""
        return max((*self.inputs, *self.goals)) if self.inputs else 0


T_GOPRO = Recipe(counts={"train": 5500, "valid": 110, "test": 1200})
"""The paper's T-GoPro, from GOPRO_Large_all: inputs TL7, 9, 11, 13 in equal shares, goals TL3 to TL13."""

GOPRO = Recipe(inputs=(), goals=(), keep_faulty=True)
"""The pairs of GoPro, from GOPRO_Large_all: 2,103 for training and 1,111 for testing."""

PRESETS: Mapping[str, Recipe] = {"t-gopro": T_GOPRO, "gopro": GOPRO}
GOPRO_PAIRS: Mapping[str, int] = {"train": 2103, "test": 1111}


@dataclass(frozen=True)
class Exposure:
    """One exposure to make.

    Attributes:
        split: train, valid or test.
        clip: the clip of its frames.
        middle: index of its mid-frame.
        level: temporal level of its blurred picture.
        goals: further levels to store.
    """

    split: str
    clip: Clip
    middle: int
    level: int
    goals: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """Unique key within the data set."""
        return self.split, self.clip.name, self.middle

    @property
    def levels(self) -> tuple[int, ...]:
        """All levels to store, TL1 included, increasing."""
        return tuple(sorted({1, self.level, *self.goals}))


Runs = Sequence[tuple[Clip, Sequence[range]]]
"""Clips, each with the runs of frames between its faults."""


def plan_exposures(
    recipe: Recipe, splits: Mapping[str, Runs], keep: float = 1.0, grid: int = 1
) -> list[Exposure]:
    """Plan the exposures of the clips of each split, in order.

    Args:
        recipe: levels and positions.
        splits: the clips of each split.
        keep: share of each split's exposures to keep, spread evenly.
        grid: mid-frames are multiples of this number; the stride is rounded up to a multiple of it.

    Raises:
        UserError: if there is room for too few exposures, or a clip's name has no level where it is needed.
    """
    places = {
        split: [(clip, _middles(recipe, clip, runs, grid)) for clip, runs in splits[split]]
        for split in splits
    }
    if recipe.counts:
        places = _pick_counts(places, recipe)
    exposures: list[Exposure] = []
    for split in SPLITS:
        flat = [(clip, middle) for clip, middles in places.get(split, ()) for middle in middles]
        for turn, (clip, middle) in enumerate(pick_evenly(flat, int(len(flat) * keep))):
            level = recipe.inputs[turn % len(recipe.inputs)] if recipe.inputs else own_level(clip)
            exposures.append(Exposure(split, clip, middle, level, recipe.goals))
    if not exposures:
        raise UserError(
            "no exposure fits: the clips are too short or have too many faults, or the limit is too small"
        )
    return exposures


def goals_below(inputs: Sequence[int]) -> tuple[int, ...]:
    """All odd levels from 3 to the highest of the inputs."""
    return tuple(range(3, max(inputs) + 1, 2))


def pick_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, spread evenly, in their order."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _middles(recipe: Recipe, clip: Clip, runs: Sequence[range], grid: int) -> list[int]:
    """Possible mid-frames of a clip's exposures: all on the grid if the recipe counts exposures."""
    if not recipe.inputs:
        return _official_middles(clip, sum(len(run) for run in runs))
    window = recipe.window
    stride = _round_up(1 if recipe.counts else recipe.stride or window, grid)
    return [
        middle
        for run in runs
        for middle in range(_round_up(run.start + window // 2, grid), run.stop - (window - 1) // 2, stride)
    ]


def _round_up(number: int, grid: int) -> int:
    return -(-number // grid) * grid


def _official_middles(clip: Clip, frames: int) -> list[int]:
    """The mid-frames of the official pairs: the middles of adjacent windows without shared frames.

    A window that would begin before the first frame is moved to it.
    """
    level, missing = own_level(clip), lost_frames(clip)
    middle = level // 2
    return [max(middle, middle - missing + index * level) for index in range(frames // level)]


Places = dict[str, list[tuple[Clip, list[int]]]]


def _pick_counts(places: Places, recipe: Recipe) -> Places:
    """Pick the recipe's number of exposures for each split."""
    counts = dict(recipe.counts or {})
    if counts.get("valid") and not places.get("valid") and places.get("train"):
        share = counts["valid"] / (counts["valid"] + counts["train"])
        places = {**places, **_hold_out_ends(places["train"], share, recipe.window)}
    picked: Places = {}
    for split, count in counts.items():
        flat = [(clip, middle) for clip, middles in places.get(split, ()) for middle in middles]
        if flat and len(flat) < count:
            raise UserError(
                f"{split} needs {count} exposures, but its {len(places[split])} clips have room for "
                f"{len(flat)}; give all of GOPRO_Large_all, or --level and --stride instead of a preset"
            )
        chosen = pick_evenly(flat, count)
        picked[split] = [(clip, [m for c, m in chosen if c == clip]) for clip, _ in places.get(split, ())]
    return picked


def _hold_out_ends(train: list[tuple[Clip, list[int]]], share: float, window: int) -> Places:
    """Split training clips: their last exposures for validation, those without shared frames for training."""
    kept: Places = {"train": [], "valid": []}
    for clip, middles in train:
        ends = middles[len(middles) - round(len(middles) * share) :]
        kept["valid"].append((clip, ends))
        kept["train"].append((clip, [m for m in middles if not ends or m <= ends[0] - window]))
    return kept
