"""One photograph on the server: its files, what is asked for, and how far it is."""

import re
import shutil
import time
import unicodedata
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Any

from mtdeblur.inference.batch import Job
from mtdeblur.serve.wishes import Wishes

_LONGEST = 80  # characters of a file's name without suffix


class Phase(StrEnum):
    """What a photograph is doing."""

    waiting = "waiting"
    running = "running"
    done = "done"
    failed = "failed"


@dataclass(frozen=True)
class Progress:
    """How far a photograph is.

    Attributes:
        phase: what it is doing.
        share: finished share of the work, from 0 to 1.
        seconds: that the work has taken.
        steps: number of iterations; 0 before it is known.
        ready: number of iterations whose results can be viewed.
        in_turn: whether the iterations run one after the other, and not all row by row.
        viewable: whether the photograph itself can be viewed.
        frame: number of the newest view of the iteration in work; 0 if there is none.
        frame_step: the iteration that it shows, from 1.
        model: the weights, precision and device, in one line.
        notices: one-line notices.
        error: why it failed, in one line.
        status: HTTP status of the failure.
    """

    phase: Phase = Phase.waiting
    share: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    ready: int = 0
    in_turn: bool = True
    viewable: bool = False
    frame: int = 0
    frame_step: int = 0
    model: str = ""
    notices: tuple[str, ...] = ()
    error: str = ""
    status: int = 0


@dataclass(eq=False)
class Task:
    """A photograph on the server.

    Only the worker that runs it changes its progress; everybody may read it.

    Attributes:
        key: a name that cannot be guessed.
        job: the files of the photograph and of the result, in a folder of their own.
        wishes: what the client asks for.
        size: height and width of the upright photograph.
        watched: whether views of the iterations are wanted.
        progress: how far it is.
        cancelled: set when nobody wants the result any more.
        over: set when it is done or has failed, or will never run.
        listeners: number of pages that are connected.
        heard: when a page was last connected, in seconds of `time.monotonic`.
        ended: when it was over, likewise.
        frame: the newest view of the iteration in work.
    """

    key: str
    job: Job
    wishes: Wishes
    size: tuple[int, int]
    watched: bool = True
    progress: Progress = field(default_factory=Progress)
    cancelled: Event = field(default_factory=Event)
    over: Event = field(default_factory=Event)
    listeners: int = 0
    heard: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    frame: bytes = b""

    @property
    def folder(self) -> Path:
        """The folder of all its files."""
        return self.job.source.parent

    def update(self, **changes: Any) -> None:
        """Change some attributes of the progress at once."""
        self.progress = replace(self.progress, **changes)

    def end(self, **changes: Any) -> None:
        """Change the progress for the last time."""
        self.update(**changes)
        self.ended = time.monotonic()
        self.over.set()

    def remove_files(self) -> None:
        """Remove all its files."""
        self.frame = b""
        shutil.rmtree(self.folder, ignore_errors=True)

    def view(self, name: str) -> Path | None:
        """The file of a view, "before" or "step1" and so on; None if it is not there."""
        return next(self.folder.glob(f"view-{name}.*"), None)

    def snapshot(self, place: int) -> dict[str, Any]:
        """The progress for a client, of JSON's types.

        Args:
            place: in the queue: 1 is next, 0 for none.
        """
        height, width = self.size
        about = {"id": self.key, "name": self.job.target.name, "width": width, "height": height}
        return about | {"place": place} | asdict(self.progress)


def safe_name(name: str) -> str:
    """The name of an uploaded file without anything that could leave its folder or hide it.

    Args:
        name: as the client gives it.
    """
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    name = "".join(sign for sign in name if sign.isprintable() and sign not in '<>:"|?*%').strip(" .")
    path = Path(name or "photograph")
    suffix = path.suffix if re.fullmatch(r"\.\w{1,8}", path.suffix, re.ASCII) else ""
    return (path.name.removesuffix(suffix)[:_LONGEST] or "photograph") + suffix
