"""Pairs or temporal data sets from photographs: plan the exposures, check the photographs, make them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtdeblur.data.disk.manifest import Row, require_pyarrow, write_manifest
from mtdeblur.data.disk.photographs import Photograph
from mtdeblur.data.disk.splits import HOLD_OUT
from mtdeblur.data.making.build import (
    MARGIN,
    Build,
    close_finished,
    describe_crf,
    finished_dataset,
    open_build,
)
from mtdeblur.data.making.camera import (
    LEVELS,
    SimulatedExposure,
    Simulation,
    forget_photographs,
    make_exposure,
    prepare,
    to_pixels,
)
from mtdeblur.errors import UserError
from mtdeblur.exposure.simulate import margin
from mtdeblur.files.atomic import write_atomically
from mtdeblur.files.journal import plain
from mtdeblur.media.pictures import Picture, encode_picture
from mtdeblur.processes.pool import Stages

ACCOUNT = "simulation.json"
"""File with the settings of a folder of pairs; written last."""
_FORMAT = 1  # increment when the same settings give other files
_BLOCK = 4  # consecutive exposures of a photograph for one process


def simulate(
    photographs: Sequence[Photograph],
    folder: Path,
    exposures: int,
    settings: Simulation,
    inputs: Sequence[int] = (),
    *,
    workers: int | None = None,
    distributed: bool = False,
    progress: Stages | None = None,
) -> dict[str, str]:
    """Build pairs (`blur/NAME-0.png` ... and `simulation.json`) or a temporal data set.

    A temporal data set contains TL1, TL3 ... TL13; `mtdeblur.data.disk.manifest` shows its layout. Each
    photograph is a clip; every tenth is held out for validation. Its pictures have no sensor noise or
    compression.

    Args:
        photographs: to expose; an exposure does not depend on the other photographs.
        folder: to create; it must be empty or contain the same build, unfinished or finished.
        exposures: number of exposures of each photograph.
        settings: of the camera; level, goal and sensor apply to pairs only.
        inputs: for a temporal data set: temporal levels of the pictures in `blur/`, odd, 3 to 13, assigned in
            turn within each split. Empty for pairs.
        workers: number of processes; by default one per processor.
        distributed: whether the processes run on a Ray cluster, whose nodes must share all paths.
        progress: receives the progress, and a notice for each photograph that cannot be exposed.

    Returns:
        Name of each photograph that cannot be exposed, to the reason.

    Raises:
        UserError: if a level is out of range, none of the photographs can be exposed, the disk has too little
            space, the folder contains anything else, there is no cluster, or pyarrow is not installed.
    """
    progress = progress or Stages()
    if inputs:
        require_pyarrow()
    plan = _plan(photographs, exposures, settings, inputs)
    job = _describe(photographs, exposures, settings, inputs)
    faults = _finished(folder, job)
    if faults is None:
        with open_build(folder, job, workers, distributed, progress) as build:
            sizes, faults = _check_all(photographs, settings, build, progress, distributed)
            usable = [item for item in plan if item.photograph.name in sizes]
            rows = _expose(usable, sizes, folder, settings, build)
            if inputs:
                write_manifest(folder, rows, {"job": job, "faults": faults})
            else:
                content = json.dumps({**job, "faults": faults}, indent=1) + "\n"
                write_atomically(folder / ACCOUNT, content.encode())
    else:
        for fault in faults.values():
            progress.noticed(fault)
    return faults


def _plan(
    photographs: Sequence[Photograph], exposures: int, settings: Simulation, inputs: Sequence[int]
) -> list[SimulatedExposure]:
    """The exposures of all photographs, readable or not, in order."""
    levels = [replace(settings, level=level, goal=1).level for level in inputs]  # raises if out of range
    turns = {"train": 0, "valid": 0}
    plan: list[SimulatedExposure] = []
    for index, photograph in enumerate(photographs):
        split = "valid" if index % HOLD_OUT == HOLD_OUT - 1 else "train"
        for number in range(exposures):
            if levels:
                level = levels[turns[split] % len(levels)]
                plan.append(SimulatedExposure(photograph, number, split, level))
                turns[split] += 1
            else:
                plan.append(SimulatedExposure(photograph, number, "", settings.level))
    return plan


def _describe(
    photographs: Sequence[Photograph], exposures: int, settings: Simulation, inputs: Sequence[int]
) -> dict[str, Any]:
    """Everything that determines the pictures, of JSON's types."""
    job = {
        "format": _FORMAT,
        "photographs": {photograph.name: photograph.source for photograph in photographs},
        "exposures": exposures,
        "seed": settings.seed,
        "longest": settings.longest,
        **describe_crf(settings.crf),
        "motion": asdict(settings.motion),
    }
    if inputs:
        job |= {"level": list(inputs)}
    else:
        job |= {"level": settings.level, "goal": settings.goal, "sensor": asdict(settings.sensor)}
    return plain(job)


