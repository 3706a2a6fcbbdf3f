"""Batches of ladders: crops of the temporal levels of many exposures, simulated or from real frames.

Decoded pictures are on the device, and a batch is made there by a constant number of operations without
synchronisation. The content of a batch depends only on the seed, its number and the kind of device, not on
the number of processes: a run can resume at any batch, and processes get disjoint data.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtdeblur.data.disk.decode import Pixels, decode
from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.data.feeding.crops import cut, random_corner, to_tensor, turn
from mtdeblur.data.feeding.resident import Corners, Resident, detail, random_turn, turned_places
from mtdeblur.data.feeding.stored import Order
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import GAMMA, IDENTITY
from mtdeblur.exposure.draws import BatchDraws
from mtdeblur.exposure.levels import temporal_ladder
from mtdeblur.exposure.sensor import Sensor, record
from mtdeblur.exposure.simulate import FRAMES, Motion, margin, simulate_ladder

BRIGHTEST = 8.0
"""Largest light of a highlight, as a multiple of white: three stops above it."""


class LadderBatch(NamedTuple):
    """A batch of exposures that share one input level.

    Attributes:
        number: of the batch in the run, from 0.
        level: temporal level of the input. For real pairs, whose level is unknown, it only determines the
            number of iterations.
        blurred: (B, 3, P, P) in [0, 1], float: TL `level` as the camera stored it.
        ladder: level to image (B, 3, P, P) in [0, 1], float, from TL1 to TL `level`; TL1 alone for pairs.
    """

    number: int
    level: int
    blurred: Tensor
    ladder: dict[int, Tensor]

    @property
    def has_pairs(self) -> bool:
        """Whether the batch consists of real pairs."""
        return self.level not in self.ladder


class Exposures(NamedTuple):
    """Settings of the exposures.

    Attributes:
        motion: of the simulated camera.
        sensor: noise and compression of the inputs.
        clips: share of the exposures from real high-speed frames.
        gamma: share of the exposures averaged in gamma-2.2 linear light instead of stored values.
        enlarge: smallest and largest factor by which photographs are enlarged, 1 or more, because a camera's
            frames are softer than photographs that were scaled down.
        pairs: share of the batches of real pairs, to which no noise or compression is added.
        highlights: share of the photographs whose highlights are up to `BRIGHTEST` times as bright as white.
    """

    motion: Motion
    sensor: Sensor
    clips: float
    gamma: float
    enlarge: tuple[float, float] = (1.0, 1.0)
    pairs: float = 0.0
    highlights: float = 0.0


class _Purpose(IntEnum):
    """Purposes of random numbers, each with its own stream."""

    LEVEL = 0
    EXPOSURE = 1
    CROP = 2
    PAIR = 3
    KIND = 4


class LadderStream:
    """Training batches by number, on the device.

    Each place of the batch has a small pool of exposures. Every `reuse` batches the oldest exposure of each
    pool is replaced, and a batch takes, from each pool, a randomly flipped and turned crop of a random
    exposure. Exposures that are used more than once are a quarter larger than the patch. Batches of real
    pairs are spread evenly between these; they are crops of whole pictures and do not use the pool. The sharp
    pictures of pairs are also used as photographs. Exposures with stored levels are used unchanged, each once
    an epoch.

    Args:
        pack: training data, such as a pack or a data set.
        exposures: settings of the exposures.
        levels: input levels to draw from, odd, up to 13.
        patch: height and width of the training patches, in pixels.
        batch: patches in a batch over all processes.
        reuse: average number of uses of an exposure.
        pool: exposures in the pool of a place.
        seed: of everything random here, 0 or more.
        device: of the pictures, the simulation and the batches.
        rank: number of this process.
        world: number of processes that share a batch; must divide it.
        decoded: cache of decoded pictures; in memory by default.
        report: receives a line for each picture that cannot be read and is left out, and one if pictures
            are smaller than the patches.

    Raises:
        ValueError: if the batch is not divisible by the number of processes.
        UserError: if no picture can be used, or stored exposures have none of the levels.
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
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        if batch % world:
            raise ValueError(f"a batch of {batch} cannot be shared evenly by {world} processes")
        self.exposures, self.levels, self.patch = exposures, tuple(levels), patch
        self.reuse, self.pool, self.seed, self.whole = reuse, pool, seed, batch
        self.device = torch.device(device)
        share = batch // world
        self.places = range(rank * share, (rank + 1) * share)
        self.decoded, self.report = decoded or Decoded(), report
        frames = [frame for clip in pack.clips for frame in clip]
        blurred, sharp = zip(*pack.pairs, strict=True) if pack.pairs else ((), ())
        entries = [*pack.photos, *frames, *blurred, *sharp]
        folder = self.decoded.folder
        read = self.decoded if folder else decode
        self.pictures = Resident(entries, self.device, read, folder=folder, report=self._leave_out)
        self._report_small()
        numbers = iter(range(len(entries)))
        photos = [number for number in islice(numbers, len(pack.photos)) if self.pictures.readable(number)]
        runs = [run for clip in pack.clips for run in self._runs(list(islice(numbers, len(clip))))]
        pairs = self._whole_pairs(*(list(islice(numbers, len(side))) for side in (blurred, sharp)))
        self.blurred = self._numbers([number for number, _ in pairs])
        self.sharp = self._numbers([number for _, number in pairs])
        self.photos = self._numbers([*photos, *(number for _, number in pairs)] if photos else ())
        self.clip_first = self._numbers([run[0] for run in runs])
        self.clip_starts = self._numbers([len(run) - FRAMES + 1 for run in runs])
        if entries and not (photos or runs or pairs):
            raise UserError(f"none of the {len(entries)} pictures to train on can be read; see above")
        self.stored = pack.ladders
        self.order = Order(self.stored, levels, batch, seed) if self.stored else None
        only_pairs = not (photos or runs or self.stored)
        self._share = (1.0 if only_pairs else exposures.pairs) if pairs else 0.0
        self.size = patch if reuse == 1 else patch + patch // 4
        self._made = range(1, max(levels) + 1, 2)  # levels of every exposure
        slots = pool if photos or runs else 0
        self._unreadable: set[int] = set()  # numbers of stored exposures
        self._held = [-1] * slots  # number of the exposures in each slot of the pool
        shape = (slots, len(self.places), len(self._made), 3, self.size, self.size)
        self._pool = torch.empty(shape, dtype=torch.uint8, device=self.device)

    def batch(self, number: int) -> LadderBatch:
        """The batch with that number, from 0.

        Raises:
            UserError: if a picture of a stored exposure cannot be used.
        """
        batch = self._batch(number)
        return batch._replace(blurred=batch.blurred.contiguous(memory_format=torch.channels_last))

    def _batch(self, number: int) -> LadderBatch:
        level = self.levels[self._rng(_Purpose.LEVEL, number).integers(len(self.levels))]
        before, after = (math.floor(count * self._share) for count in (number, number + 1))
        if after > before:
            blurred, sharp = self._pairs(number)
            return LadderBatch(number, level, blurred, {1: sharp})
        if self.order is not None:
            return self._stored(number, number - before)
        return self._ladders(number, number - before, level)

    def _ladders(self, number: int, count: int, level: int) -> LadderBatch:
        """Batch `number` of the run, which is number `count` of those without pairs."""
        newest = count // self.reuse + self.pool
        for exposure in range(newest - self.pool + 1, newest + 1):
            if self._held[exposure % self.pool] != exposure:
                self._fill(exposure)
        draws = self._draws(_Purpose.CROP, number)
        levels = range(1, level + 1, 2)
        places = torch.arange(len(self.places), device=self.device)
        chosen = draws.below(self.pool) * len(self.places) + places
        exposures = self._pool[:, :, : len(levels)].flatten(0, 1)[chosen]  # (B, levels, 3, size, size)
        room = self.size - self.patch + 1
        corners = Corners(draws.below(room), draws.below(room))
        rows, columns = turned_places(corners, self.patch, random_turn(draws), self.device)
        place = (rows * self.size + columns).flatten(1)[:, None]  # (B, 1, P * P)
        flat = exposures.flatten(1, 2).flatten(2)  # (B, 3 levels, size * size)
        crops = flat.gather(2, place.expand(-1, flat.shape[1], -1))
        crops = crops.view(len(chosen), len(levels), 3, self.patch, self.patch)
        images = crops.transpose(0, 1).float().div_(255)  # (levels, B, 3, P, P)
        blurred = record(images[-1], self.exposures.sensor, draws)
        return LadderBatch(number, level, blurred, dict(zip(levels, images, strict=True)))

    def _stored(self, number: int, count: int) -> LadderBatch:
        """Batch `number` of the run from stored exposures, which is number `count` in their order."""
        assert self.order is not None
        level, chosen = self.order.batch(count)
        crops: list[Tensor] = []  # each (levels, 3, P, P), of the input last
        goals: list[int] = []
        for place in self.places:
            goals, pictures = self._levels(int(chosen[place]), level)
            rng = self._rng(_Purpose.CROP, number, place)
            corner = random_corner(rng, pictures[0], self.patch)
            crop = to_tensor(*(cut(picture, corner, self.patch) for picture in pictures))
            crops.append(turn(crop.to(self.device), rng))
        images = torch.stack(crops, dim=1).float().div_(255)  # (levels, B, 3, P, P)
        return LadderBatch(number, level, images[-1], dict(zip(goals, images, strict=False)))

    def _levels(self, chosen: int, level: int) -> tuple[list[int], list[Pixels]]:
        """Goals and decoded levels of a stored exposure, the input last.

        An exposure that cannot be read is replaced by the next one with the same levels.
        """
        folders, count = self.stored[chosen].folders, len(self.stored)
        for index in ((chosen + further) % count for further in range(count)):
            ladder = self.stored[index]
            if index in self._unreadable or ladder.folders != folders:
                continue
            goals = ladder.goals(level)
            try:
                pictures = [self.decoded(ladder.path(n)) for n in (*goals, level)]
            except UserError as error:
                self._unreadable.add(index)
                self._leave_out(str(error))
                continue
            if len({picture.shape for picture in pictures}) > 1:
                raise UserError(f"the levels of {ladder.path(level)} differ in size")
            return goals, pictures
        raise UserError(f"no exposure with the levels of {self.stored[chosen].path(level)} can be read")

    def _pairs(self, number: int) -> tuple[Tensor, Tensor]:
        """Crops (B, 3, P, P) in [0, 1] of pairs, blurred and sharp: the more detailed of two random crops."""
        draws = self._draws(_Purpose.PAIR, number)
        index = draws.below(len(self.sharp))
        corners = self._more_detailed(draws, self.sharp[index], self.patch)
        turn = random_turn(draws)
        blurred, sharp = (
            self.pictures.crops(side[index], corners, self.patch, turn).float().div_(255)
            for side in (self.blurred, self.sharp)
        )
        return blurred, sharp

    def _fill(self, number: int) -> None:
        """Make the exposures with a number, one for each place of the batch, in their slot of the pool."""
        draws, rng = self._draws(_Purpose.EXPOSURE, number), self._rng(_Purpose.KIND, number)
        crf = GAMMA if rng.random() < self.exposures.gamma else IDENTITY
        if len(self.clip_first) and (not len(self.photos) or rng.random() < self.exposures.clips):
            frames = self._frames(draws).float().div_(255)
            ladder = temporal_ladder(frames, self._made, crf)
        else:
            motion, (low, high) = self.exposures.motion, self.exposures.enlarge
            enlarge = low + (high - low) * draws.uniform()
            photographs = self._photographs(draws, enlarge)
            objects = self._photographs(draws, enlarge) if motion.layers else None
            brightest = self._brightest(draws)
            ladder = simulate_ladder(
                photographs, self.size, self._made, motion, crf, draws, objects, enlarge, brightest
            )
        for index, image in enumerate(ladder.values()):
            self._pool[number % self.pool, :, index] = image.mul(255).round_()
        self._held[number % self.pool] = number

    def _brightest(self, draws: BatchDraws) -> Tensor | None:
        """(B,), the light of highlights: 1 for most photographs, up to `BRIGHTEST` for the others."""
        share = self.exposures.highlights
        if not share:
            return None
        chance = (1 - draws.uniform() / share).clamp(min=0)
        return 1 + (BRIGHTEST - 1) * chance.square()

    def _photographs(self, draws: BatchDraws, enlarge: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1]: crops of photographs, the more detailed of two random ones."""
        index = self.photos[draws.below(len(self.photos))]
        side = self.size + 2 * margin(self.exposures.motion)
        corners = self._more_detailed(draws, index, side, enlarge)
        return self.pictures.crops(index, corners, side).float().div_(255)

    def _more_detailed(
        self, draws: BatchDraws, index: Tensor, side: int, enlarge: Tensor | None = None
    ) -> Corners:
        """Corners of the more detailed of two random crops, by the part of each that is enlarged."""
        window = torch.full_like(index, side) if enlarge is None else (side / enlarge).round().long()
        middle = torch.arange(side, device=self.device) - (side - 1) / 2
        inner = middle.abs() <= window[:, None] / 2  # (B, side)
        inside = inner[:, None, :] & inner[:, :, None]
        border = (side - window) // 2  # of the crop around the window
        candidates: list[tuple[Corners, Tensor]] = []
        for _ in range(2):
            corners = self.pictures.corners(draws, index, window)
            corners = Corners(*(corner - border for corner in corners))
            candidates.append((corners, detail(self.pictures.crops(index, corners, side), inside)))
        (first, detail1), (second, detail2) = candidates
        return Corners(*(torch.where(detail1 >= detail2, *pair) for pair in zip(first, second, strict=True)))

    def _frames(self, draws: BatchDraws) -> Tensor:
        """The same crop of 13 consecutive frames, (13, B, 3, size, size) uint8."""
        clip = draws.below(len(self.clip_first))
        index = self.clip_first[clip] + draws.below(self.clip_starts[clip])
        corners = self.pictures.corners(draws, index, self.size)
        frames = (index + torch.arange(FRAMES, device=self.device)[:, None]).flatten()
        repeated = Corners(*(corner.repeat(FRAMES) for corner in corners))
        crops = self.pictures.crops(frames, repeated, self.size)
        return crops.view(FRAMES, len(clip), *crops.shape[1:])

    def _runs(self, clip: list[int]) -> Iterator[list[int]]:
        """The runs of readable frames of a clip that are long enough for an exposure."""
        if len({self.pictures.shapes[number] for number in clip if self.pictures.readable(number)}) > 1:
            name = self.pictures.entries[clip[0]]
            raise UserError(f"the frames of the clip around {name} differ in size")
        for readable, run in groupby(clip, self.pictures.readable):
            numbers = list(run)
            if readable and len(numbers) >= FRAMES:
                yield numbers

    def _whole_pairs(self, blurred: list[int], sharp: list[int]) -> list[tuple[int, int]]:
        """Numbers of the pictures of the pairs that can be read."""
        whole = [pair for pair in zip(blurred, sharp, strict=True) if all(map(self.pictures.readable, pair))]
        for pair in whole:
            if self.pictures.shapes[pair[0]] != self.pictures.shapes[pair[1]]:
                raise UserError(f"{self.pictures.entries[pair[0]]} and its sharp picture differ in size")
        return whole

    def _numbers(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.device)

    def _report_small(self) -> None:
        """Report how many pictures are smaller than the patches."""
        sides = [min(shape) for shape in self.pictures.shapes if 0 not in shape]
        if small := sum(side < self.patch for side in sides):
            self.report(
                f"{small} of {len(sides)} training pictures are smaller than the patches of {self.patch} "
                "pixels and are continued by their mirror image; a smaller data.patch avoids that"
            )

    def _leave_out(self, why: str) -> None:
        self.report(f"{why}; it is left out")

    def _draws(self, purpose: _Purpose, number: int) -> BatchDraws:
        return BatchDraws((self.seed, purpose, number), self.whole, self.places, self.device)

    def _rng(self, purpose: _Purpose, *key: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, purpose, *key))
