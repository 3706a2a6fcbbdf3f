"""A worker pool for independent tasks: in this process, in several, or on a Ray cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol, TypeVar

from mtdeblur.data.making.ray_workers import ray_processes
from mtdeblur.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Stages:
    """Receiver of the progress of long work; a progress display overrides the empty methods."""

    def began(self, what: str, total: int, done: int) -> None:
        """A stage of `total` items begins, of which earlier runs have finished `done`."""

    def advanced(self) -> None:
        """One more item of the stage is finished."""

    def noticed(self, notice: str) -> None:
        """A one-line notice for the user."""


class Runner(Protocol):
    """The worker pool of `open_runner`."""

    def __call__(
        self, function: Callable[[Task], Result], blocks: Sequence[Sequence[Task]], /
    ) -> Generator[Result]:
        """Apply a function to every task of every block.

        The tasks of a block go to the same process one after the other, so that they can share a cache. A
        process has one task at a time, and results are yielded as soon as they are available: memory does not
        grow with the number of tasks.

        Args:
            function: picklable, as are its tasks and results.
            blocks: the tasks.

        Yields:
            The results, in the order of the tasks if there is one worker, otherwise as they finish.
        """
        ...


@contextmanager
def open_runner(workers: int | None = None, distributed: bool = False) -> Generator[Runner]:
    """Open a worker pool; each process starts with its first task.

    Args:
        workers: number of processes; by default one a processor. With 1 worker, or a single block, the tasks
            run in this process.
        distributed: whether the processes run on a Ray cluster; see `ray_processes`.

    Raises:
        UserError: if a worker process dies, or there is no cluster; any exception of a function.
    """
    opened = ray_processes(workers) if distributed else _local_processes(workers or _processors())
    with opened as processes:
        yield partial(_run_tasks, processes=processes, here=not distributed)


def _run_tasks(
    function: Callable[[Task], Result],
    blocks: Sequence[Sequence[Task]],
    /,
    processes: Sequence[Executor],
    here: bool,
) -> Generator[Result]:
    if here and min(len(processes), len(blocks)) <= 1:
        yield from (function(task) for block in blocks for task in block)
        return
    waiting = iter(blocks)
    running: dict[Future[Result], tuple[Executor, Iterator[Task]]] = {}

    def feed(process: Executor, tasks: Iterator[Task]) -> None:
        """Submit a process's next task: from its block, or from the next block."""
        while True:
            for task in tasks:
                running[process.submit(function, task)] = process, tasks
                return
            block = next(waiting, None)
            if block is None:
                return
            tasks = iter(block)

    for process in processes:
        feed(process, iter(()))
    while running:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            process, tasks = running.pop(future)
            result = future.result()
            feed(process, tasks)
            yield result


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _local_processes(count: int) -> Generator[list[ProcessPoolExecutor]]:
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        try:
            pools = [ProcessPoolExecutor(1, context, _start_worker) for _ in range(count)]
            yield [stack.enter_context(pool) for pool in pools]
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for lack of memory; repeat the command with fewer "
                "--workers to resume"
            ) from error


def _start_worker() -> None:
    """Leave Ctrl-C to the parent process, and exit when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
