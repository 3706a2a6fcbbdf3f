"""Temporal data sets from high-speed footage: scan the clips, plan the exposures, make them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from mtdeblur.data.disk.frames import Clip, find_clips
from mtdeblur.data.disk.manifest import Row, require_pyarrow, write_manifest
from mtdeblur.data.disk.splits import split_clips
from mtdeblur.data.making.average import make_exposure
from mtdeblur.data.making.build import (
    MARGIN,
    Build,
    Key,
    describe_crf,
    finished_dataset,
    in_blocks,
    open_build,
)
from mtdeblur.data.making.faults import Fault, Scan, scan_clip
from mtdeblur.data.making.interpolation import (
    FrameMotion,
    Gap,
    Interpolation,
    Measured,
    interpolated_run,
    measure_gap,
)
from mtdeblur.data.making.plan import GOPRO, GOPRO_PAIRS, Exposure, Recipe, plan_exposures
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import CRF, IDENTITY
from mtdeblur.files.journal import plain
from mtdeblur.processes.pool import Stages

_FORMAT = 1  # increment when the same settings give other files
_BLOCK = 64  # consecutive exposures, or gaps, of a clip for one process
_SHOWN = 3  # faults of a clip in a notice; the manifest has all of them


def augment(
    sources: Sequence[str | Path],
    dataset: Path,
    recipe: Recipe | None = None,
    *,
    crf: CRF = IDENTITY,
    splits: Mapping[str, Sequence[str]] | None = None,
    limit: int | None = None,
    workers: int | None = None,
    distributed: bool = False,
    interpolation: Interpolation | None = None,
    progress: Stages | None = None,
) -> list[Row]:
    """Build a temporal data set; `mtdeblur.data.disk.manifest` shows its layout.

    Args:
        sources: folders of frames, roots of such folders, and videos; paths, or addresses that fsspec opens.
        dataset: folder to create; it must be empty or contain the same build, unfinished or finished.
        recipe: the exposures; by default TL7, 9, 11 and 13 in turn, without shared frames.
        crf: camera response function g of Eq. (1).
        splits: "train", "valid" and "test" to names or patterns of clips; see `split_clips`.
        limit: maximum size of the data set in bytes; exposures are left out evenly to meet it.
        workers: number of processes; by default one per processor.
        distributed: whether the processes run on a Ray cluster, whose nodes must share all paths.
        interpolation: optional frame interpolation; levels and stride then count all frames, and mid-frames
            are captured ones.
        progress: receives the progress.

    Returns:
        The manifest's rows.

    Raises:
        UserError: if a source cannot be read, the split is refused, the data set exceeds the disk or the
            limit, the folder contains anything else, there is no cluster, pyarrow is not installed, or the
            recipe takes its levels from GoPro's names and frames are to be interpolated.
    """
    require_pyarrow()
    recipe, progress = recipe or Recipe(), progress or Stages()
    if interpolation and not recipe.inputs:
        raise UserError("no frames are interpolated for the pairs of GoPro; give the temporal levels")
    clips = find_clips(sources)
    split = split_clips(clips, splits or {})
    job = _describe(split, recipe, crf, limit, interpolation)
    finished = finished_dataset(dataset, job)
    if finished:
        return finished[0]
    with open_build(dataset, job, workers, distributed, progress) as build:
        scans = _scan(clips, not recipe.keep_faulty, build)
        if interpolation:
            scans = _refuse_wide(scans, interpolation, build, progress)
        _show_faults(scans, progress)
        exposures = _plan(recipe, split, scans, limit, interpolation.times if interpolation else 1, progress)
        done = build.done(exposures)
        missing = _estimate([item for item in exposures if item.key not in done], scans)
        build.check_space(missing, "set --limit-size, or take a larger --stride")
        make = partial(make_exposure, dataset=dataset.absolute(), crf=crf, interpolation=interpolation)
        rows = build.expose(make, exposures, done, block=_BLOCK, limit=limit)
        write_manifest(dataset, rows, {"job": job, "faults": _faults(scans)})
    return sorted(rows, key=lambda row: row.path)


def _describe(
    split: Mapping[str, Sequence[Clip]],
    recipe: Recipe,
    crf: CRF,
    limit: int | None,
    interpolation: Interpolation | None,
) -> dict[str, Any]:
    """Everything that determines the data set, of JSON's types."""
    job = {
        "format": _FORMAT,
        "clips": {name: [[clip.name, clip.source] for clip in clips] for name, clips in split.items()},
        "recipe": asdict(recipe),
        **describe_crf(crf),
        "limit": limit,
        "interpolate": interpolation and interpolation.describe(),
    }
    return plain(job)


