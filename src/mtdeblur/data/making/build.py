"""Resumable builds of data sets by worker processes.

A build can be killed at any moment and repeated: finished exposures are in a journal, every file is written
atomically, and the finished data set has the same bytes as one from an uninterrupted build.
"""

import platform
import shutil
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from mtdeblur.data.disk.manifest import JOURNAL, MANIFEST, Row, read_manifest
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import CRF
from mtdeblur.files.atomic import check_writable, remove_parts
from mtdeblur.files.journal import Journal, open_journal
from mtdeblur.processes.pool import Runner, Stages, open_runner

MARGIN = 1.1
"""Safety factor of size estimates, which measure one picture of each source."""

Key = tuple[str | int, ...]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Keyed(Protocol):
    """An exposure to make, or other work on a source."""

    @property
    def key(self) -> Key:
        """Unique key; all parts but the last identify the source."""
        ...


Plan = TypeVar("Plan", bound=Keyed)


class Build:
    """A build in progress; use `open_build`.

    Attributes:
        records: journal records of earlier runs, in order.
        note: appends a record to the journal, see `Journal.append`.
        has_begun: whether the folder may contain pictures.
        run: runs tasks in the worker pool, see `open_runner`.
    """

    run: Runner

    def __init__(self, folder: Path, journal: Journal, progress: Stages) -> None:
        self._folder, self._progress = folder, progress
        self.note = journal.append
        self.records = journal.records
        self.has_begun = any("rows" in record for record in journal.records)

    def carry_out(
        self, what: str, function: Callable[[Item], Result], blocks: Sequence[Sequence[Item]], done: int
    ) -> Generator[Result]:
        """Run one stage of the build: apply a function to every item, in single-threaded worker processes.

        Journal a result before asking for the next: progress is reported after that.

        Args:
            what: name of the items, in the plural.
            function: picklable, as are its items and results.
            blocks: the items; those of a block go to the same process.
            done: number of items finished by earlier runs.

        Raises:
            UserError: if a worker cannot access the folder; any exception of the function.
        """
        self._progress.began(what, done + sum(map(len, blocks)), done)
        work = partial(_work, function=function, folder=self._folder.absolute())
        for result in self.run(work, blocks):
            yield result
            self._progress.advanced()

    def done(self, plan: Sequence[Plan]) -> dict[Key, list[Row]]:
        """The exposures finished by earlier runs whose pictures still exist."""
        planned = {item.key for item in plan}
        done: dict[Key, list[Row]] = {}
        for record in self.records:
            key = tuple(record.get("exposure", ()))
            if key in planned:
                rows = [Row(**row) for row in record["rows"]]
                if all(_size(self._folder / row.path) == row.bytes for row in rows):
                    done[key] = rows
        return done

    def check_space(self, needed: int, advice: str) -> None:
        """Raise UserError if the disk has too little space.

        Args:
            needed: estimate in bytes.
            advice: how the user can need less.
        """
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise UserError(
                f"the data set needs about {needed / 1e9:.1f} GB more, and the disk of {self._folder} has "
                f"{free / 1e9:.1f} GB free; {advice}"
            )

    def expose(
        self,
        make: Callable[[Plan], list[Row]],
        plan: Sequence[Plan],
        done: dict[Key, list[Row]],
        *,
        block: int,
        limit: int | None = None,
    ) -> list[Row]:
        """Make all exposures that are not finished, and journal them.

        Args:
            make: writes the pictures of one exposure, always with the same bytes.
            plan: all exposures, grouped by source.
            done: the exposures finished by earlier runs.
            block: number of consecutive exposures of a source for one process.
            limit: maximum size of all pictures in bytes.

        Returns:
            The manifest's rows, in the plan's order.

        Raises:
            UserError: if a picture cannot be made or written, or the limit is exceeded.
        """
        self.has_begun = True
        written = sum(row.bytes for rows in done.values() for row in rows)
        rows_of = dict(done)
        stage = self.carry_out(
            "exposures", partial(_make_one, make=make), in_blocks(plan, done, block), len(done)
        )
        for key, rows in stage:
            rows_of[key] = rows
            self.note({"exposure": key, "rows": [asdict(row) for row in rows]})
            written += sum(row.bytes for row in rows)
            if limit is not None and written > limit:
                raise UserError("the pictures are larger than estimated; build again with a smaller limit")
        return [row for item in plan for row in rows_of[item.key]]


