"""From high-speed footage to a temporal data set on disk: scan the clips, plan the exposures, make them.

A build can be killed at any moment and repeated: what is done is in a journal, every file is written whole or
not at all, and the finished data set has the same bytes as one that was built undisturbed.
"""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mtdeblur.data.expose import Interpolate, make_exposure
from mtdeblur.data.manifest import JOURNAL, MANIFEST, Row, read_manifest, require_pyarrow, write_manifest
from mtdeblur.data.recipes import GOPRO, GOPRO_PAIRS, Exposure, Recipe, plan_exposures
from mtdeblur.data.runner import Runner, Stages, run_tasks
from mtdeblur.data.scenes import Fault, Scan, scan_clip
from mtdeblur.data.sources import Clip, find_clips
from mtdeblur.data.splits import split_clips
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import CRF, IDENTITY
from mtdeblur.media.files import check_writable, remove_parts
from mtdeblur.media.journal import Journal, open_journal

_FORMAT = 1  # another number when the same settings give other files
_BLOCK = 64  # exposures of a clip that one process makes in a row
_MARGIN = 1.1  # pictures may be larger than the one of their clip that was measured
_NAMED = 3  # faults of a clip that are told; the manifest has them all


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
    """Build a temporal data set; `mtdeblur.data.manifest` shows its layout.

    Args:
        sources: folders of frames, roots of such folders, and videos; paths, or addresses that fsspec opens.
        dataset: folder to make, empty or with the same build unfinished in it.
        recipe: which exposures; by default TL7, 9, 11 and 13 in turn, which share no frame.
        crf: camera response function g of Eq. (1).
        splits: "train", "valid" and "test" to names or patterns of clips; see `split_clips`.
        limit: size of the data set in bytes; exposures are left out evenly until it is kept.
        workers: number of processes; by default one a processor.
        distributed: whether they are on a Ray cluster, whose nodes see all paths as this machine does.
        interpolate: a frame interpolator; see `Interpolate`.
        progress: hears how it goes on.

    Returns:
        The manifest's rows.

    Raises:
        UserError: if a source cannot be read, the split is refused, the disk or the limit has no room for it,
            the folder holds anything else, there is no cluster, or pyarrow is not installed.
    """
    require_pyarrow()
    recipe, progress = recipe or Recipe(), progress or Stages()
    clips = find_clips(sources)
    split = split_clips(clips, splits or {})
    run = partial(run_tasks, workers=workers, distributed=distributed)
    job = _describe(split, recipe, crf, limit, interpolate)
    journal_path = dataset / JOURNAL
    if (dataset / MANIFEST).exists():
        rows, facts = read_manifest(dataset)
        if facts.get("job") != job:
            raise UserError(f"{dataset} holds a data set made with other settings; choose another folder")
        journal_path.unlink(missing_ok=True)
        return rows
    _refuse_others(dataset)
    with open_journal(journal_path, job) as journal:
        remove_parts(dataset)
        try:
            scans = _scan(clips, not recipe.keep_faulty, journal, run, progress)
            exposures = _plan(recipe, split, scans, limit, progress)
            done = _done(journal, exposures, dataset)
            _check_space(dataset, [item for item in exposures if item not in done], scans)
        except UserError:
            if not any("rows" in record for record in journal.records):
                journal_path.unlink()  # so that other settings can follow
            raise
        make = partial(make_exposure, dataset=dataset.absolute(), crf=crf, interpolate=interpolate)
        make_one = partial(_make_one, make=make, journal=journal_path.absolute())
        _expose(make_one, exposures, done, journal, run, limit, progress)
        rows = [row for item in exposures for row in done[item]]
        write_manifest(dataset, rows, {"job": job, "faults": _faults(scans)})
    journal_path.unlink()
    return sorted(rows, key=lambda row: row.path)


def _describe(
    split: Mapping[str, Sequence[Clip]],
    recipe: Recipe,
    crf: CRF,
    limit: int | None,
    interpolate: Interpolate | None,
) -> dict[str, Any]:
    """All that decides what a build gives, of JSON's types."""
    curve = crf.decode(torch.linspace(0, 1, 17, dtype=torch.float64))
    return {
        "format": _FORMAT,
        "clips": {name: [[clip.name, clip.source] for clip in clips] for name, clips in split.items()},
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "crf": crf.name,
        "light": [round(float(value), 9) for value in curve],
        "limit": limit,
        "interpolate": interpolate and getattr(interpolate, "__qualname__", type(interpolate).__qualname__),
    }


def _refuse_others(dataset: Path) -> None:
    """A folder with anything but an unfinished build in it is not built in."""
    check_writable(dataset / MANIFEST)
    if dataset.is_dir() and not (dataset / JOURNAL).exists() and any(dataset.iterdir()):
        raise UserError(f"{dataset} is not empty; choose another folder for the data set")


