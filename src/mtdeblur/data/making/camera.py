"""Exposures of photographs by the simulated high-speed camera: pairs, or all levels, determined by a seed."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mtdeblur.data.disk.manifest import Row, write_level
from mtdeblur.data.disk.photographs import Photograph
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import CRF, GAMMA
from mtdeblur.exposure.sensor import Sensor, record
from mtdeblur.exposure.simulate import FRAMES, Motion, margin, simulate_ladder

Pixels = NDArray[Any]

LEVELS = range(1, FRAMES + 1, 2)
"""Temporal levels of a temporal data set."""

SMALLEST_SIDE = 11
"""Shortest side of a simulated picture, in pixels: the window of SSIM."""


@dataclass(frozen=True)
class Simulation:
    """Settings of the simulated camera.

    Attributes:
        level: temporal level of the blurred pictures, odd, 3 to 13.
        seed: of everything random; the same seed gives the same exposures.
        longest: photographs with a longer side, in pixels, are scaled down to it.
        crf: camera response function.
        motion: motion of camera and scene.
        sensor: noise and compression of the blurred pictures.
        goal: temporal level of the sharp pictures; above 1 they are the goal of a single iteration.

    Raises:
        UserError: if the level is out of range, or the goal is not an odd level below it.
    """

    level: int = 11
    seed: int = 0
    longest: int = 1280
    crf: CRF = GAMMA
    motion: Motion = field(default_factory=Motion)
    sensor: Sensor = field(default_factory=Sensor)
    goal: int = 1

    def __post_init__(self) -> None:
        if self.level not in range(3, FRAMES + 1, 2):
            raise UserError(f"the level of the blurred pictures is odd, from 3 to {FRAMES}, not {self.level}")
        if self.goal not in range(1, self.level, 2):
            raise UserError(f"the level of the sharp pictures is odd, below {self.level}, not {self.goal}")


@dataclass(frozen=True)
class SimulatedExposure:
    """One exposure to make.

    Attributes:
        photograph: the exposed photograph.
        number: from 0, within the photograph.
        split: train or valid; empty for pairs.
        level: temporal level of its blurred picture.
    """

    photograph: Photograph
    number: int
    split: str
    level: int

    @property
    def key(self) -> tuple[str, int]:
        """Unique key within the data set."""
        return self.photograph.name, self.number


def make_exposure(exposure: SimulatedExposure, folder: Path, settings: Simulation) -> list[Row]:
    """Write the pictures of one exposure; the bytes depend on the arguments alone.

    Returns:
        A manifest row for each picture (also for pairs, which have no manifest).

    Raises:
        UserError: if the photograph cannot be read or a picture cannot be written.
    """
    clip, split, input_level = exposure.photograph.name, exposure.split, exposure.level
    name = f"{clip}-{exposure.number}"
    image = _prepared(exposure.photograph, settings.longest, settings.motion)
    if split:
        pictures = simulate_levels(image, name, LEVELS, settings)
        paths = dict.fromkeys(pictures)
    else:
        blurred, sharp = simulate_pair(image, name, settings)
        pictures = {settings.goal: sharp, input_level: blurred}
        paths = {settings.goal: f"sharp/{name}.png", input_level: f"blur/{name}.png"}
    middle = FRAMES // 2
    return [
        write_level(
            folder,
            picture,
            paths[level],
            split=split,
            clip=clip,
            name=f"{exposure.number:06d}",
            level=level,
            input_level=input_level,
            source=exposure.photograph.source,
            first_frame=middle - level // 2,
            last_frame=middle + level // 2,
            crf=settings.crf.name,
        )
        for level, picture in pictures.items()
    ]


def prepare(photograph: Pixels, name: str, longest: int, motion: Motion) -> Tensor:
    """Convert a photograph to a tensor and scale it down if it is too large.

    Args:
        photograph: (H, W, 3), uint8 or uint16.
        name: of the photograph, for the error.
        longest: maximum length of a side, in pixels.
        motion: of the camera, which determines the margin.

    Returns:
        (1, 3, H', W'), stored values in [0, 1], with the margin.

    Raises:
        UserError: if the photograph without its margin is too small.
    """
    unit = photograph.astype(np.float32) / np.iinfo(photograph.dtype).max
    image = _at_most(torch.as_tensor(unit).movedim(-1, 0)[None], longest)
    height, width = image.shape[-2:]
    if min(height, width) - 2 * margin(motion) < SMALLEST_SIDE:
        raise UserError(
            f"{name}: a picture of {width}x{height} is too small for motion over {motion.length:g} pixels"
        )
    return image


def simulate_pair(image: Tensor, name: str, settings: Simulation) -> tuple[Pixels, Pixels]:
    """One blurred picture and its goal, by default the sharp mid-frame.

    Args:
        image: a photograph from `prepare`.
        name: of the pair; with the seed it determines everything random.
        settings: of the camera.

    Returns:
        Blurred picture and goal, (H, W, 3) uint8 each, without the margin.
    """
    seed = _seed(name, settings)
    ladder = _simulate(image, name, (settings.goal, settings.level), settings)
    return to_pixels(record(ladder[settings.level], settings.sensor, [seed])), to_pixels(
        ladder[settings.goal]
    )


def simulate_levels(
    image: Tensor, name: str, levels: Sequence[int], settings: Simulation
) -> dict[int, Pixels]:
    """Temporal levels of one exposure without noise and compression.

    Args:
        image: a photograph from `prepare`.
        name: of the exposure; with the seed it determines everything random.
        levels: odd, 1 to 13.
        settings: of the camera; level, goal and sensor are ignored.

    Returns:
        Level to picture (H, W, 3), uint8, without the margin.
    """
    return {level: to_pixels(shown) for level, shown in _simulate(image, name, levels, settings).items()}


def to_pixels(image: Tensor) -> Pixels:
    """(1, 3, H, W) in [0, 1] to (H, W, 3) uint8."""
    return image[0].mul(255).round().byte().movedim(0, -1).contiguous().numpy()


@lru_cache(maxsize=1)
def _prepared(photograph: Photograph, longest: int, motion: Motion) -> Tensor:
    """A prepared photograph, shared by its consecutive exposures in a process."""
    return prepare(photograph.read(), photograph.name, longest, motion)


def forget_photographs() -> None:
    """Clear the cache of prepared photographs, whose files may have changed."""
    _prepared.cache_clear()


def _seed(name: str, settings: Simulation) -> int:
    checksum = zlib.crc32(name.encode("utf-8", "surrogateescape"))
    return int(np.random.SeedSequence((settings.seed, checksum)).generate_state(1)[0])


def _simulate(image: Tensor, name: str, levels: Sequence[int], settings: Simulation) -> dict[int, Tensor]:
    """Level to image (1, 3, H', W') in [0, 1]."""
    height, width = image.shape[-2:]
    edge = margin(settings.motion)
    # The simulated camera takes squares: the shorter side is padded by its mirror image and cropped again.
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    widths = [(0, 0), (0, 0), (above, side - height - above), (left, side - width - left)]
    square = torch.as_tensor(np.pad(image.numpy(), widths, mode="symmetric"))
    ladder = simulate_ladder(
        square, side - 2 * edge, levels, settings.motion, settings.crf, [_seed(name, settings)]
    )
    rows, columns = slice(above, above + height - 2 * edge), slice(left, left + width - 2 * edge)
    return {level: shown[..., rows, columns] for level, shown in ladder.items()}


def _at_most(image: Tensor, longest: int) -> Tensor:
    height, width = image.shape[-2:]
    factor = longest / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return functional.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
