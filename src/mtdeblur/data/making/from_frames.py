"""Temporal data sets from high-speed footage: scan the clips, plan the exposures, make them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mtdeblur.data.disk.frames import Clip, find_clips
from mtdeblur.data.disk.manifest import Row, require_pyarrow, write_manifest
from mtdeblur.data.disk.splits import split_clips
from mtdeblur.data.making.average import Interpolate, make_exposure
from mtdeblur.data.making.build import MARGIN, Build, describe_crf, finished_dataset, open_build
from mtdeblur.data.making.faults import Fault, Scan, scan_clip
from mtdeblur.data.making.plan import GOPRO, GOPRO_PAIRS, Exposure, Recipe, plan_exposures
from mtdeblur.data.making.workers import Stages
from mtdeblur.exposure.crf import CRF, IDENTITY
from mtdeblur.files.journal import plain

_FORMAT = 1  # increment when the same settings give other files
_BLOCK = 64  # consecutive exposures of a clip for one process
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
    interpolate: Interpolate | None = None,
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
        interpolate: a frame interpolator; see `Interpolate`.
        progress: receives the progress.

    Returns:
        The manifest's rows.

    Raises:
        UserError: if a source cannot be read, the split is refused, the data set exceeds the disk or the
            limit, the folder contains anything else, there is no cluster, or pyarrow is not installed.
    """
    require_pyarrow()
    recipe, progress = recipe or Recipe(), progress or Stages()
    clips = find_clips(sources)
    split = split_clips(clips, splits or {})
    job = _describe(split, recipe, crf, limit, interpolate)
    finished = finished_dataset(dataset, job)
    if finished:
        return finished[0]
    with open_build(dataset, job, workers, distributed, progress) as build:
        scans = _scan(clips, not recipe.keep_faulty, build, progress)
        exposures = _plan(recipe, split, scans, limit, progress)
        done = build.done(exposures)
        missing = _estimate([item for item in exposures if item.key not in done], scans)
        build.check_space(missing, "set --limit-size, or take a larger --stride")
        make = partial(make_exposure, dataset=dataset.absolute(), crf=crf, interpolate=interpolate)
        rows = build.expose(make, exposures, done, block=_BLOCK, limit=limit)
        write_manifest(dataset, rows, {"job": job, "faults": _faults(scans)})
    return sorted(rows, key=lambda row: row.path)


def _describe(
    split: Mapping[str, Sequence[Clip]],
    recipe: Recipe,
    crf: CRF,
    limit: int | None,
    interpolate: Interpolate | None,
) -> dict[str, Any]:
    """Everything that determines the data set, of JSON's types."""
    job = {
        "format": _FORMAT,
        "clips": {name: [[clip.name, clip.source] for clip in clips] for name, clips in split.items()},
        "recipe": asdict(recipe),
        **describe_crf(crf),
        "limit": limit,
        "interpolate": interpolate and getattr(interpolate, "__qualname__", type(interpolate).__qualname__),
    }
    return plain(job)


def _scan(clips: Sequence[Clip], faults: bool, build: Build, progress: Stages) -> dict[str, Scan]:
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
    for clip in clips:
        clip_faults = scans[clip.name].faults
        if clip_faults:
            shown = "; ".join(f"frame {fault.number}: {fault.reason}" for fault in clip_faults[:_SHOWN])
            more = f"; and {len(clip_faults) - _SHOWN} more" if len(clip_faults) > _SHOWN else ""
            progress.noticed(f"{clip.name}: no exposure spans {shown}{more}")
    return scans


def _plan(
    recipe: Recipe,
    split: Mapping[str, Sequence[Clip]],
    scans: Mapping[str, Scan],
    limit: int | None,
    progress: Stages,
) -> list[Exposure]:
    runs = {name: [(clip, scans[clip.name].runs()) for clip in clips] for name, clips in split.items()}
    exposures = plan_exposures(recipe, runs)
    size = _estimate(exposures, scans)
    if limit is not None and size > limit:
        exposures = plan_exposures(recipe, runs, keep=limit / size)
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
