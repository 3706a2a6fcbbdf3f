"""Pairs by the simulated high-speed camera: a data set that anybody can make again from a seed."""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import mtdeblur
from mtdeblur.errors import UserError
from mtdeblur.evaluation.metrics import SMALLEST_SIDE
from mtdeblur.exposure.crf import CRF, GAMMA
from mtdeblur.exposure.simulate import FRAMES, Motion, Sensor, margin, record, simulate_ladder
from mtdeblur.media.files import check_writable, write_atomically
from mtdeblur.media.pictures import Picture, list_pictures, read_pixels, write_picture

Pixels = NDArray[Any]

PUBLIC_DOMAIN: Mapping[str, str] = {
    "astronaut": "NASA; public domain",
    "chelsea": "Stefan van der Walt; CC0",
    "coffee": "Rachel Michetti; CC0",
    "rocket": "SpaceX; public domain",
}
"""Photographs that come with scikit-image, no download needed, and their licences as it states them."""


class Photograph(NamedTuple):
    """A sharp photograph: what the pairs made from it are called, and how to get its pixels."""

    name: str
    read: Callable[[], Pixels]
    """Gives (H, W, 3), uint8 or uint16."""


@dataclass(frozen=True)
class Simulation:
    """How pairs are made.

    Attributes:
        level: temporal level of the blurred pictures, odd, 3 to 13.
        seed: of everything random; the same seed gives the same pairs.
        longest: photographs with a longer side, in pixels, are made smaller first.
        crf: camera response function.
        motion: how camera and scene move.
        sensor: noise and compression of the blurred pictures.
        goal: temporal level of the sharp pictures; above 1 they are what one iteration aims at.

    Raises:
        UserError: if the level is none of these, or the goal not an odd one below it.
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


def public_domain_photographs() -> list[Photograph]:
    """The photographs of `PUBLIC_DOMAIN`."""
    from skimage import data

    return [Photograph(name, getattr(data, name)) for name in PUBLIC_DOMAIN]


def find_photographs(paths: Sequence[Path]) -> list[Photograph]:
    """Photographs from files, and from folders and what lies in them.

    Raises:
        UserError: if a folder holds no pictures, or two photographs share a stem, which names their pairs.
    """
    files = [file for path in paths for file in (list_pictures(path) if path.is_dir() else [path])]
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise UserError(f"{found[file.stem]} and {file} share a stem, so their pairs would share a name")
        found[file.stem] = file
    return [Photograph(stem, lambda file=file: read_pixels(file)) for stem, file in found.items()]


def write_pairs(
    photographs: Sequence[Photograph], folder: Path, exposures: int, how: Simulation
) -> Iterator[UserError | None]:
    """Write pairs, `blur/NAME-0.png` and so on, and how they were made as `simulation.json`.

    Args:
        photographs: what to expose; a pair does not depend on the other photographs.
        folder: where to; holds no `blur` or `sharp` yet.
        exposures: how many pairs to make of each photograph.
        how: settings.

    Yields:
        For each photograph None, or why there are no pairs of it.

    Raises:
        UserError: if the folder holds pairs already or cannot be written.
    """
    sides = folder / "blur", folder / "sharp"
    for side in sides:
        if side.exists():
            raise UserError(f"{side} is there already: give a folder without pairs")
        check_writable(side)
    for photograph in photographs:
        try:
            pixels = photograph.read()
            for exposure in range(exposures):
                name = f"{photograph.name}-{exposure}"
                for side, picture in zip(sides, simulate_pair(pixels, name, how), strict=True):
                    write_picture(side / f"{name}.png", Picture(picture))
        except UserError as error:
            yield error
        else:
            yield None
    content = json.dumps(account(photographs, exposures, how), indent=1) + "\n"
    write_atomically(folder / "simulation.json", content.encode())


def simulate_pair(photograph: Pixels, name: str, how: Simulation) -> tuple[Pixels, Pixels]:
    """One blurred picture and its goal, mostly the sharp mid-frame.

    Args:
        photograph: (H, W, 3), uint8 or uint16.
        name: of the pair; with the seed it decides everything random.
        how: settings.

    Returns:
        Blurred picture and goal, (H', W', 3) uint8 each: the photograph without the margin that only the
        moving camera sees.

    Raises:
        UserError: if too little would be left of the photograph.
    """
    seed = _seed(name, how)
    ladder = _simulate(photograph, name, (how.goal, how.level), how)
    return _to_pixels(record(ladder[how.level], how.sensor, [seed])), _to_pixels(ladder[how.goal])


def simulate_levels(
    photograph: Pixels, name: str, levels: Sequence[int], how: Simulation
) -> dict[int, Pixels]:
    """Temporal levels of one exposure, as they are averaged: without noise and compression.

    Args:
        photograph: (H, W, 3), uint8 or uint16.
        name: of the exposure; with the seed it decides everything random.
        levels: odd, 1 to 13.
        how: settings; level, goal and sensor do not matter.

    Returns:
        Level to picture (H', W', 3), uint8.

    Raises:
        UserError: if too little would be left of the photograph.
    """
    ladder = _simulate(photograph, name, levels, how)
    return {level: _to_pixels(image) for level, image in ladder.items()}


def _seed(name: str, how: Simulation) -> int:
    return int(np.random.SeedSequence((how.seed, zlib.crc32(name.encode()))).generate_state(1)[0])


def _simulate(photograph: Pixels, name: str, levels: Sequence[int], how: Simulation) -> dict[int, Tensor]:
    """Level to image (1, 3, H', W') in [0, 1]."""
    unit = photograph.astype(np.float32) / np.iinfo(photograph.dtype).max
    stored = _at_most(torch.as_tensor(unit).movedim(-1, 0)[None], how.longest)
    height, width = stored.shape[-2:]
    edge = margin(how.motion)
    if min(height, width) - 2 * edge < SMALLEST_SIDE:
        raise UserError(
            f"{name}: a picture of {width}x{height} is too small for motion over {how.motion.length:g} pixels"
        )
    # The simulated camera takes squares: the shorter side is mirrored, and cut off again.
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    widths = [(0, 0), (0, 0), (above, side - height - above), (left, side - width - left)]
    square = torch.as_tensor(np.pad(stored.numpy(), widths, mode="symmetric"))
    ladder = simulate_ladder(square, side - 2 * edge, levels, how.motion, how.crf, [_seed(name, how)])
    rows, columns = slice(above, above + height - 2 * edge), slice(left, left + width - 2 * edge)
    return {level: image[..., rows, columns] for level, image in ladder.items()}


def _at_most(image: Tensor, longest: int) -> Tensor:
    height, width = image.shape[-2:]
    factor = longest / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return functional.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)


def _to_pixels(image: Tensor) -> Pixels:
    """(1, 3, H, W) in [0, 1] to (H, W, 3) uint8."""
    return image[0].mul(255).round().byte().movedim(0, -1).contiguous().numpy()


def account(photographs: Sequence[Photograph], exposures: int, how: Simulation) -> dict[str, Any]:
    """How pictures were made, of JSON's types."""
    names = [photograph.name for photograph in photographs]
    return {
        "version": mtdeblur.__version__,
        "photographs": {name: PUBLIC_DOMAIN.get(name, "your own") for name in names},
        "exposures": exposures,
        "level": how.level,
        "goal": how.goal,
        "seed": how.seed,
        "longest": how.longest,
        "crf": how.crf.name,
        "motion": asdict(how.motion),
        "sensor": asdict(how.sensor),
    }
