"""How a batch shows itself on standard error: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mtdeblur.inference.batch import Job, Observer


@contextmanager
def show_progress(jobs: int, iterations: int) -> Generator[Observer]:
    """Give an observer that reports on standard error while the block runs.

    Args:
        jobs: number of photographs.
        iterations: number of iterations for each.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Lines(console, jobs)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress, jobs, iterations)


class _Lines(Observer):
    """One line for each photograph that is finished or given up."""

    def __init__(self, console: Console, jobs: int) -> None:
        self._console = console
        self._jobs = jobs
        self._done = 0
        self._start = 0.0

    def started(self, job: Job) -> None:
        self._done += 1
        self._start = time.perf_counter()

    def noticed(self, job: Job, notice: str) -> None:
        self._print(f"mtdeblur: {notice}")

    def finished(self, job: Job) -> None:
        seconds = time.perf_counter() - self._start
        self._print(f"{job.source} -> {job.target} ({self._done} of {self._jobs}, {seconds:.1f} s)")

    def failed(self, job: Job, reason: str) -> None:
        self._print(f"mtdeblur: {reason}")

    def _print(self, line: str) -> None:
        self._console.print(" ".join(line.splitlines()), markup=False, emoji=False)


class _Bars(_Lines):
    """The same lines above two bars: photographs, and iterations of the present one."""

    def __init__(self, progress: Progress, jobs: int, iterations: int) -> None:
        super().__init__(progress.console, jobs)
        self._progress = progress
        self._photographs: TaskID | None = None
        if jobs > 1:
            self._photographs = progress.add_task("photographs", total=jobs)
        self._iterations = progress.add_task("iterations", total=iterations)

    def started(self, job: Job) -> None:
        super().started(job)
        self._progress.reset(self._iterations, description=job.source.name)

    def iterated(self, job: Job, iteration: int) -> None:
        self._progress.update(self._iterations, completed=iteration)

    def finished(self, job: Job) -> None:
        super().finished(job)
        self._advance()

    def failed(self, job: Job, reason: str) -> None:
        super().failed(job, reason)
        self._advance()

    def _advance(self) -> None:
        if self._photographs is not None:
            self._progress.advance(self._photographs)
