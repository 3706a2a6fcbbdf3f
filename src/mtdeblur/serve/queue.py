"""The queue: photographs wait, threads work on a few at a time, and nothing is kept for long."""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from mtdeblur.errors import UserError, counted, one_line
from mtdeblur.inference.memory import keep_freed_memory, return_freed_memory
from mtdeblur.inference.recipe import Recipe
from mtdeblur.serve.limits import Limits, Refused
from mtdeblur.serve.tasks import Phase, Task
from mtdeblur.serve.work import Deblurs, Stopped, carry_out

Load = Callable[[Recipe], Deblurs]
"""Loads a deblurrer."""
_log = logging.getLogger("mtdeblur")
_PATIENCE = 30.0  # seconds that `close` waits for a thread


class Queue:
    """All photographs on the server.

    Args:
        folder: for their files.
        limits: of the queue.
        base: the server's own options for deblurrers.
        load: of deblurrers.

    Attributes:
        closing: whether the server ends; a handler of signals may set it.
    """

    def __init__(self, folder: Path, limits: Limits, base: Recipe, load: Load) -> None:
        self.folder, self.limits = folder, limits
        self._base, self._load = base, load
        self._tasks: dict[str, Task] = {}
        self._waiting: deque[Task] = deque()
        self._running: set[Task] = set()
        self._change = threading.Condition()
        self.closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"deblurring-{n}", daemon=True)
            for n in range(limits.running)
        ]
        keep_freed_memory()
        for thread in self._threads:
            thread.start()

    def new_folder(self) -> Path:
        """A folder for the files of a new photograph; its name cannot be guessed."""
        folder = self.folder / secrets.token_urlsafe(16)
        folder.mkdir(mode=0o700)
        return folder

    def check_room(self) -> None:
        """Refuse another photograph if the queue is full.

        Raises:
            Refused: with status 503.
        """
        if len(self._waiting) >= self.limits.waiting and len(self._running) >= self.limits.running:
            waiting = counted(len(self._waiting), "photograph")
            raise Refused(503, f"the queue is full ({waiting} waiting); try again in a few minutes")

    def submit(self, task: Task) -> None:
        """Add a task at the end of the queue.

        Raises:
            Refused: with status 503, if the queue is full or the server ends.
        """
        with self._change:
            if self.closing:
                raise Refused(503, "the server is being stopped")
            self.check_room()
            self._tasks[task.key] = task
            self._waiting.append(task)
            self._change.notify()

    def find(self, key: str) -> Task:
        """The task of a key.

        Raises:
            Refused: with status 404, if there is none, or not any more.
        """
        task = self._tasks.get(key)
        if task is None:
            raise Refused(404, "this photograph is not on the server any more; send it again")
        return task

    def place(self, task: Task) -> int:
        """Place in the queue: 1 is next, 0 for a task that does not wait."""
        with self._change:
            return self._waiting.index(task) + 1 if task in self._waiting else 0

    def discard(self, task: Task) -> None:
        """Stop a task and remove its files; if it is in work, as soon as it can be stopped."""
        with self._change:
            task.cancelled.set()
            self._tasks.pop(task.key, None)
            if task in self._waiting:
                self._waiting.remove(task)
            in_work = task in self._running
        if not in_work:
            self._forget(task)

    def sweep(self) -> None:
        """Discard what nobody watches or fetches any more; to be called every second or so."""
        now = time.monotonic()
        for task in list(self._tasks.values()):
            old = task.over.is_set() and now - task.ended > self.limits.keep
            alone = task.watched and not task.over.is_set() and not task.listeners
            if old or (alone and now - task.heard > self.limits.away):
                self.discard(task)

    def close(self) -> None:
        """Stop everything and remove all files."""
        with self._change:
            self.closing = True
            self._change.notify_all()
        for task in list(self._tasks.values()):
            self.discard(task)
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _work(self) -> None:
        """Work on one task after the other, in a thread."""
        held: tuple[Recipe, Deblurs] | None = None
        while (task := self._next()) is not None:
            try:
                recipe = task.wishes.recipe(self._base)
                if held is None or held[0] != recipe:
                    held = None  # its memory is free before the next is loaded
                    return_freed_memory()
                    held = recipe, self._load(recipe)
                carry_out(task, held[1], self.limits.seconds)
            except Stopped:
                pass
            except UserError as error:  # of loading
                task.end(phase=Phase.failed, error=str(error), status=422)
            except Exception as error:
                _log.exception("a photograph failed")
                task.end(phase=Phase.failed, error=f"internal error: {one_line(error)}", status=500)
            finally:
                with self._change:
                    self._running.discard(task)
                if task.cancelled.is_set():
                    self._forget(task)
                elif task.progress.phase == Phase.failed:
                    task.remove_files()
                return_freed_memory()

    def _next(self) -> Task | None:
        """The next task, as soon as there is one; None if the server ends."""
        with self._change:
            while not self._waiting and not self.closing:
                self._change.wait()
            if self.closing:
                return None
            task = self._waiting.popleft()
            self._running.add(task)
            task.update(phase=Phase.running)
            return task

    def _forget(self, task: Task) -> None:
        task.remove_files()
        if not task.over.is_set():
            task.end(phase=Phase.failed, error="it was cancelled", status=410)