def _finished(folder: Path, job: dict[str, Any]) -> dict[str, str] | None:
    """Name and fault of each photograph that a finished build could not expose; None if not finished.

    Raises:
        UserError: if the build belongs to another job.
    """
    finished = finished_dataset(folder, job)
    if finished:
        return finished[1]["faults"]
    try:
        account = dict(json.loads((folder / ACCOUNT).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {folder / ACCOUNT}; choose another folder") from error
    faults = account.pop("faults", {})
    close_finished(folder, account, job)
    return faults


class _Check(NamedTuple):
    """The result of checking a photograph."""

    name: str
    picture_bytes: int
    """Size of its sharp picture as a PNG file."""
    fault: str = ""
    """Why it cannot be exposed."""


def _check(photograph: Photograph, settings: Simulation) -> _Check:
    try:
        image = prepare(photograph.read(), photograph.name, settings.longest, settings.motion)
    except UserError as error:
        return _Check(photograph.name, 0, str(error))
    edge = margin(settings.motion)
    sharp = to_pixels(image[..., edge:-edge, edge:-edge])
    return _Check(photograph.name, len(encode_picture(Picture(sharp), "png")))


def _check_all(
    photographs: Sequence[Photograph], settings: Simulation, build: Build, progress: Stages, distributed: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """Check the photographs that are not yet in the journal as usable.

    Returns:
        Name to size of a sharp picture, and name to fault, both in the photographs' order.
    """
    checks = {
        record["photograph"]: _Check(record["photograph"], record["picture_bytes"])
        for record in build.records
        if "photograph" in record
    }
    missing = {photograph.name: photograph for photograph in photographs if photograph.name not in checks}
    for check in build.carry_out(
        "photographs", partial(_check, settings=settings), [[it] for it in missing.values()], len(checks)
    ):
        checks[check.name] = check
        if check.fault:
            if distributed and not _check(missing[check.name], settings).fault:
                raise UserError(
                    f"a node cannot access {missing[check.name].source}, which all nodes must share"
                )
            progress.noticed(check.fault)
        else:
            build.note({"photograph": check.name, "picture_bytes": check.picture_bytes})
    ordered = [checks[photograph.name] for photograph in photographs]
    sizes = {check.name: check.picture_bytes for check in ordered if not check.fault}
    if not sizes:
        raise UserError("none of the photographs can be exposed")
    return sizes, {check.name: check.fault for check in ordered if check.fault}


def _expose(
    plan: Sequence[SimulatedExposure],
    sizes: Mapping[str, int],
    folder: Path,
    settings: Simulation,
    build: Build,
) -> list[Row]:
    """Make the exposures that earlier runs have not finished."""
    done = build.done(plan)
    missing = [item for item in plan if item.key not in done]
    pictures = sum(sizes[item.photograph.name] * (len(LEVELS) if item.split else 2) for item in missing)
    build.check_space(int(pictures * MARGIN), "use fewer --exposures, or a smaller --longest")
    forget_photographs()
    make = partial(make_exposure, folder=folder.absolute(), settings=settings)
    return build.expose(make, plan, done, block=_BLOCK)
