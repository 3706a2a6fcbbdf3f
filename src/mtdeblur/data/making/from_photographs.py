"""From photographs to pairs or a temporal data set on disk: look at them, plan the exposures, make them."""

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
from mtdeblur.data.making.workers import Stages
from mtdeblur.errors import UserError
from mtdeblur.exposure.simulate import margin
from mtdeblur.files.atomic import write_atomically
from mtdeblur.files.journal import plain
from mtdeblur.media.pictures import Picture, encode_picture

ACCOUNT = "simulation.json"
"""Says how a folder of pairs was made; it is written last."""
_FORMAT = 1  # another number when the same settings give other files
_BLOCK = 4  # exposures of a photograph that one process makes in a row


def simulate(
    photographs: Sequence[Photograph],
    folder: Path,
    exposures: int,
    how: Simulation,
    inputs: Sequence[int] = (),
    *,
    workers: int | None = None,
    distributed: bool = False,
    progress: Stages | None = None,
) -> dict[str, str]:
    """Build pairs, `blur/NAME-0.png` and so on with `simulation.json`, or a temporal data set.

    A temporal data set holds TL1, TL3 ... TL13; `mtdeblur.data.disk.manifest` shows its layout. Each
    photograph is a clip; every tenth is held out for validation. Its pictures are the averages as they are,
    without a sensor's noise and compression.

    Args:
        photographs: what to expose; an exposure does not depend on the other photographs.
        folder: where to, empty or with the same build unfinished in it.
        exposures: how many to make of each photograph.
        how: settings; level, goal and sensor matter to pairs alone.
        inputs: makes a temporal data set: temporal levels of the pictures in its `blur/`, dealt out in turn
            within each split, odd, 3 to 13.
        workers: number of processes; by default one a processor.
        distributed: whether they are on a Ray cluster, whose nodes see all paths as this machine does.
        progress: hears how it goes on, and of each photograph that cannot be exposed.

    Returns:
        Name of each photograph that cannot be exposed to the reason; of all others the exposures are there.

    Raises:
        UserError: if a level is out of range, none of the photographs can be exposed, the disk has no room,
            the folder holds anything else, there is no cluster, or pyarrow is not installed.
    """
    progress = progress or Stages()
    if inputs:
        require_pyarrow()
    plan = _plan(photographs, exposures, how, inputs)
    job = _describe(photographs, exposures, how, inputs)
    faults = _finished(folder, job)
    if faults is None:
        with open_build(folder, job, workers, distributed, progress) as build:
            sizes, faults = _look(photographs, how, build, progress, distributed)
            fine = [item for item in plan if item.photograph.name in sizes]
            rows = _expose(fine, sizes, folder, how, build)
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
    photographs: Sequence[Photograph], exposures: int, how: Simulation, inputs: Sequence[int]
) -> list[SimulatedExposure]:
    """All exposures in order, whether or not their photographs can be read."""
    levels = [replace(how, level=level, goal=1).level for level in inputs]  # refuses one out of range
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
                plan.append(SimulatedExposure(photograph, number, "", how.level))
    return plan


def _describe(
    photographs: Sequence[Photograph], exposures: int, how: Simulation, inputs: Sequence[int]
) -> dict[str, Any]:
    """All that decides what a build gives, of JSON's types."""
    job = {
        "format": _FORMAT,
        "photographs": {photograph.name: photograph.source for photograph in photographs},
        "exposures": exposures,
        "seed": how.seed,
        "longest": how.longest,
        **describe_crf(how.crf),
        "motion": asdict(how.motion),
    }
    if inputs:
        job |= {"level": list(inputs)}
    else:
        job |= {"level": how.level, "goal": how.goal, "sensor": asdict(how.sensor)}
    return plain(job)


def _finished(folder: Path, job: dict[str, Any]) -> dict[str, str] | None:
    """The photographs that an earlier run, which has come to its end, could not expose; None without one.

    Raises:
        UserError: if it was another job's.
    """
    finished = finished_dataset(folder, job)
    if finished:
        return finished[1]["faults"]
    try:
        made = dict(json.loads((folder / ACCOUNT).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {folder / ACCOUNT}; choose another folder") from error
    faults = made.pop("faults", {})
    close_finished(folder, made, job)
    return faults


class _Look(NamedTuple):
    """What one look at a photograph tells."""

    name: str
    picture_bytes: int
    """Size of a sharp picture of it as a PNG file."""
    fault: str = ""
    """Why it cannot be exposed."""


def _look_at(photograph: Photograph, how: Simulation) -> _Look:
    try:
        image = prepare(photograph.read(), photograph.name, how.longest, how.motion)
    except UserError as error:
        return _Look(photograph.name, 0, str(error))
    edge = margin(how.motion)
    sharp = to_pixels(image[..., edge:-edge, edge:-edge])
    return _Look(photograph.name, len(encode_picture(Picture(sharp), "png")))


def _look(
    photographs: Sequence[Photograph], how: Simulation, build: Build, progress: Stages, distributed: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """Look at all photographs that earlier runs have not found in order.

    Returns:
        Name to size of a sharp picture, and name to the reason why there is none, in the photographs' order.
    """
    looks = {
        record["photograph"]: _Look(record["photograph"], record["picture_bytes"])
        for record in build.records
        if "photograph" in record
    }
    missing = {photograph.name: photograph for photograph in photographs if photograph.name not in looks}
    for look in build.carry_out(
        "photographs", partial(_look_at, how=how), [[it] for it in missing.values()], len(looks)
    ):
        looks[look.name] = look
        if look.fault:
            if distributed and not _look_at(missing[look.name], how).fault:
                raise UserError(
                    f"a node does not see {missing[look.name].source}, which all nodes must share"
                )
            progress.noticed(look.fault)
        else:
            build.note({"photograph": look.name, "picture_bytes": look.picture_bytes})
    found = [looks[photograph.name] for photograph in photographs]
    sizes = {look.name: look.picture_bytes for look in found if not look.fault}
    if not sizes:
        raise UserError("none of the photographs can be exposed")
    return sizes, {look.name: look.fault for look in found if look.fault}


def _expose(
    plan: Sequence[SimulatedExposure], sizes: Mapping[str, int], folder: Path, how: Simulation, build: Build
) -> list[Row]:
    """Make all exposures that earlier runs have not made."""
    done = build.done(plan)
    missing = [item for item in plan if item.key not in done]
    pictures = sum(sizes[item.photograph.name] * (len(LEVELS) if item.split else 2) for item in missing)
    build.check_space(int(pictures * MARGIN), "make fewer --exposures, or smaller ones by --longest")
    forget_photographs()  # they may be others than in an earlier build
    make = partial(make_exposure, folder=folder.absolute(), how=how)
    return build.expose(make, plan, done, block=_BLOCK)