@contextmanager
def open_build(
    folder: Path, job: Mapping[str, Any], workers: int | None, distributed: bool, progress: Stages
) -> Generator[Build]:
    """Start a build in an empty folder, or resume it; the journal is deleted if the block succeeds.

    The journal is also deleted if a UserError ends the build before its first exposure; the folder can then
    be used with other settings.

    Args:
        folder: of the data set.
        job: everything that determines the data set, of JSON's types.
        workers: number of processes; by default one per processor.
        distributed: whether the processes run on a Ray cluster.
        progress: receives the progress.

    Raises:
        UserError: if the folder contains anything else, such as another build, or cannot be written, a
            worker is lost, or there is no cluster.
    """
    path = folder / JOURNAL
    check_writable(path)
    if folder.is_dir() and not path.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; choose another folder for the data set")
    with open_journal(path, job) as journal:
        remove_parts(folder)
        build = Build(folder, journal, progress)
        try:
            with open_runner(workers, distributed) as build.run:
                yield build
        except UserError:
            if not build.has_begun:
                path.unlink()
            raise
    path.unlink()


def finished_dataset(dataset: Path, job: Mapping[str, Any]) -> tuple[list[Row], dict[str, Any]] | None:
    """The result of `read_manifest` for a finished data set; None for an unfinished one.

    Raises:
        UserError: if it belongs to another job, or the manifest cannot be read.
    """
    if not (dataset / MANIFEST).exists():
        return None
    rows, facts = read_manifest(dataset)
    close_finished(dataset, facts.get("job"), job)
    return rows, facts


def close_finished(folder: Path, finished_job: object, job: Mapping[str, Any]) -> None:
    """Delete the journal that a killed build may have left in a finished data set.

    Raises:
        UserError: if the data set belongs to another job.
    """
    if finished_job != job:
        raise UserError(f"{folder} holds a data set made with other settings; choose another folder")
    (folder / JOURNAL).unlink(missing_ok=True)


def describe_crf(crf: CRF) -> dict[str, Any]:
    """Name and samples of a camera response function, for the description of a job."""
    light = crf.decode(torch.linspace(0, 1, 17, dtype=torch.float64))
    return {"crf": crf.name, "light": [round(float(value), 9) for value in light]}


def _work(item: Item, function: Callable[[Item], Result], folder: Path) -> Result:
    """Process one item in one thread, possibly on another machine.

    The workers already use all processors, and multi-threaded sums may round differently.
    """
    if not (folder / JOURNAL).exists():
        raise UserError(f"{platform.node()} cannot access {folder}; choose a folder that all nodes share")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item)
    finally:
        torch.set_num_threads(before)


def _make_one(exposure: Plan, make: Callable[[Plan], list[Row]]) -> tuple[Key, list[Row]]:
    return exposure.key, make(exposure)


def in_blocks(plan: Sequence[Plan], done: Container[Key], size: int) -> list[list[Plan]]:
    """The unfinished items of a plan in blocks of at most `size`, each of one source.

    Args:
        plan: exposures or other work; consecutive for each source.
        done: keys of the finished items.
        size: maximum number of items in a block.
    """
    blocks: list[list[Plan]] = []
    for item in plan:
        if item.key in done:
            continue
        if not blocks or len(blocks[-1]) == size or blocks[-1][-1].key[:-1] != item.key[:-1]:
            blocks.append([])
        blocks[-1].append(item)
    return blocks


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
