"""Progress of long work on standard error: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mtdeblur.data.disk.leftovers import warn
from mtdeblur.inference.batch import Job, Observer, Outcome
from mtdeblur.processes.pool import Stages

_SECONDS_BETWEEN_LINES = 10


class Complaints:
    """Reports failures on standard error and counts them.

    Attributes:
        console: standard error, shared with progress bars.
        number: of failures.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.number = 0

    def say(self, line: str) -> None:
        """Report a failure."""
        self.number += 1
        self.console.print(f"mtdeblur: {' '.join(line.splitlines())}", markup=False, emoji=False)

    def left_out(self, faults: Sequence[str]) -> None:
        """Log the first few faults and count all of them; see `mtdeblur.data.disk.leftovers.Report`."""
        self.number += len(faults)
        warn(faults)


def say(line: str) -> None:
    """Print a notice on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False, emoji=False)


@contextmanager
def show_progress(jobs: int, processes: int = 1) -> Generator[Observer]:
    """Yield an observer that reports on standard error.

    Args:
        jobs: number of photographs.
        processes: number of photographs that are in progress at once.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Lines(console, jobs)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress, jobs, processes)


@contextmanager
def show_stages() -> Generator[Stages]:
    """Yield a receiver that reports stages on standard error, with rate and remaining time."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _StageLines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _StageBars(progress)


class _StageLines(Stages):
    """A line every ten seconds: finished items, rate, and remaining time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def began(self, what: str, total: int, done: int) -> None:
        self._what, self._total, self._done, self._before = what, total, done, done
        self._start = self._last_line = time.perf_counter()

    def advanced(self) -> None:
        self._done += 1
        now = time.perf_counter()
        if now - self._last_line > _SECONDS_BETWEEN_LINES or self._done == self._total:
            rate = (self._done - self._before) / max(now - self._start, 1e-9)
            left = timedelta(seconds=round((self._total - self._done) / rate))
            self._print(f"{self._what}: {self._done} of {self._total}, {rate:.2f} a second, {left} left")
            self._last_line = now

    def noticed(self, notice: str) -> None:
        self._print(f"mtdeblur: {notice}")

    def _print(self, line: str) -> None:
        self._console.print(" ".join(line.splitlines()), markup=False, emoji=False)


class _StageBars(_StageLines):
    """One bar for each stage."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress.console)
        self._progress = progress

    def began(self, what: str, total: int, done: int) -> None:
        self._task = self._progress.add_task(what, total=total, completed=done)

    def advanced(self) -> None:
        self._progress.advance(self._task)


class _Rate(ProgressColumn):
    """Recent rate per second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.2f} a second")


class _Lines(Observer):
    """One line for each finished or failed photograph."""

    def __init__(self, console: Console, jobs: int) -> None:
        self._console = console
        self._jobs = jobs
        self._done = 0

    def chose(self, line: str) -> None:
        self._print(line)

    def noticed(self, notice: str) -> None:
        self._print(f"mtdeblur: {notice}")

    def ended(self, outcome: Outcome) -> None:
        self._done += 1
        if outcome.reason:
            self._print(f"mtdeblur: {outcome.reason}")
            return
        how = "by another run" if outcome.elsewhere else f"{outcome.seconds:.1f} s"
        self._print(f"{outcome.job.source} -> {outcome.job.target} ({self._done} of {self._jobs}, {how})")

    def _print(self, line: str) -> None:
        self._console.print(" ".join(line.splitlines()), markup=False, emoji=False)


class _Bars(_Lines):
    """The same lines above two bars: all photographs, and the current one if there is only one at a time."""

    def __init__(self, progress: Progress, jobs: int, processes: int) -> None:
        super().__init__(progress.console, jobs)
        self._progress = progress
        self._photographs = progress.add_task("photographs", total=jobs) if jobs > 1 else None
        self._present = progress.add_task("photograph", total=1.0) if processes == 1 else None

    def started(self, job: Job) -> None:
        if self._present is not None:
            self._progress.reset(self._present, description=job.source.name)

    def advanced(self, job: Job, share: float) -> None:
        if self._present is not None:
            self._progress.update(self._present, completed=share)

    def ended(self, outcome: Outcome) -> None:
        super().ended(outcome)
        if self._photographs is not None:
            self._progress.advance(self._photographs)
