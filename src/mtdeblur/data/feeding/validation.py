"""Validation sets: simulated exposures of held-out photographs, and held-out pairs."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from mtdeblur.data.disk.decode import Entry, decode
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.data.feeding.crops import to_tensor
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import GAMMA
from mtdeblur.exposure.simulate import Motion, simulate_ladder


class ValidationSet(NamedTuple):
    """Blurred and sharp pictures for validation during training.

    Attributes:
        name: for reports.
        pairs: (blurred, sharp), each (1, 3, H, W) in [0, 1], float.
    """

    name: str
    pairs: list[tuple[Tensor, Tensor]]


LEVELS = (7, 9, 11, 13)
"""Input levels of the simulated exposures, in turn; the same for all runs, so that these are comparable."""


def validation_sets(pack: TrainingData, *, size: int = 256, limit: int = 12) -> Iterator[ValidationSet]:
    """Simulated exposures of the held-out photographs, and the held-out pairs.

    The exposures do not depend on the training's settings: default motion without still samples (whose high
    PSNR would dominate the mean), no noise, gamma 2.2, `LEVELS` in turn, the middle of the photograph.

    Args:
        pack: training data.
        size: height and width of the simulated exposures, in pixels; at most a photograph's shorter side.
        limit: maximum number of photographs, spread evenly.

    Yields:
        "simulated" and "pairs", without empty ones.

    Raises:
        UserError: if a picture cannot be read, or the pictures of a pair differ in size.
    """
    simulated: list[tuple[Tensor, Tensor]] = []
    motion = Motion(still=0)
    step = max(1, -(-len(pack.valid_photos) // max(1, limit)))
    for index, entry in enumerate(pack.valid_photos[::step][:limit]):
        photograph = _load(entry)
        level = LEVELS[index % len(LEVELS)]
        side = min(size, *photograph.shape[-2:])
        ladder = simulate_ladder(photograph, side, {1, level}, motion, GAMMA, [index])
        simulated.append((ladder[level], ladder[1]))
    if simulated:
        yield ValidationSet("simulated", simulated)
    pairs = [(_load(blurred), _load(sharp)) for blurred, sharp in pack.valid_pairs]
    for (entry, _), (blurred, sharp) in zip(pack.valid_pairs, pairs, strict=True):
        if blurred.shape != sharp.shape:
            raise UserError(f"{entry} and its sharp picture differ in size")
    if pairs:
        yield ValidationSet("pairs", pairs)


def _load(entry: Entry) -> Tensor:
    """(1, 3, H, W) in [0, 1], float."""
    return to_tensor(decode(entry)).float().div_(255)
