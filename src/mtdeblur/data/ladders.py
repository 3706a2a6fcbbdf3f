"""Batches of ladders: crops of the temporal levels of many exposures, simulated or from real frames.

What the batch with a given number holds is a pure function of the seed and that number, whatever the device and
however many processes share the work: so a run resumes at any batch, and processes see disjoint data.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtdeblur.data.pack import Entry, Pack, Pixels, decode
from mtdeblur.exposure.crf import GAMMA, IDENTITY
from mtdeblur.exposure.levels import temporal_ladder
from mtdeblur.exposure.simulate import FRAMES, Motion, Sensor, margin, record, simulate_ladder


class LadderBatch(NamedTuple):
    """A batch of exposures that share one input level.

    Attributes:
        number: which batch of the run it is, from 0.
        level: temporal level of the input.
        blurred: (B, 3, P, P) in [0, 1], float: TL `level` as the camera stored it.
        ladder: level to image (B, 3, P, P) in [0, 1], float, from TL1 to TL `level`.
    """

    number: int
    level: int
    blurred: Tensor
    ladder: dict[int, Tensor]


class Exposures(NamedTuple):
    """How exposures are made.

    Attributes:
        motion: of the simulated camera.
        sensor: what happens to the inputs after the camera response function.
        clips: share of the exposures that come from real high-speed frames.
        gamma: share of the exposures that are averaged in gamma-2.2 linear light rather than as stored.
    """

    motion: Motion
    sensor: Sensor
    clips: float
    gamma: float


class LadderStream:
    """The training data: for each batch number a batch, on the device.

    Each of the batch's places has a small pool of exposures larger than the patch, simulated afresh every
    `reuse` x `pool` batches; every exposure is cropped, flipped and turned `reuse` times before it goes.

    Args:
        pack: where the photographs and frames are; they are kept decoded in memory.
        exposures: how exposures are made.
        levels: input levels to draw from, odd, up to 13.
        patch: height and width of the training patches, in pixels.
        batch: patches in a batch over all processes.
        reuse: how often an exposure is used.
        pool: exposures that a place of the batch holds at a time.
        seed: of everything random here.
        device: where exposures are simulated and batches live.
        rank: which process this is.
        world: how many processes share a batch; must divide it.

    Raises:
        ValueError: if the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        pack: Pack,
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
    ) -> None:
        if batch % world:
            raise ValueError(f"a batch of {batch} cannot be shared evenly by {world} processes")
        self.exposures, self.levels, self.patch = exposures, tuple(levels), patch
        self.reuse, self.pool, self.seed = reuse, pool, seed
        self.device = torch.device(device)
        share = batch // world
        self.places = range(rank * share, (rank + 1) * share)
        self.photos = _Cache(pack.photos)
        self.clips = [_Cache(clip) for clip in pack.clips if len(clip) >= FRAMES]
        self.size = patch if reuse == 1 else patch + patch // 2
        self._round = -1
        self._ladders: dict[int, Tensor] = {}  # level to (pool, places, 3, size, size) uint8

    def batch(self, number: int) -> LadderBatch:
        """The batch with that number, from 0."""
        step, round_ = number % (self.pool * self.reuse), number // (self.pool * self.reuse)
        if round_ != self._round:
            self._fill(round_)
        level = self.levels[int(self._rng(number, -1).integers(len(self.levels)))]
        images: list[Tensor] = []  # each (levels, 3, P, P)
        wanted = [n for n in self._ladders if n <= level]
        for index, place in enumerate(self.places):
            rng = self._rng(number, place)
            order = np.random.default_rng((self.seed, round_, place, step // self.pool)).permutation(self.pool)
            top, left = rng.integers(self.size - self.patch + 1, size=2)
            crop = torch.stack([
                self._ladders[n][order[step % self.pool], index, :, top : top + self.patch, left : left + self.patch]
                for n in wanted
            ])
            crop = crop.flip(-1) if rng.integers(2) else crop
            images.append(torch.rot90(crop, int(rng.integers(4)), (-2, -1)))
        stacked = torch.stack(images).float().div(255)
        ladder = {n: stacked[:, i].contiguous() for i, n in enumerate(wanted)}
        seeds = [int(self._rng(number, place).integers(2**62)) for place in self.places]
        return LadderBatch(number, level, record(ladder[level], self.exposures.sensor, seeds), ladder)

    def _rng(self, number: int, place: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, number, place + 1, 7))

    def _fill(self, round_: int) -> None:
        """Make the exposures of a round: `pool` for every place of the batch."""
        levels = range(1, max(self.levels) + 1, 2)
        made = [self._expose(round_ * self.pool + slot, levels) for slot in range(self.pool)]
        self._ladders = {n: torch.stack([ladder[n] for ladder in made]) for n in levels}
        self._round = round_

    def _expose(self, turn: int, levels: Sequence[int]) -> dict[int, Tensor]:
        """One exposure for every place: level to (places, 3, size, size), uint8."""
        rng = np.random.default_rng((self.seed, turn, 11))
        crf = GAMMA if rng.random() < self.exposures.gamma else IDENTITY
        if self.clips and (not self.photos or rng.random() < self.exposures.clips):
            frames = torch.stack([self._real_frames(turn, place) for place in self.places], dim=1)
            ladder = temporal_ladder(frames.to(self.device).float().div(255), levels, crf)
        else:
            sharp = torch.stack([self._photograph(turn, place) for place in self.places])
            seeds = [int(self._rng(turn, place).integers(2**62)) for place in self.places]
            ladder = simulate_ladder(
                sharp.to(self.device).float().div(255), self.size, levels, self.exposures.motion, crf, seeds
            )
        return {n: image.mul(255).round().byte() for n, image in ladder.items()}

    def _photograph(self, turn: int, place: int) -> Tensor:
        """A crop (3, h, w) of a photograph, uint8: of two places drawn, the one with more detail."""
        rng = np.random.default_rng((self.seed, turn, place, 13))
        picture = self.photos[int(rng.integers(len(self.photos)))]
        side = self.size + 2 * margin(self.exposures.motion)
        if min(picture.shape[:2]) < side:
            missing = [max(0, side - length) for length in picture.shape[:2]]
            widths = [(gap // 2, gap - gap // 2) for gap in missing]
            picture = np.pad(picture, [*widths, (0, 0)], mode="symmetric")
        tops, lefts = (rng.integers(length - side + 1, size=2) for length in picture.shape[:2])
        crops = [picture[top : top + side, left : left + side] for top, left in zip(tops, lefts, strict=True)]
        return _to_tensor(max(crops, key=_detail))

    def _real_frames(self, turn: int, place: int) -> Tensor:
        """The same crop (13, 3, size, size) of 13 consecutive frames, uint8."""
        rng = np.random.default_rng((self.seed, turn, place, 17))
        clip = self.clips[int(rng.integers(len(self.clips)))]
        start = int(rng.integers(len(clip) - FRAMES + 1))
        height, width = clip[start].shape[:2]
        top, left = (int(rng.integers(length - self.size + 1)) for length in (height, width))
        return torch.stack([
            _to_tensor(clip[index][top : top + self.size, left : left + self.size])
            for index in range(start, start + FRAMES)
        ])


class _Cache(Sequence[Pixels]):
    """Pictures of a pack, each decoded once and kept."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.kept: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Pixels:
        if index not in self.kept:
            self.kept[index] = decode(self.entries[index])
        return self.kept[index]


def _detail(crop: Pixels) -> float:
    """Mean difference of neighbouring pixels."""
    grey = crop[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class ValidationSet(NamedTuple):
    """Blurred and sharp pictures that a network is measured on while it trains.

    Attributes:
        name: what reports call it.
        pairs: (blurred, sharp), each (1, 3, H, W) in [0, 1], float.
    """

    name: str
    pairs: list[tuple[Tensor, Tensor]]


def validation_sets(pack: Pack, levels: Sequence[int], *, size: int = 256, limit: int = 12) -> Iterator[ValidationSet]:
    """The pack's held-out photographs as simulated exposures, and its held-out pairs.

    The exposures are the same whatever the training's settings: default motion, no noise, gamma 2.2, levels
    in turn, the middle of the photograph.

    Args:
        pack: where they are.
        levels: input levels of the simulated exposures.
        size: height and width of the simulated exposures, in pixels.
        limit: how many photographs at most.
    """
    simulated: list[tuple[Tensor, Tensor]] = []
    for index, entry in enumerate(pack.valid_photos[:limit]):
        sharp = _to_tensor(decode(entry))[None].float().div(255)
        side = min(size, *sharp.shape[-2:])
        level = levels[index % len(levels)]
        ladder = simulate_ladder(sharp, side, {1, level}, Motion(), GAMMA, [index])
        simulated.append((ladder[level], ladder[1]))
    if simulated:
        yield ValidationSet("simulated", simulated)
    real = [tuple(_to_tensor(decode(side))[None].float().div(255) for side in pair) for pair in pack.valid_pairs]
    if real:
        yield ValidationSet("pairs", [(blurred, sharp) for blurred, sharp in real])
