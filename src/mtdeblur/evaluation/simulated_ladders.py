"""Temporal data sets by the simulated high-speed camera, as `mtdeblur augment` makes them of real frames."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mtdeblur.data.manifest import MANIFEST, Row, require_pyarrow, write_level, write_manifest
from mtdeblur.data.pack import HOLD_OUT
from mtdeblur.errors import UserError
from mtdeblur.evaluation.simulated import Photograph, Simulation, account, simulate_levels
from mtdeblur.exposure.simulate import FRAMES
from mtdeblur.media.files import check_writable


def write_temporal_dataset(
    photographs: Sequence[Photograph],
    folder: Path,
    exposures: int,
    how: Simulation,
    inputs: Sequence[int] = (7, 9, 11, 13),
) -> Iterator[UserError | None]:
    """Write TL1, TL3 ... TL13 of simulated exposures; `mtdeblur.data.manifest` shows the layout.

    Each photograph is a clip; every tenth is held out for validation. The pictures are the averages as they
    are, without a sensor's noise and compression.

    Args:
        photographs: what to expose; an exposure does not depend on the other photographs.
        folder: where to; without a manifest yet.
        exposures: how many to make of each photograph.
        how: settings; level, goal and sensor do not matter.
        inputs: temporal levels of the pictures in `blur/`, dealt out in turn; odd, 3 to 13.

    Yields:
        For each photograph None, or why there are no exposures of it.

    Raises:
        UserError: if the folder holds a data set or cannot be written, a level is out of range, or
            pyarrow is not installed.
    """
    require_pyarrow()
    if (folder / MANIFEST).exists():
        raise UserError(f"{folder} holds a data set: give another folder")
    for level in inputs:
        replace(how, level=level)  # refuses a level out of range
    check_writable(folder / MANIFEST)
    rows: list[Row] = []
    turn = cycle(inputs)
    for index, photograph in enumerate(photographs):
        split = "valid" if index % HOLD_OUT == HOLD_OUT - 1 else "train"
        try:
            pixels = photograph.read()
            for exposure in range(exposures):
                rows += _write_exposure(folder, split, photograph.name, pixels, exposure, next(turn), how)
        except UserError as error:
            yield error
        else:
            yield None
    facts = account(photographs, exposures, how) | {"level": list(inputs), "sensor": None}
    write_manifest(folder, rows, facts)


def _write_exposure(
    folder: Path, split: str, clip: str, pixels: NDArray[Any], number: int, own: int, how: Simulation
) -> Iterator[Row]:
    """Write every level of an exposure; `own` is that of its blurred picture."""
    levels = range(1, FRAMES + 1, 2)
    middle = FRAMES // 2
    for level, picture in simulate_levels(pixels, f"{clip}-{number}", levels, how).items():
        yield write_level(
            folder,
            picture,
            split=split,
            clip=clip,
            name=f"{number:06d}",
            level=level,
            input_level=own,
            source=clip,
            first_frame=middle - level // 2,
            last_frame=middle + level // 2,
            crf=how.crf.name,
        )
