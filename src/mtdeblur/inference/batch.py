"""Deblurring of one file to the files of its results, and what became of it."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import DiskError
from mtdeblur.files.places import is_local
from mtdeblur.inference.devices import out_of_memory
from mtdeblur.inference.finish import WHOLE, Finish
from mtdeblur.inference.strips import Report, Watch
from mtdeblur.inference.within import Box
from mtdeblur.media.comparison import side_by_side, write_page
from mtdeblur.media.picture import Picture
from mtdeblur.media.pictures import read_picture, read_size, write_picture
from mtdeblur.media.working import seen, with_estimate


class Progressive(Protocol):
    """The interface of a deblurrer that this module uses."""

    @property
    def iterations(self) -> int:
        """Number of estimates that `progress` yields."""
        ...

    def progress(
        self,
        image: NDArray[Any],
        report: Report | None,
        /,
        *,
        every: bool,
        notify: Callable[[str], None],
        watch: Watch | None = None,
        within: Box | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Yield every iteration's estimate, of the shape and dtype of `image`: (H, W, 3), uint8 or uint16.

        `report` receives the finished share of the work, from 0 to 1. Unless `every` is true, only the last
        estimate is yielded. `notify` receives notices for the user. `watch`, only given to observers that
        watch, receives estimates while their rows are being filled. `within`, only given with a region, is
        the part that must be deblurred.
        """
        ...


class Comparison(StrEnum):
    """Forms of a before/after file."""

    side = "side"
    page = "page"


@dataclass(frozen=True)
class Job:
    """One photograph and the files that deblurring it writes.

    Attributes:
        source: the photograph.
        target: its last estimate.
        iterations: one file an iteration, in order; may be empty.
        comparison: the before/after file, or None; a page if its suffix is `.html`.
        keep: outputs that exist and are not written.
    """

    source: Path
    target: Path
    iterations: tuple[Path, ...] = ()
    comparison: Path | None = None
    keep: frozenset[Path] = frozenset()

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files of the job, in the order in which they are written: the target last."""
        return (*self.iterations, *([self.comparison] if self.comparison else []), self.target)

    @property
    def missing(self) -> tuple[Path, ...]:
        """The files that the job writes."""
        return tuple(path for path in self.outputs if path not in self.keep)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        reason: of its failure, in one line; empty if all its files are written.
        disk: whether the failure is that of the disk, so that other jobs would fail, too.
        seconds: of work.
        size: height and width of the photograph in pixels, if it could be read.
        notices: one-line notices for the user.
        elsewhere: whether another run in the same folder has done it.
    """

    job: Job
    reason: str = ""
    disk: bool = False
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    notices: tuple[str, ...] = ()
    elsewhere: bool = False


class Observer:
    """Receiver of a batch's progress; a progress display overrides the empty methods.

    Attributes:
        watches: whether the observer wants the pictures: every iteration is then computed as a result.
    """

    watches = False

    def chose(self, line: str) -> None:
        """The model and the estimated time, in one line."""

    def started(self, job: Job) -> None:
        """A job begins."""

    def opened(self, job: Job, picture: Picture, shown: NDArray[Any]) -> None:
        """The photograph is read; `shown` is what the network sees of it: (H, W, 3), uint8 or uint16."""

    def advanced(self, job: Job, share: float) -> None:
        """A share of a job is finished, from 0 to 1."""

    def watched(self, job: Job, step: int, estimate: NDArray[Any], rows: int) -> None:
        """Rows of a step's estimate are finished, see `mtdeblur.inference.strips.Watch`."""

    def estimated(self, job: Job, step: int, picture: Picture) -> None:
        """The result of a step, from 0, is finished; only told to observers that watch."""

    def noticed(self, notice: str) -> None:
        """A one-line notice for the user."""

    def ended(self, outcome: Outcome) -> None:
        """A job is finished or has failed; the next job follows."""


def sizes(jobs: Sequence[Job]) -> list[tuple[int, int]]:
    """Heights and widths of the readable photographs of the jobs."""
    return [size for job in jobs if (size := size_of(job.source)) is not None]


def size_of(source: Path) -> tuple[int, int] | None:
    """Height and width of a photograph; None if it is unreadable or at an address."""
    return read_size(source) if is_local(source) else None