def _scan(clips: Sequence[Clip], faults: bool, build: Build) -> dict[str, Scan]:
    """Scan the clips that earlier runs have not scanned: clip's name to scan."""
    scans: dict[str, Scan] = {}
    named = {clip.name: clip for clip in clips}
    for record in build.records:
        if "clip" in record:
            recorded = tuple(Fault(**fault) for fault in record["faults"])
            clip = named[record["clip"]]
            scans[clip.name] = Scan(clip, record["frames"], recorded, record["picture_bytes"])
    missing = [[clip] for clip in clips if clip.name not in scans]
    for scan in build.carry_out("clips", partial(scan_clip, faults=faults), missing, len(scans)):
        scans[scan.clip.name] = scan
        build.note({**asdict(scan), "clip": scan.clip.name})
    return {clip.name: scans[clip.name] for clip in clips}


def _refuse_wide(
    scans: Mapping[str, Scan], interpolation: Interpolation, build: Build, progress: Stages
) -> dict[str, Scan]:
    """Measure the unmeasured gaps, and add those with too wide motion to the faults."""
    known: dict[Key, Measured] = {}
    for record in build.records:
        if "gap" in record:
            name, index = record["gap"]
            known[name, index] = Measured((name, index), record["number"], FrameMotion(*record["motion"]))
    gaps = [
        Gap(scan.clip, index)
        for scan in scans.values()
        for run in scan.runs()
        for index in range(run.start + 1, run.stop)
    ]
    work = partial(measure_gap, interpolator=interpolation.interpolator)
    for measured in build.carry_out("gaps", work, in_blocks(gaps, known, _BLOCK), len(known)):
        known[measured.key] = measured
        build.note({"gap": measured.key, "number": measured.number, "motion": measured.motion})
    faults = {name: list(scan.faults) for name, scan in scans.items()}
    refused = 0
    for gap in gaps:
        reason = interpolation.refusal(known[gap.key].motion)
        if reason:
            refused += 1
            faults[gap.clip.name].append(Fault(gap.index, known[gap.key].number, reason))
    if refused:
        progress.noticed(f"{refused} of {len(gaps)} gaps between frames are not interpolated")
    return {
        name: replace(scan, faults=tuple(sorted(faults[name], key=lambda fault: fault.index)))
        for name, scan in scans.items()
    }


def _show_faults(scans: Mapping[str, Scan], progress: Stages) -> None:
    """Give a notice of each clip with faults."""
    for name, scan in scans.items():
        if scan.faults:
            shown = "; ".join(f"frame {fault.number}: {fault.reason}" for fault in scan.faults[:_SHOWN])
            more = f"; and {len(scan.faults) - _SHOWN} more" if len(scan.faults) > _SHOWN else ""
            progress.noticed(f"{name}: no exposure spans {shown}{more}")


def _plan(
    recipe: Recipe,
    split: Mapping[str, Sequence[Clip]],
    scans: Mapping[str, Scan],
    limit: int | None,
    times: int,
    progress: Stages,
) -> list[Exposure]:
    """Plan the exposures of the clips; `times` multiplies their frame rate."""
    runs = {
        name: [(clip, [interpolated_run(run, times) for run in scans[clip.name].runs()]) for clip in clips]
        for name, clips in split.items()
    }
    exposures = plan_exposures(recipe, runs, grid=times)
    size = _estimate(exposures, scans)
    if limit is not None and size > limit:
        exposures = plan_exposures(recipe, runs, limit / size, times)
        progress.noticed(f"exposures are left out evenly: all would take about {size / 1e9:.1f} GB")
    expected = GOPRO_PAIRS if recipe == GOPRO else recipe.counts or {}
    for name, count in expected.items():
        found = sum(exposure.split == name for exposure in exposures)
        if found != count:
            progress.noticed(f"{found} exposures for {name}, not the {count} of the published data set")
    return exposures


def _estimate(exposures: Sequence[Exposure], scans: Mapping[str, Scan]) -> int:
    """Size of exposures in bytes; a blurred picture compresses at least as well as a sharp one."""
    pictures = sum(scans[item.clip.name].picture_bytes * len(item.levels) for item in exposures)
    return int(pictures * MARGIN)


def _faults(scans: Mapping[str, Scan]) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(fault) for fault in scan.faults] for name, scan in sorted(scans.items())}
