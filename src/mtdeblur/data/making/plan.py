"""Which exposures are made: levels, how exposures are laid over the frames, and the paper's two data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mtdeblur.data.disk.frames import Clip
from mtdeblur.data.disk.splits import SPLITS, lost_frames, own_level
from mtdeblur.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Recipe:
    """Which exposures are made of clips.

    Attributes:
        inputs: temporal levels of the blurred pictures, dealt out in turn within each split; 2 or more. An
            even level has two frames in its middle, of which the later one is the sharp picture. Empty: each
            clip's exposures have the level in its GoPro name.
        goals: further levels that are stored beside them, odd, 3 or more.
        stride: frames from one mid-frame to the next; None: exposures share no frame and leave none out.
        counts: split to the number of exposures wanted, spread evenly over its clips' frames whatever the
            stride. Where no clip is for validation, the ends of the training clips are held out for it.
        keep_faulty: lay exposures over scene cuts, lost and repeated frames as well.

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
        """Frames that an exposure takes, whatever its level; 0 where that is the clip's own affair."""
        return max((*self.inputs, *self.goals)) if self.inputs else 0


T_GOPRO = Recipe(counts={"train": 5500, "valid": 110, "test": 1200})
"""T-GoPro of the paper, from GOPRO_Large_all: TL7, 9, 11, 13 evenly as inputs, TL3 to TL13 as goals."""

GOPRO = Recipe(inputs=(), goals=(), keep_faulty=True)
"""The pairs of GoPro, from GOPRO_Large_all: 2,103 for training and 1,111 for testing."""

PRESETS: Mapping[str, Recipe] = {"t-gopro": T_GOPRO, "gopro": GOPRO}
GOPRO_PAIRS: Mapping[str, int] = {"train": 2103, "test": 1111}


@dataclass(frozen=True)
class Exposure:
    """One exposure to make.

    Attributes:
        split: what it is for.
        clip: where its frames are.
        middle: index of its mid-frame.
        level: temporal level of its blurred picture.
        goals: further levels that are stored.
    """

    split: str
    clip: Clip
    middle: int
    level: int
    goals: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """What no other exposure of a data set is called."""
        return self.split, self.clip.name, self.middle

    @property
    def levels(self) -> tuple[int, ...]:
        """All levels that are stored, TL1 included, growing."""
        return tuple(sorted({1, self.level, *self.goals}))


Runs = Sequence[tuple[Clip, Sequence[range]]]
"""Clips, each with the runs of frames between its faults."""


def plan_exposures(
    recipe: Recipe, splits: Mapping[str, Runs], keep: float = 1.0, grid: int = 1
) -> list[Exposure]:
    """Lay exposures over the clips of each split, in order.

    Args:
        recipe: how.
        splits: the clips of each split.
        keep: share of each split's exposures to keep, spread evenly.
        grid: mid-frames are multiples of this; the stride is rounded up to one.

    Raises:
        UserError: if the clips hold fewer exposures than wanted, or none, or one's own level is not known.
    """
    places = {
        split: [(clip, _middles(recipe, clip, runs, grid)) for clip, runs in splits[split]]
        for split in splits
    }
    if recipe.counts:
        places = _spread(places, recipe)
    exposures: list[Exposure] = []
    for split in SPLITS:
        flat = [(clip, middle) for clip, middles in places.get(split, ()) for middle in middles]
        for turn, (clip, middle) in enumerate(pick_evenly(flat, int(len(flat) * keep))):
            level = recipe.inputs[turn % len(recipe.inputs)] if recipe.inputs else own_level(clip)
            exposures.append(Exposure(split, clip, middle, level, recipe.goals))
    if not exposures:
        raise UserError(
            "no exposure fits; the clips are too short or interrupted too often, or the limit is too small"
        )
    return exposures


def goals_below(inputs: Sequence[int]) -> tuple[int, ...]:
    """All odd levels from 3 to the highest of the inputs."""
    return tuple(range(3, max(inputs) + 1, 2))


def pick_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, spread evenly, in their order; all if there are no more."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _middles(recipe: Recipe, clip: Clip, runs: Sequence[range], grid: int) -> list[int]:
    """Where the mid-frames of a clip's exposures can lie: everywhere if they are to be counted out."""
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
    """The sharp frames of the official pairs: the middles of consecutive windows that share no frame.

    A window that would begin before the first frame is moved to it.
    """
    level, lost = own_level(clip), lost_frames(clip)
    middle = level // 2
    return [max(middle, middle - lost + index * level) for index in range(frames // level)]


Places = dict[str, list[tuple[Clip, list[int]]]]


def _spread(places: Places, recipe: Recipe) -> Places:
    """As many exposures for each split as wanted, of those that its clips can hold."""
    counts = dict(recipe.counts or {})
    if counts.get("valid") and not places.get("valid") and places.get("train"):
        share = counts["valid"] / (counts["valid"] + counts["train"])
        places = {**places, **_hold_out_ends(places["train"], share, recipe.window)}
    spread: Places = {}
    for split, count in counts.items():
        flat = [(clip, middle) for clip, middles in places.get(split, ()) for middle in middles]
        if flat and len(flat) < count:
            raise UserError(
                f"{count} exposures are wanted for {split}, but its {len(places[split])} clips hold no more "
                f"than {len(flat)}; give all of GOPRO_Large_all, or --level and --stride instead of a preset"
            )
        chosen = pick_evenly(flat, count)
        spread[split] = [(clip, [m for c, m in chosen if c == clip]) for clip, _ in places.get(split, ())]
    return spread


def _hold_out_ends(train: list[tuple[Clip, list[int]]], share: float, window: int) -> Places:
    """The last places of each training clip for validation, and those that share no frame with them."""
    kept: Places = {"train": [], "valid": []}
    for clip, middles in train:
        ends = middles[len(middles) - round(len(middles) * share) :]
        kept["valid"].append((clip, ends))
        kept["train"].append((clip, [m for m in middles if not ends or m <= ends[0] - window]))
    return kept