@dataclass(frozen=True)
class Folder:
    """An output folder as it was when the work began.

    Attributes:
        path: the folder.
        identity: its device and number there; None for another machine, where they may differ.
    """

    path: Path
    identity: tuple[int, int] | None

    @classmethod
    def at(cls, path: Path) -> "Folder":
        """The folder at a path."""
        status = path.stat()
        return cls(path, (status.st_dev, status.st_ino))

    def check(self) -> None:
        """Refuse to write into another folder that has taken its place.

        Raises:
            DiskError: if the folder is not there any more: it was deleted, or its disk was unmounted.
        """
        try:
            there = Folder.at(self.path).identity
        except OSError:
            there = None
        if there is None or self.identity not in (None, there):
            raise DiskError(
                f"the output folder {self.path} is gone from {platform.node()}: it was deleted, its disk was "
                "removed, or it is not shared with this machine"
            )


def deblur_file(
    deblurrer: Progressive,
    job: Job,
    observer: Observer | None = None,
    folder: Folder | None = None,
    finish: Finish = WHOLE,
) -> Outcome:
    """Deblur one photograph; each file is written atomically, and the target last.

    Args:
        deblurrer: the deblurrer.
        job: see `mtdeblur.inference.planning.plan`.
        observer: receives progress and notices.
        folder: the output folder, if any.
        finish: what results keep of estimates.
    """
    work = _Work(deblurrer, job, observer or Observer(), folder, finish)
    started = time.perf_counter()
    reason, disk = "", False
    try:
        work.run()
    except UserError as error:
        named = any(str(path) in str(error) for path in (job.source, *job.outputs))
        disk = isinstance(error, DiskError)
        reason = str(error) if named or disk else f"cannot deblur {job.source}: {error}"
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = f"cannot deblur {job.source}: not enough memory, even for the smallest tiles"
    return Outcome(job, reason, disk, time.perf_counter() - started, work.size, tuple(work.notices))


class _Work:
    """One job being done."""

    def __init__(
        self, deblurrer: Progressive, job: Job, observer: Observer, folder: Folder | None, finish: Finish
    ) -> None:
        self._deblurrer, self._job, self._observer, self._folder = deblurrer, job, observer, folder
        self._finish = finish
        self.size: tuple[int, int] | None = None
        self.notices: list[str] = []

    def run(self) -> None:
        """Read, deblur and write.

        Raises:
            UserError: if anything fails.
        """
        job, missing = self._job, set(self._job.missing)
        blurred = read_picture(job.source, spooled=True)
        self.size = blurred.pixels.shape[0], blurred.pixels.shape[1]
        for notice in blurred.notices:
            self._notice(f"{job.source}: {notice}")
        if self._finish.jpeg_quality is not None:
            blurred = replace(blurred, coding=replace(blurred.coding, quality=self._finish.jpeg_quality))
        watches = self._observer.watches
        every = watches or not missing.isdisjoint(job.iterations)
        estimate = shown = seen(blurred)
        self._observer.opened(job, blurred, shown)
        more: dict[str, Any] = {"watch": partial(self._observer.watched, job)} if watches else {}
        if box := self._finish.box(blurred):
            more["within"] = box
        progress = self._deblurrer.progress(
            shown,
            partial(self._observer.advanced, job),
            every=every,
            notify=lambda line: self._notice(f"{job.source}: {line}"),
            **more,
        )
        deblurred: Picture | None = None
        for number, estimate in enumerate(progress):
            wanted = not missing.isdisjoint(job.iterations[number : number + 1])
            deblurred = self._result(blurred, shown, estimate) if wanted or watches else None
            if deblurred is not None and wanted:
                self._write(job.iterations[number], deblurred)
            if deblurred is not None and watches:
                self._observer.estimated(job, number, deblurred)
        deblurred = deblurred or self._result(blurred, shown, estimate)
        if job.comparison is not None and job.comparison in missing:
            self._compare(job.comparison, blurred, deblurred)
        if job.target in missing:
            self._write(job.target, deblurred)

    def _result(self, blurred: Picture, shown: NDArray[Any], estimate: NDArray[Any]) -> Picture:
        return with_estimate(blurred, shown, self._finish(blurred, shown, estimate))

    def _compare(self, path: Path, blurred: Picture, deblurred: Picture) -> None:
        if path.suffix != ".html":
            self._write(path, side_by_side(blurred, deblurred))
            return
        self._check_folder()
        write_page(path, self._job.source.name, blurred, deblurred)

    def _write(self, path: Path, picture: Picture) -> None:
        self._check_folder()
        write_picture(path, picture)

    def _check_folder(self) -> None:
        if self._folder is not None:
            self._folder.check()

    def _notice(self, line: str) -> None:
        self.notices.append(line)
        self._observer.noticed(line)
