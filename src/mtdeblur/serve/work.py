"""The work on one photograph: the same as on the command line, with views for the page."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from mtdeblur.inference.batch import Job, Observer, Progressive, deblur_file
from mtdeblur.media.picture import Picture
from mtdeblur.serve.tasks import Phase, Task
from mtdeblur.serve.views import LiveView, view
from mtdeblur.serve.wishes import check_region

_BETWEEN_FRAMES = 0.5  # seconds, and at least ten times what the last view has taken


class Deblurs(Progressive, Protocol):
    """The interface of a deblurrer that the server uses."""

    def describe(self, sizes: Sequence[tuple[int, int]], /) -> str:
        """The model in one line."""
        ...

    def in_turn(self, height: int, width: int) -> bool:
        """Whether each iteration is finished before the next begins."""
        ...

    def keep_parts(self, height: int, width: int, kept: Sequence[Any] = ()) -> list[Any]:
        """Choose the parts for pictures of a size."""
        ...


class Stopped(Exception):  # noqa: N818 - it is no error
    """The work is not wanted any more."""


class _TimeUp(Exception):  # noqa: N818
    """The work takes too long."""


def carry_out(task: Task, deblurrer: Deblurs, seconds: float) -> None:
    """Deblur a photograph and write its result; the task then is over.

    Args:
        task: of which `job.target` gets the result.
        deblurrer: made for its wishes.
        seconds: limit of time.

    Raises:
        Stopped: if the task is cancelled; it is not over then.
    """
    watcher = _Watcher(task, deblurrer, seconds)
    task.update(steps=deblurrer.iterations, model=deblurrer.describe(()))
    try:
        outcome = deblur_file(deblurrer, task.job, watcher, None, task.wishes.finish())
        reason, status = outcome.reason, 422
    except _TimeUp:
        reason, status = f"it took longer than {seconds:.0f} s, the limit of this server; try a region", 504
    took = watcher.seconds
    if reason:
        reason = reason.replace(f"{task.folder}/", "")
        task.end(phase=Phase.failed, error=reason, status=status, seconds=took)
    else:
        task.end(phase=Phase.done, share=1.0, seconds=took)


class _Watcher(Observer):
    """Tells a task how far it is, makes the views, and stops the work when it should."""

    def __init__(self, task: Task, deblurrer: Deblurs, limit: float) -> None:
        self.watches = task.watched
        self._task, self._deblurrer, self._limit = task, deblurrer, limit
        self._started = time.monotonic()
        self._live: LiveView | None = None
        self._next_frame = 0.0

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self._started

    def opened(self, job: Job, picture: Picture, shown: NDArray[Any]) -> None:
        self._check()
        height, width = picture.pixels.shape[:2]
        task = self._task
        task.size = (width, height) if picture.orientation > 4 else (height, width)
        check_region(task.wishes.region, *task.size)
        # The parts of one result, although every iteration is wanted: those of the command line.
        self._deblurrer.keep_parts(height, width)
        task.update(in_turn=self._deblurrer.in_turn(height, width))
        if self.watches:
            self._write("before", picture)
            self._live = LiveView(picture, task.wishes.finish())
            task.update(viewable=True)

    def advanced(self, job: Job, share: float) -> None:
        self._check()
        self._task.update(share=share, seconds=self.seconds)

    def watched(self, job: Job, step: int, estimate: NDArray[Any], rows: int) -> None:
        self._check()
        if self._live is None or (rows == len(estimate) and self._task.progress.in_turn):
            return  # the whole result follows at once
        self._live.add(step, estimate, rows)
        begun = self.seconds
        if begun >= self._next_frame:
            shown, self._task.frame = self._live.encode()
            self._task.update(frame=self._task.progress.frame + 1, frame_step=shown + 1)
            took = self.seconds - begun
            self._next_frame = begun + max(_BETWEEN_FRAMES, 10 * took)

    def estimated(self, job: Job, step: int, picture: Picture) -> None:
        self._check()
        self._write(f"step{step + 1}", picture)
        if self._live is not None:
            self._live.drop(step)
        self._task.update(ready=step + 1)

    def noticed(self, notice: str) -> None:
        line = notice.replace(f"{self._task.folder}/", "")
        self._task.update(notices=(*self._task.progress.notices, line))

    def _write(self, name: str, picture: Picture) -> None:
        content, suffix = view(picture)
        (self._task.folder / f"view-{name}{suffix}").write_bytes(content)

    def _check(self) -> None:
        if self._task.cancelled.is_set():
            raise Stopped
        if self.seconds > self._limit:
            raise _TimeUp