def _scan(
    clips: Sequence[Clip], faults: bool, journal: Journal, run: Runner, progress: Stages
) -> dict[str, Scan]:
    """Look through all clips that earlier runs have not looked through: name to what was found."""
    scans: dict[str, Scan] = {}
    named = {clip.name: clip for clip in clips}
    for record in journal.records:
        if "clip" in record:
            found = tuple(Fault(**fault) for fault in record["faults"])
            clip = named[record["clip"]]
            scans[clip.name] = Scan(clip, record["frames"], found, record["picture_bytes"])
    progress.began("clips", len(clips), len(scans))
    missing = [[clip] for clip in clips if clip.name not in scans]
    for scan in run(partial(scan_clip, faults=faults), missing):
        scans[scan.clip.name] = scan
        journal.append({**asdict(scan), "clip": scan.clip.name})
        progress.advanced()
    for clip in clips:
        found = scans[clip.name].faults
        if found:
            told = "; ".join(f"frame {fault.number}: {fault.reason}" for fault in found[:_NAMED])
            more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            progress.noticed(f"{clip.name}: no exposure spans {told}{more}")
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
    wanted = GOPRO_PAIRS if recipe == GOPRO else recipe.counts or {}
    for name, count in wanted.items():
        found = sum(exposure.split == name for exposure in exposures)
        if found != count:
            progress.noticed(f"{found} exposures for {name}, not the {count} of the published data set")
    return exposures


def _estimate(exposures: Sequence[Exposure], scans: Mapping[str, Scan]) -> int:
    """Bytes that exposures take: a blurred picture compresses at least as well as a sharp one."""
    pictures = sum(scans[item.clip.name].picture_bytes * len(item.levels) for item in exposures)
    return int(pictures * _MARGIN)


def _done(journal: Journal, exposures: Sequence[Exposure], dataset: Path) -> dict[Exposure, list[Row]]:
    """The exposures that earlier runs have made, and whose pictures are still there."""
    planned = {(item.split, item.clip.name, item.middle): item for item in exposures}
    done: dict[Exposure, list[Row]] = {}
    for record in journal.records:
        item = planned.get(tuple(record.get("exposure", ())))
        if item is not None:
            rows = [Row(**row) for row in record["rows"]]
            if all(_size(dataset / row.path) == row.bytes for row in rows):
                done[item] = rows
    return done


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _check_space(dataset: Path, missing: Sequence[Exposure], scans: Mapping[str, Scan]) -> None:
    needed, free = _estimate(missing, scans), shutil.disk_usage(dataset).free
    if needed > free:
        raise UserError(
            f"the data set needs about {needed / 1e9:.1f} GB more, and the disk of {dataset} has "
            f"{free / 1e9:.1f} GB free; set --limit-size, or take a larger --stride"
        )


def _expose(
    make_one: "partial[tuple[Exposure, list[Row]]]",
    exposures: Sequence[Exposure],
    done: dict[Exposure, list[Row]],
    journal: Journal,
    run: Runner,
    limit: int | None,
    progress: Stages,
) -> None:
    """Make all exposures that are not done, and note them as done."""
    progress.began("exposures", len(exposures), len(done))
    written = sum(row.bytes for rows in done.values() for row in rows)
    for item, rows in run(make_one, _blocks(exposures, done)):
        done[item] = rows
        journal.append(
            {"exposure": [item.split, item.clip.name, item.middle], "rows": [asdict(row) for row in rows]}
        )
        progress.advanced()
        written += sum(row.bytes for row in rows)
        if limit is not None and written > limit:
            raise UserError("the pictures are larger than foreseen; build anew with a smaller limit")


def _make_one(exposure: Exposure, make: "partial[list[Row]]", journal: Path) -> tuple[Exposure, list[Row]]:
    """Make one exposure, perhaps on another machine, which must write where this build is."""
    if not journal.exists():
        raise UserError(
            f"{platform.node()} does not see {journal.parent}; choose a folder that all nodes share"
        )
    return exposure, make(exposure)


def _blocks(exposures: Sequence[Exposure], done: Mapping[Exposure, Any]) -> list[list[Exposure]]:
    """The exposures to make, in runs of one clip that a process takes together."""
    blocks: list[list[Exposure]] = []
    for item in exposures:
        if item in done:
            continue
        if not blocks or len(blocks[-1]) == _BLOCK or blocks[-1][-1].clip != item.clip:
            blocks.append([])
        blocks[-1].append(item)
    return blocks


def _faults(scans: Mapping[str, Scan]) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(fault) for fault in scan.faults] for name, scan in sorted(scans.items())}
