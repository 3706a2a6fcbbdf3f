"""Builds data sets exposure by exposure, in many processes, and goes on where a build was stopped.

A build can be killed at any moment and repeated: what is done is in a journal, every file is written whole or
not at all, and the finished data set has the same bytes as one that was built undisturbed.
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
from mtdeblur.data.making.workers import Runner, Stages, open_runner
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import CRF
from mtdeblur.files.atomic import check_writable, remove_parts
from mtdeblur.files.journal import Journal, open_journal

MARGIN = 1.1
"""Room that estimates leave: pictures may be larger than the one of their source that was measured."""

Key = tuple[str | int, ...]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Keyed(Protocol):
    """An exposure to make, or other work on a source."""

    @property
    def key(self) -> Key:
        """What no other of the data set is called; up to the last part it tells the source."""
        ...


Plan = TypeVar("Plan", bound=Keyed)


class Build:
    """A data set that is being built; use `open_build`.

    Attributes:
        records: what earlier runs have noted, in order.
        note: notes what is done, see `Journal.append`.
        has_begun: whether pictures may be there.
        run: carries out tasks, see `open_runner`.
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
        """Carry out a stage: apply a function to every item in the processes, with one thread each.

        What is noted of a result before the next is asked for is noted before its progress is told.

        Args:
            what: the items are called.
            function: picklable with its items and results.
            blocks: the items; those of a block go to the same process.
            done: number of items that earlier runs have seen to.

        Raises:
            UserError: if a machine does not see the folder; whatever the function raises.
        """
        self._progress.began(what, done + sum(map(len, blocks)), done)
        work = partial(_work, function=function, folder=self._folder.absolute())
        for result in self.run(work, blocks):
            yield result
            self._progress.advanced()

    def done(self, plan: Sequence[Plan]) -> dict[Key, list[Row]]:
        """The exposures that earlier runs have made, and whose pictures are still there."""
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
        """Raise UserError if the disk has no room for what is to be made.

        Args:
            needed: estimate in bytes.
            advice: what to do about it.
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
        """Make all exposures that are not done, and note them as done.

        Args:
            make: makes the pictures of one exposure; always the same bytes.
            plan: all exposures; those of a source together.
            done: the exposures that earlier runs have made.
            block: number of exposures of a source that one process makes in a row.
            limit: bytes that all pictures may take.

        Returns:
            The manifest's rows, in the plan's order.

        Raises:
            UserError: if a picture cannot be made or written, or the limit is passed.
        """
        self.has_begun = True
        written = sum(row.bytes for rows in done.values() for row in rows)
        made = dict(done)
        stage = self.carry_out(
            "exposures", partial(_make_one, make=make), in_blocks(plan, done, block), len(done)
        )
        for key, rows in stage:
            made[key] = rows
            self.note({"exposure": key, "rows": [asdict(row) for row in rows]})
            written += sum(row.bytes for row in rows)
            if limit is not None and written > limit:
                raise UserError("the pictures are larger than foreseen; build anew with a smaller limit")
        return [row for item in plan for row in made[item.key]]


@contextmanager
def open_build(
    folder: Path, job: Mapping[str, Any], workers: int | None, distributed: bool, progress: Stages
) -> Generator[Build]:
    """Begin a build in an empty folder, or go on with it; what it has noted goes when the block ends well.

    A build that is refused before its first exposure leaves the folder free for other settings.

    Args:
        folder: of the data set.
        job: all that decides what the build gives, of JSON's types.
        workers: number of processes; by default one a processor.
        distributed: whether they are on a Ray cluster.
        progress: hears how it goes on.

    Raises:
        UserError: if there is anything else in the folder, another build included, it cannot be written, a
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
    """What `read_manifest` gives of a data set that is finished; None if it is not.

    Raises:
        UserError: if it is another job's, or the manifest cannot be read.
    """
    if not (dataset / MANIFEST).exists():
        return None
    rows, facts = read_manifest(dataset)
    close_finished(dataset, facts.get("job"), job)
    return rows, facts


def close_finished(folder: Path, made: object, job: Mapping[str, Any]) -> None:
    """Refuse a data set that another job has finished; remove what one killed at its very end has left.

    Raises:
        UserError: if it is another job's.
    """
    if made != job:
        raise UserError(f"{folder} holds a data set made with other settings; choose another folder")
    (folder / JOURNAL).unlink(missing_ok=True)


def describe_crf(crf: CRF) -> dict[str, Any]:
    """What tells a curve from others, for the description of a job."""
    light = crf.decode(torch.linspace(0, 1, 17, dtype=torch.float64))
    return {"crf": crf.name, "light": [round(float(value), 9) for value in light]}


def _work(item: Item, function: Callable[[Item], Result], folder: Path) -> Result:
    """Do one thing, perhaps on another machine, which must write where this build is.

    Things are done side by side in processes; and sums shared by threads may round differently.
    """
    if not (folder / JOURNAL).exists():
        raise UserError(f"{platform.node()} does not see {folder}; choose a folder that all nodes share")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item)
    finally:
        torch.set_num_threads(before)


def _make_one(exposure: Plan, make: Callable[[Plan], list[Row]]) -> tuple[Key, list[Row]]:
    return exposure.key, make(exposure)


def in_blocks(plan: Sequence[Plan], done: Container[Key], most: int) -> list[list[Plan]]:
    """What is not done, in runs of one source that a process takes together.

    Args:
        plan: exposures, or other work on sources; those of a source together.
        done: keys of those that are done.
        most: number of them in a run.
    """
    blocks: list[list[Plan]] = []
    for item in plan:
        if item.key in done:
            continue
        if not blocks or len(blocks[-1]) == most or blocks[-1][-1].key[:-1] != item.key[:-1]:
            blocks.append([])
        blocks[-1].append(item)
    return blocks


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
