"""Carries out many independent tasks, in this process, in several or on a cluster, and what hears of them."""

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
    """Hears how long work goes on; the methods do nothing here, and a progress display overrides them."""

    def began(self, what: str, total: int, done: int) -> None:
        """A stage begins: so many of these, of which earlier runs have done so many."""

    def advanced(self) -> None:
        """One more of the stage is done."""

    def noticed(self, notice: str) -> None:
        """Something that the user should know, in one line."""


class Runner(Protocol):
    """What `open_runner` gives."""

    def __call__(
        self, function: Callable[[Task], Result], blocks: Sequence[Sequence[Task]], /
    ) -> Generator[Result]:
        """Apply a function to every task of every block.

        The tasks of a block go to the same process one after the other, so that what one has read serves the
        next. A process works on one task at a time, and its result is given as soon as it is there: what is
        in flight does not grow with the number of tasks.

        Args:
            function: of a module, or a partial of one, and picklable with tasks and results.
            blocks: the tasks.

        Yields:
            The results, in the order of the tasks if there is one worker, otherwise in no order.
        """
        ...


@contextmanager
def open_runner(workers: int | None = None, distributed: bool = False) -> Generator[Runner]:
    """Keep processes for tasks while the block runs; each starts with its first task.

    Args:
        workers: number of processes, by default one a processor; 1 stands for this one, which also takes a
            single block.
        distributed: whether the processes are on a Ray cluster; see `ray_processes`.

    Raises:
        UserError: if a worker process dies, or there is no cluster; whatever a function raises otherwise.
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
        """Give a process its next task: of its block, or of the next block."""
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
                "a worker process was killed, perhaps for want of memory; what is done is kept: repeat the "
                "command with fewer --workers"
            ) from error


def _start_worker() -> None:
    """Let Ctrl-C to the parent process, and end when that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
