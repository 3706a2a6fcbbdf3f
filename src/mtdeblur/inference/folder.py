"""A batch of photographs, in one process or several, that can be killed at any moment and repeated.

A journal in the output folder notes what is begun and finished. Runs in one folder at once share the work.
"""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Protocol

from mtdeblur.files.atomic import remove_parts
from mtdeblur.files.journal import Record
from mtdeblur.files.shared import SharedJournal, open_shared_journal
from mtdeblur.inference.batch import Folder, Job, Observer, Outcome, Progressive, size_of
from mtdeblur.inference.finish import WHOLE, Finish
from mtdeblur.inference.parts import Parts
from mtdeblur.inference.planning import Existing, Plan
from mtdeblur.inference.recipe import Recipe
from mtdeblur.inference.remote import deblur_anywhere
from mtdeblur.inference.resuming import JOURNAL, KIND, Ledger, State, identity
from mtdeblur.processes.pool import open_runner, processors

_PAUSE = 0.5  # seconds between looks at what another run has finished


class FolderDeblurrer(Progressive, Protocol):
    """The interface of a deblurrer that this module uses; see `mtdeblur.inference.deblurrer.Deblurrer`."""

    def parts(self, height: int, width: int, results: int = 1) -> Parts:
        """The parts in which a picture is deblurred."""
        ...

    def keep_parts(self, height: int, width: int, kept: Any = (), /) -> list[Any]:
        """Deblur all pictures of a size in the same parts."""
        ...


@dataclass(frozen=True)
class Means:
    """What does the work.

    Attributes:
        recipe: of the deblurrer, for other processes.
        processes: their number; None for one per processor of the cluster.
        distributed: whether they are on a Ray cluster.
        finish: what results keep of estimates.
    """

    recipe: Recipe
    processes: int | None = 1
    distributed: bool = False
    finish: Finish = WHOLE


@dataclass(frozen=True)
class Task:
    """A job for a process.

    Attributes:
        job: the job.
        folder: the output folder, if any.
        parts: height, width and parts of the photograph, if it is readable.
    """

    job: Job
    folder: Folder | None
    parts: tuple[int, int, list[Any]] | None


Execute = Callable[[Iterable[Task]], Iterator[Outcome]]


def deblur_batch(
    work: Plan, deblurrer: FolderDeblurrer, observer: Observer, means: Means
) -> Generator[Outcome]:
    """Do what is planned; a photograph that fails is told, and the next one starts.

    Several processes give the same results as one. If the run ends early, by an exception, a kill or a full
    disk, the journal stays, and what is finished is in `Plan.finished` of the same plan made again.

    Args:
        work: of `mtdeblur.inference.planning.plan`.
        deblurrer: the deblurrer.
        observer: receives progress and notices.
        means: what does the work.

    Yields:
        what became of each job, also if another run in the same folder has done it. After a failure of the
        disk (`Outcome.disk`) no other job is begun.

    Raises:
        UserError: if the journal cannot be written, or there is no cluster.
    """
    parts = _Parts(deblurrer, means.recipe.memory)
    with _executor(deblurrer, observer, means, len(work.jobs)) as execute:
        if work.ledger is None:
            for outcome in execute(parts.tasks(work.jobs, observer)):
                observer.ended(outcome)
                yield outcome
            return
        place = work.ledger.folder / JOURNAL
        if not work.jobs and not place.exists():
            return
        for folder in {job.target.parent for job in work.jobs}:
            remove_parts(folder, recursive=False)
        with open_shared_journal(place, KIND) as journal:
            batch = _Batch(work, work.ledger, journal, observer, parts)
            if means.distributed:
                batch.folder = replace(batch.folder, identity=None, path=batch.folder.path.absolute())
            yield from batch.outcomes(execute)


class _Parts:
    """The parts in which the photographs of a batch are deblurred, the same for all of a size.

    Attributes:
        ledger: has those of earlier runs.
        note: notes new ones.
    """

    def __init__(self, deblurrer: FolderDeblurrer, memory: str) -> None:
        self._deblurrer, self._memory = deblurrer, memory
        self._chosen: dict[str, list[Any]] = {}
        self.ledger: Ledger | None = None
        self.note: Callable[[Record], None] | None = None

    def task(self, job: Job, folder: Folder | None = None) -> Task:
        """The task of a job."""
        size = size_of(job.source)
        if size is None:
            return Task(job, folder, None)
        results = 1 if set(job.missing).isdisjoint(job.iterations) else len(job.iterations)
        key = f"{size[0]} x {size[1]}, {results} of {self._memory}"
        if key not in self._chosen:
            self._chosen[key] = self._choose(key, *size, results)
        self._deblurrer.keep_parts(*size, self._chosen[key])
        return Task(job, folder, (*size, self._chosen[key]))

    def tasks(self, jobs: Iterable[Job], observer: Observer) -> Iterator[Task]:
        """The tasks of jobs, each when a process is free to begin it."""
        for job in jobs:
            observer.started(job)
            yield self.task(job)

    def _choose(self, key: str, height: int, width: int, results: int) -> list[Any]:
        kept = self.ledger.parts(key) if self.ledger else None
        if kept is not None:
            return kept
        parts = self._deblurrer.parts(height, width, results)
        if self.ledger and self.note and parts.kind == "windows":  # the others change no result
            self.note(self.ledger.parts_record(key, list(parts)))
        return list(parts)


