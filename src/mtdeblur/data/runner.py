"""Carries out many independent tasks, in this process or in several, and what hears of them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import TypeVar

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


def run_tasks(
    function: Callable[[Task], Result], blocks: Sequence[Sequence[Task]], workers: int
) -> Generator[Result]:
    """Apply a function to every task of every block.

    The tasks of a block go to the same process one after the other, so that what one has read serves the
    next. A process works on one task at a time, and its result is given as soon as it is there.

    Args:
        function: of a module, or a partial of one, and picklable with tasks and results.
        blocks: the tasks.
        workers: number of processes; 1 stands for this one.

    Yields:
        The results, in the order of the tasks if there is one worker, otherwise in no order.

    Raises:
        UserError: if a worker process dies; whatever the function raises otherwise.
    """
    if workers == 1:
        yield from (function(task) for block in blocks for task in block)
        return
    context = multiprocessing.get_context("spawn")
    waiting = iter(blocks)
    running: dict[Future[Result], tuple[ProcessPoolExecutor, Iterator[Task]]] = {}

    def feed(pool: ProcessPoolExecutor, tasks: Iterator[Task]) -> None:
        """Give a process its next task: of its block, or of the next block."""
        while True:
            for task in tasks:
                running[pool.submit(function, task)] = pool, tasks
                return
            block = next(waiting, None)
            if block is None:
                return
            tasks = iter(block)

    with ExitStack() as stack:
        for _ in range(min(workers, len(blocks))):
            feed(stack.enter_context(ProcessPoolExecutor(1, context, _start_worker)), iter(()))
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    pool, tasks = running.pop(future)
                    result = future.result()
                    feed(pool, tasks)
                    yield result
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
