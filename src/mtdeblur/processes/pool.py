"""A worker pool for independent tasks: in this process, in several, or on a Ray cluster."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, NamedTuple, NoReturn, ParamSpec, Protocol, TypeVar

from mtdeblur.errors import UserError
from mtdeblur.processes.cluster import ray_processes

P = ParamSpec("P")
T = TypeVar("T")
Task = TypeVar("Task")
Result = TypeVar("Result")

ATTEMPTS = 3
"""A task that this many processes did not survive is given up."""


class Stages:
    """Receiver of the progress of long work; a progress display overrides the empty methods."""

    def began(self, what: str, total: int, done: int) -> None:
        """A stage of `total` items begins, of which earlier runs have finished `done`."""

    def advanced(self) -> None:
        """One more item of the stage is finished."""

    def noticed(self, notice: str) -> None:
        """A one-line notice for the user."""


class Process(Protocol):
    """A worker process, which starts with its first task."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in the process; the future raises BrokenExecutor if the process is lost."""
        ...

    def replace(self, *, last: bool) -> bool:
        """Start anew after the process is lost; whether there is a process again.

        Args:
            last: whether no other process is left.
        """
        ...


class Runner(Protocol):
    """The worker pool of `open_runner`."""

    def __call__(
        self,
        function: Callable[[Task], Result],
        blocks: Iterable[Iterable[Task]],
        /,
        *,
        lost: Callable[[Task], Result] | None = None,
    ) -> Generator[Result]:
        """Apply a function to every task of every block.

        The tasks of a block go to the same process one after the other, so that they can share a cache. A
        process has one task at a time, and results are yielded as soon as they are available: memory does not
        grow with the number of tasks.

        Args:
            function: picklable, as are its tasks and results.
            blocks: the tasks. Each is asked for when a process is free to begin it.
            lost: gives the result of a task for which `ATTEMPTS` processes were lost one after the other.
                Without it, the first loss of a process ends the work with BrokenExecutor.

        Yields:
            The results, in the order of the tasks if there is one worker, otherwise as they finish.
        """
        ...


@contextmanager
def open_runner(workers: int | None = None, distributed: bool = False) -> Generator[Runner]:
    """Open a worker pool; each process starts with its first task.

    If the block raises, tasks in progress are aborted.

    Args:
        workers: number of processes; by default one per processor. With 1 worker, or a list of a single
            block, the tasks run in this process.
        distributed: whether the processes run on a Ray cluster; see `ray_processes`.

    Raises:
        UserError: if a worker process dies, or there is no cluster; any exception of a function.
    """
    opened = ray_processes(workers) if distributed else _local_processes(workers or processors())
    with opened as processes:
        yield partial(_run_tasks, processes=processes, here=not distributed)


def _run_tasks(
    function: Callable[[Task], Result],
    blocks: Iterable[Iterable[Task]],
    /,
    *,
    processes: Sequence[Process],
    here: bool,
    lost: Callable[[Task], Result] | None = None,
) -> Generator[Result]:
    if here and (len(processes) == 1 or (isinstance(blocks, Sequence) and len(blocks) <= 1)):
        yield from (function(task) for block in blocks for task in block)
        return
    yield from _Distribution(function, blocks, lost).results(processes)


class _Distribution(Generic[Task, Result]):
    """Tasks on their way to processes and back."""

    def __init__(
        self,
        function: Callable[[Task], Result],
        blocks: Iterable[Iterable[Task]],
        lost: Callable[[Task], Result] | None,
    ) -> None:
        self._function, self._lost = function, lost
        self._blocks = iter(blocks)
        self._returned: deque[_Given[Task]] = deque()
        self._running: dict[Future[Result], tuple[Process, _Given[Task]]] = {}
        self._idle: list[Process] = []

    def results(self, processes: Sequence[Process]) -> Generator[Result]:
        """The results, as they finish."""
        left = len(processes)
        for process in processes:
            self._feed(process, iter(()))
        while self._running:
            for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                process, given = self._running.pop(future)
                try:
                    result = future.result()
                except BrokenExecutor:
                    if self._lost is None:
                        raise
                    if given.losses + 1 < ATTEMPTS:
                        self._returned.append(given._replace(losses=given.losses + 1))
                    else:
                        self._returned.extend(_Given(task, given.rest) for task in islice(given.rest, 1))
                        yield self._lost(given.task)
                    if process.replace(last=left == 1):
                        self._feed(process, iter(()))
                    else:
                        left -= 1
                    self._wake()
                else:
                    self._feed(process, given.rest)
                    yield result

    def _feed(self, process: Process, tasks: Iterator[Task]) -> None:
        """Submit a process's next task: from its block, or a returned one, or from the next block."""
        given = self._next(tasks)
        if given is None:
            self._idle.append(process)
            return
        try:
            future = process.submit(self._function, given.task)
        except BrokenExecutor:  # it died with nothing to do
            if self._lost is None or not process.replace(last=True):
                raise
            future = process.submit(self._function, given.task)
        self._running[future] = process, given

    def _next(self, tasks: Iterator[Task]) -> "_Given[Task] | None":
        for task in tasks:
            return _Given(task, tasks)
        if self._returned:
            return self._returned.popleft()
        for block in self._blocks:
            rest = iter(block)
            for task in rest:
                return _Given(task, rest)
        return None

    def _wake(self) -> None:
        """Give returned tasks to processes that had nothing to do."""
        while self._returned and self._idle:
            self._feed(self._idle.pop(), iter(()))


class _Given(NamedTuple, Generic[Task]):
    """A task, the rest of its block, and the number of processes that it has cost."""

    task: Task
    rest: Iterator[Task]
    losses: int = 0


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Context(SpawnContext):
    """Starts processes and remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **settings: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Make a process; concurrent.futures calls this."""
        self.started.append(SpawnProcess(*args, **settings))
        return self.started[-1]


class _LocalProcess:
    """A process on this machine."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self.pool = ProcessPoolExecutor(1, context, _start_worker)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self.pool.submit(fn, *args, **kwargs)

    def replace(self, *, last: bool) -> bool:
        self.pool.shutdown(wait=False)
        self.pool = ProcessPoolExecutor(1, self._context, _start_worker)
        return True


@contextmanager
def _local_processes(count: int) -> Generator[list[_LocalProcess]]:
    context = _Context()
    processes = [_LocalProcess(context) for _ in range(count)]
    try:
        yield processes
    except BrokenExecutor as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory; repeat the command with fewer "
            "processes to resume"
        ) from error
    except BaseException:
        for process in context.started:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.pool.shutdown()


def _start_worker() -> None:
    """Leave Ctrl-C to the parent process, abort a task on SIGTERM, and exit when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _abort)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _abort(*_: object) -> NoReturn:
    sys.exit(1)