class _Batch:
    """The work on a plan whose output is a folder.

    Attributes:
        folder: the output folder.
    """

    def __init__(
        self, work: Plan, ledger: Ledger, journal: SharedJournal, observer: Observer, parts: _Parts
    ) -> None:
        self._work, self._journal, self._observer, self._parts = work, journal, observer, parts
        self._ledger = Ledger(ledger.folder, ledger.settings, journal.records)
        self.folder = Folder.at(ledger.folder)
        self._sources: dict[Job, list[Any]] = {}  # identities of photographs before they are read
        self._decided: list[Outcome] = []  # without work
        parts.ledger, parts.note = self._ledger, journal.append
        for record in self._ledger.opening():
            journal.append(record)

    def outcomes(self, execute: Execute) -> Iterator[Outcome]:
        """Do all jobs, and then what other runs have claimed but not done."""
        waiting, said = self._work.jobs, False
        while waiting:
            later: list[Job] = []
            for outcome in execute(self._tasks(waiting, later)):
                self._note(outcome)
                self._observer.ended(outcome)
                yield outcome
                yield from self._without_work()
                if outcome.disk:
                    return
            yield from self._without_work()
            if later and not said:
                self._observer.noticed(f"waiting for another run, which works on {later[0].target}")
                said = True
            if len(later) == len(waiting):
                time.sleep(_PAUSE)
            waiting = later
        self._journal.obsolete = True

    def _tasks(self, jobs: Iterable[Job], later: list[Job]) -> Iterator[Task]:
        """Claim one job after the other, when a process is free to begin it."""
        for job in jobs:
            if not self._journal.claim(str(job.target)):
                later.append(job)
                continue
            self._journal.refresh()
            decided = self._decide(job)
            if decided is not None:
                self._decided.append(decided)
                self._journal.release(str(job.target))
                continue
            self._sources[job] = identity(job.source)
            self._journal.append(self._ledger.beginning(job))
            self._observer.started(job)
            yield self._parts.task(job, self.folder)

    def _decide(self, job: Job) -> Outcome | None:
        """What became of a job that another run has done since it was planned."""
        state = self._ledger.state(job)
        if state is State.FINISHED:
            return Outcome(job, elsewhere=True)
        made = [path for path in job.missing if os.path.lexists(path)]
        if self._work.existing is Existing.REPLACE or state in (State.CHANGED, State.BEGUN) or not made:
            return None
        if self._work.existing is Existing.SKIP and job.target in made:
            return Outcome(job, elsewhere=True)
        return Outcome(job, f"{made[0]} has appeared since this run began; it is left as it is")

    def _note(self, outcome: Outcome) -> None:
        source = self._sources.pop(outcome.job)
        if not outcome.reason:
            self._journal.append(self._ledger.finishing(outcome.job, source))
        self._journal.release(str(outcome.job.target))

    def _without_work(self) -> Iterator[Outcome]:
        for outcome in self._decided:
            self._observer.started(outcome.job)
            self._observer.ended(outcome)
            yield outcome
        self._decided.clear()


@contextmanager
def _executor(deblurrer: FolderDeblurrer, observer: Observer, means: Means, jobs: int) -> Generator[Execute]:
    """What does tasks: this process, others, or a cluster."""
    processes = means.processes if means.processes is None else min(means.processes, max(1, jobs))
    if processes == 1 and not means.distributed:
        yield lambda tasks: (
            deblur_anywhere(deblurrer, task.job, observer, task.folder, means.finish) for task in tasks
        )
        return
    threads = 1 if means.distributed else max(1, processors() // (processes or 1))
    with open_runner(processes, means.distributed) as run:

        def execute(tasks: Iterable[Task]) -> Iterator[Outcome]:
            function = partial(_work_elsewhere, means=means, threads=threads)
            for outcome in run(function, ([task] for task in tasks), lost=_lost):
                for notice in outcome.notices:
                    observer.noticed(notice)
                yield outcome

        yield execute


def _work_elsewhere(task: Task, means: Means, threads: int) -> Outcome:
    """Do a task in another process."""
    deblurrer = _deblurrer(means.recipe, threads)
    if task.parts:
        deblurrer.keep_parts(*task.parts)
    return deblur_anywhere(deblurrer, task.job, folder=task.folder, finish=means.finish)


@cache
def _deblurrer(recipe: Recipe, threads: int) -> FolderDeblurrer:
    """The deblurrer of a worker process, loaded once."""
    import torch

    from mtdeblur.inference.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(min(torch.get_num_threads(), threads))
    return recipe.load()


def _lost(task: Task) -> Outcome:
    return Outcome(
        task.job,
        f"cannot deblur {task.job.source}: the processes that tried it were lost, perhaps for lack of memory",
    )
