"""Batches of ladders: crops of the temporal levels of many exposures, simulated or from real frames.

What the batch with a given number holds is a pure function of the seed and that number, whatever the device
(up to rounding) and however many processes share the work: so a run resumes at any batch, and processes see
disjoint data.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtdeblur.data.contents import TrainingData
from mtdeblur.data.crops import cut, detail, random_corner, to_tensor, turn
from mtdeblur.data.decoded import Decoded
from mtdeblur.data.sources import Entry, Pixels
from mtdeblur.data.stored import Order
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import GAMMA, IDENTITY
from mtdeblur.exposure.levels import temporal_ladder
from mtdeblur.exposure.simulate import FRAMES, Motion, Sensor, margin, record, simulate_ladder


class LadderBatch(NamedTuple):
    """A batch of exposures that share one input level.

    Attributes:
        number: which batch of the run it is, from 0.
        level: temporal level of the input. That of real pairs is not known, and neither are levels between
            their input and TL1: what stands here only says how many iterations a plan for them has.
        blurred: (B, 3, P, P) in [0, 1], float: TL `level` as the camera stored it.
        ladder: level to image (B, 3, P, P) in [0, 1], float, from TL1 to TL `level`; TL1 alone of real pairs.
    """

    number: int
    level: int
    blurred: Tensor
    ladder: dict[int, Tensor]

    @property
    def has_pairs(self) -> bool:
        """Whether it holds real pairs."""
        return self.level not in self.ladder


class Exposures(NamedTuple):
    """How exposures are made.

    Attributes:
        motion: of the simulated camera.
        sensor: what happens to the inputs after the camera response function.
        clips: share of the exposures that come from real high-speed frames.
        gamma: share of the exposures that are averaged in gamma-2.2 linear light rather than as stored.
        enlarge: smallest and largest factor by which photographs are enlarged first, 1 or more. A camera's
            frames are softer than photographs that were made small; a network must know such images too.
        pairs: share of the batches that hold real pairs, as they are: a camera made their inputs, and no
            noise or compression is added.
    """

    motion: Motion
    sensor: Sensor
    clips: float
    gamma: float
    enlarge: tuple[float, float] = (1.0, 1.0)
    pairs: float = 0.0


class _Draw(IntEnum):
    """What random numbers are drawn for; each purpose has a stream of its own."""

    LEVEL = 0
    ORDER = 1
    CROP = 2
    SENSOR = 3
    KIND = 4
    PHOTO = 5
    CLIP = 6
    MOTION = 7
    PAIR = 8
    OBJECT = 9


class LadderStream:
    """The training data: for each batch number a batch, on the device.

    Each of the batch's places has a small pool of exposures, made afresh every `reuse` x `pool` batches;
    every exposure is cropped, flipped and turned `reuse` times before it goes. Exposures that are used more
    than once are a quarter larger than the patch. Batches of real pairs stand in between, evenly spread: they
    are cropped from the whole pictures, and the pool does not count them. Exposures that are stored with
    their levels are used as they are, each once an epoch.

    Args:
        pack: what to train on, such as a pack or a data set.
        exposures: how exposures are made.
        levels: input levels to draw from, odd, up to 13.
        patch: height and width of the training patches, in pixels.
        batch: patches in a batch over all processes.
        reuse: how often an exposure is used.
        pool: exposures that a place of the batch holds at a time.
        seed: of everything random here, 0 or more.
        device: where exposures are simulated and batches live.
        rank: which process this is.
        world: how many processes share a batch; must divide it.
        decoded: where pictures are kept decoded; in memory where it is not given.

    Raises:
        ValueError: if the processes cannot share a batch evenly.
        UserError: if stored exposures have none of the levels.
    """

    def __init__(
        self,
        pack: TrainingData,
        exposures: Exposures,
        *,
        levels: Sequence[int],
        patch: int,
        batch: int,
        reuse: int = 1,
        pool: int = 8,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        decoded: Decoded | None = None,
    ) -> None:
        if batch % world:
            raise ValueError(f"a batch of {batch} cannot be shared evenly by {world} processes")
        self.exposures, self.levels, self.patch = exposures, tuple(levels), patch
        self.reuse, self.pool, self.seed = reuse, pool, seed
        self.device = torch.device(device)
        share = batch // world
        self.places = range(rank * share, (rank + 1) * share)
        self.decoded = decoded or Decoded()
        self.photos = _Pictures(pack.photos, self.decoded)
        self.clips = [_Pictures(clip, self.decoded) for clip in pack.clips]
        self.pairs = [
            _Pictures(side, self.decoded) for side in zip(*pack.pairs, strict=True)
        ]  # blurred, sharp
        self.stored = pack.ladders
        self.order = Order(self.stored, levels, batch, seed) if self.stored else None
        alone = not (self.photos or self.clips or self.stored)
        self._share = (1.0 if alone else exposures.pairs) if self.pairs else 0.0
        self.size = patch if reuse == 1 else patch + patch // 4
        self._made = range(1, max(levels) + 1, 2)  # levels of every exposure
        self._round = -1  # which exposures are in the pool: (pool, places, levels, 3, size, size)
        used = pool if self.photos or self.clips else 0
        shape = (used, len(self.places), len(self._made), 3, self.size, self.size)
        self._pool = torch.empty(shape, dtype=torch.uint8, device=self.device)

    def batch(self, number: int) -> LadderBatch:
        """The batch with that number, from 0.

        Raises:
            UserError: if a picture of the pack cannot be used.
        """
        level = self.levels[self._rng(_Draw.LEVEL, number).integers(len(self.levels))]
        before, after = (math.floor(count * self._share) for count in (number, number + 1))
        if after > before:
            sharp, blurred = torch.stack([self._pair(number, place) for place in self.places], dim=1)
            return LadderBatch(number, level, blurred, {1: sharp})
        if self.order is not None:
            return self._stored(number, number - before)
        return self._ladders(number, number - before, level)

    def _ladders(self, number: int, count: int, level: int) -> LadderBatch:
        """The batch with a number, which is the one with number `count` of those that hold no pairs."""
        round_, step = divmod(count, self.pool * self.reuse)
        if round_ != self._round:
            self._fill(round_)
        wanted = range(1, level + 1, 2)
        crops: list[Tensor] = []  # each (levels, 3, P, P)
        for index, place in enumerate(self.places):
            order = self._rng(_Draw.ORDER, round_, step // self.pool, place).permutation(self.pool)
            rng = self._rng(_Draw.CROP, number, place)
            top, left = rng.integers(self.size - self.patch + 1, size=2)
            exposure = self._pool[order[step % self.pool], index, : len(wanted)]
            crop = exposure[..., top : top + self.patch, left : left + self.patch]
            crops.append(turn(crop, rng))
        images = torch.stack(crops, dim=1).float().div_(255)  # (levels, B, 3, P, P)
        blurred = record(images[-1], self.exposures.sensor, self._seeds(_Draw.SENSOR, number, self.places))
        return LadderBatch(number, level, blurred, dict(zip(wanted, images, strict=True)))

    def _stored(self, number: int, count: int) -> LadderBatch:
        """The batch with a number from stored exposures: the one with number `count` in their order."""
        assert self.order is not None
        level, chosen = self.order.batch(count)
        crops: list[Tensor] = []  # each (levels, 3, P, P), of the input last
        goals: list[int] = []
        for place in self.places:
            ladder = self.stored[int(chosen[place])]
            goals = ladder.goals(level)
            files = [ladder.path(n) for n in (*goals, level)]
            pictures = [self.decoded(file) for file in files]
            if len({picture.shape for picture in pictures}) > 1:
                raise UserError(f"the levels of {files[-1]} differ in size")
            rng = self._rng(_Draw.CROP, number, place)
            corner = random_corner(rng, pictures[0], self.patch)
            crop = to_tensor(*(cut(picture, corner, self.patch) for picture in pictures))
            crops.append(turn(crop.to(self.device), rng))
        images = torch.stack(crops, dim=1).float().div_(255)  # (levels, B, 3, P, P)
        return LadderBatch(number, level, images[-1], dict(zip(goals, images, strict=False)))

    def _pair(self, number: int, place: int) -> Tensor:
        """A crop (2, 3, P, P) in [0, 1] of a pair, sharp and blurred: of two drawn, the more detailed one."""
        rng = self._rng(_Draw.PAIR, number, place)
        index = int(rng.integers(len(self.pairs[0])))
        blurred, sharp = (pictures[index] for pictures in self.pairs)
        if blurred.shape != sharp.shape:
            raise UserError(f"{self.pairs[0].entries[index]} and its sharp picture differ in size")
        corner = max(
            (random_corner(rng, sharp, self.patch) for _ in range(2)),
            key=lambda corner: detail(cut(sharp, corner, self.patch)),
        )
        crop = to_tensor(*(cut(picture, corner, self.patch) for picture in (sharp, blurred)))
        return turn(crop.to(self.device), rng).float().div_(255)

    def _rng(self, purpose: _Draw, *key: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, purpose, *key))

    def _seeds(self, purpose: _Draw, number: int, places: Sequence[int]) -> list[int]:
        return [int(self._rng(purpose, number, place).integers(2**62)) for place in places]

    def _fill(self, round_: int) -> None:
        """Make the exposures of a round: `pool` for every place of the batch."""
        # On a CPU one sample at a time: its frames stay in the cache.
        together = 1 if self.device.type == "cpu" else len(self.places)
        for slot, exposures in enumerate(self._pool):
            for first in range(0, len(self.places), together):
                part = slice(first, first + together)
                ladder = self._expose(round_ * self.pool + slot, self.places[part])
                for index, image in enumerate(ladder.values()):
                    exposures[part, index] = image.mul(255).round_()
        self._round = round_

    def _expose(self, turn: int, places: Sequence[int]) -> dict[int, Tensor]:
        """One exposure for each of these places: level to (places, 3, size, size) in [0, 1]."""
        rng = self._rng(_Draw.KIND, turn)
        crf = GAMMA if rng.random() < self.exposures.gamma else IDENTITY
        if self.clips and (not self.photos or rng.random() < self.exposures.clips):
            frames = torch.stack([self._frames(turn, place) for place in places], dim=1)
            return temporal_ladder(frames.to(self.device).float().div_(255), self._made, crf)
        return simulate_ladder(
            self._photographs(_Draw.PHOTO, turn, places),
            self.size,
            self._made,
            self.exposures.motion,
            crf,
            self._seeds(_Draw.MOTION, turn, places),
            self._photographs(_Draw.OBJECT, turn, places) if self.exposures.motion.layers else None,
        )

    def _photographs(self, purpose: _Draw, turn: int, places: Sequence[int]) -> Tensor:
        """(places, 3, h, w) in [0, 1]: crops of photographs."""
        crops = [self._photograph(self._rng(purpose, turn, place)) for place in places]
        return torch.stack(crops).to(self.device).float().div_(255)

    def _photograph(self, rng: np.random.Generator) -> Tensor:
        """A crop (3, h, w) of a photograph, uint8: of two drawn, the one with more detail."""
        picture = self.photos[int(rng.integers(len(self.photos)))]
        side = self.size + 2 * margin(self.exposures.motion)
        window = round(side / rng.uniform(*self.exposures.enlarge))
        crops = [cut(picture, random_corner(rng, picture, window), window) for _ in range(2)]
        crop = Image.fromarray(max(crops, key=detail))
        return to_tensor(np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC)))[0]

    def _frames(self, turn: int, place: int) -> Tensor:
        """The same crop (13, 3, size, size) of 13 consecutive frames, uint8."""
        rng = self._rng(_Draw.CLIP, turn, place)
        clip = self.clips[int(rng.integers(len(self.clips)))]
        start = int(rng.integers(len(clip) - FRAMES + 1))
        frames = [clip[index] for index in range(start, start + FRAMES)]
        if len({frame.shape for frame in frames}) > 1:
            raise UserError(f"the frames of the clip around {clip.entries[start]} differ in size")
        corner = random_corner(rng, frames[0], self.size)
        return to_tensor(*(cut(frame, corner, self.size) for frame in frames))


class _Pictures:
    """Pictures by number, decoded."""

    def __init__(self, entries: Sequence[Entry], decoded: Decoded) -> None:
        self.entries, self.decoded = entries, decoded

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Pixels:
        return self.decoded(self.entries[index])
