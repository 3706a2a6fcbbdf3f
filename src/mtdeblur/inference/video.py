"""Deblurring of a video, resumable after it is killed at any moment.

The frames are encoded in segments of about two seconds. Each is written atomically into a folder beside the
result and noted in a journal there; a later run resumes after the last one. At the end they are joined.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from mtdeblur.errors import UserError, counted, require
from mtdeblur.files.atomic import check_writable, reason, remove_parts, synchronise
from mtdeblur.files.digest import fingerprint
from mtdeblur.files.journal import Journal, Record, open_journal
from mtdeblur.inference.batch import Progressive
from mtdeblur.inference.frames import FrameDeblurrer, Shot, Timing, shots
from mtdeblur.media.clip import Clip, survey
from mtdeblur.media.encoding import Coding, choose
from mtdeblur.media.joining import CONTAINERS, UncopyableError, join, uncopyable
from mtdeblur.media.segments import write_segment

_SECONDS = 2  # of a segment
_JOURNAL = "journal"


class VideoDeblurrer(Progressive, Protocol):
    """The interface of a deblurrer that this module uses."""

    def keep_parts(self, height: int, width: int, kept: Sequence[Any] = (), /) -> list[Any]:
        """Deblur all pictures of a size in the same parts; see `mtdeblur.inference.deblurrer.Deblurrer`."""
        ...


class Progress(Protocol):
    """Receiver of the progress, such as `mtdeblur.data.making.workers.Stages`."""

    def began(self, what: str, total: int, done: int) -> None:
        """The work on `total` items begins, of which earlier runs have finished `done`."""
        ...

    def advanced(self) -> None:
        """One more item is finished."""
        ...

    def noticed(self, notice: str) -> None:
        """A one-line notice for the user."""
        ...


@dataclass(frozen=True)
class VideoJob:
    """A video, its result, and how it is written.

    Attributes:
        clip: the video.
        target: file of the result.
        coding: of its frames.
        container: FFmpeg's name of its format.
        left_out: index of each stream that the result cannot hold, and a line for the user.
        overwrite: whether an existing result is replaced.
    """

    clip: Clip
    target: Path
    coding: Coding
    container: str
    left_out: Mapping[int, str]
    overwrite: bool

    @property
    def parts(self) -> Path:
        """The folder of segments and journal, which exists as long as the work is unfinished."""
        return parts_of(self.target)


def parts_of(target: Path) -> Path:
    """The folder with the unfinished work on a result."""
    return target.with_name(f".{target.name}.parts")


def plan_video(
    source: Path,
    output: Path | None = None,
    *,
    codec: str | None = None,
    crf: int | None = None,
    overwrite: bool = False,
) -> VideoJob:
    """Look at a video and plan its result; nothing is written.

    Args:
        source: the video.
        output: file of the result, whose suffix decides the format, or an existing folder; by default
            `clip-deblurred.mp4` beside `clip.mp4`.
        codec: see `mtdeblur.media.encoding.choose`.
        crf: see there.
        overwrite: whether an existing result is replaced; never the video itself.

    Raises:
        UserError: if the video cannot be read or is interlaced, or the result cannot be written, exists, or
            would overwrite the video.
    """
    require("av", "data", f"reading the video {source}")
    target = _target(source, output)
    if target.suffix.lower() not in CONTAINERS:
        raise UserError(f"cannot write {target}: a video's name must end in {', '.join(CONTAINERS)}")
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"{target} would overwrite the input {source}; choose another output")
    if not (parts_of(target) / _JOURNAL).exists():
        _refuse_existing(target, overwrite)
    check_writable(target)
    clip, container = survey(source), CONTAINERS[target.suffix.lower()]
    coding = choose(clip, container, codec, crf)
    return VideoJob(clip, target, coding, container, uncopyable(clip, container), overwrite)


def deblur_video(
    deblurrer: VideoDeblurrer, job: VideoJob, settings: Mapping[str, Any], progress: Progress
) -> int:
    """Deblur a video, or what an earlier run has left of it.

    Args:
        deblurrer: the deblurrer.
        job: of `plan_video`.
        settings: what else decides the pixels, of JSON's types, such as the weights.
        progress: receives notices and the progress.

    Returns:
        number of frames.

    Raises:
        UserError: if the result cannot be written, another process works on it, or an earlier run had other
            settings or another input.
    """
    with open_journal(job.parts / _JOURNAL, _description(job, settings)) as journal:
        work = _Work(job, journal)
        if not work.is_in_place():  # where an earlier run was killed at its very end
            _refuse_existing(job.target, job.overwrite)
            for notice in (*job.coding.notices, *job.left_out.values()):
                progress.noticed(notice)
            work.keep_parts(deblurrer)
            work.encode(deblurrer, progress)
            work.join(progress)
    _remove(job.parts)
    return work.frames


class _Work:
    """The state of the work on a job, as its journal has it.

    Attributes:
        segments: records of the finished segments, in order.
    """

    def __init__(self, job: VideoJob, journal: Journal) -> None:
        self._job, self._journal = job, journal
        self._joined = job.parts / f"joined{job.target.suffix}"
        self.segments: list[Record] = []
        for record in journal.records:
            if record.get("segment") == len(self.segments) and self._is_whole(record):
                self.segments.append(record)

    @property
    def frames(self) -> int:
        """Number of frames in the finished segments."""
        return sum(record["frames"] for record in self.segments)

    def is_in_place(self) -> bool:
        """Whether the result is in its place, and only the parts are left to remove."""
        joined = bool(self._recorded("joined"))
        return joined and self._job.target.exists() and not self._joined.exists()

    def keep_parts(self, deblurrer: VideoDeblurrer) -> None:
        """Deblur in the same parts of a picture as an earlier run, because the pixels may depend on them."""
        kept = self._recorded("parts")
        parts = deblurrer.keep_parts(self._job.clip.height, self._job.clip.width, *kept[:1])
        if not kept:
            self._journal.append({"parts": parts})

    def encode(self, deblurrer: VideoDeblurrer, progress: Progress) -> None:
        """Write the segments that are missing."""
        clip = self._job.clip
        progress.began("frames", max(clip.frames, self.frames), self.frames)
        if any(record["ended"] for record in self.segments):
            return
        remove_parts(self._job.parts)
        spared = sum(record["spared"] for record in self.segments)
        worker = FrameDeblurrer(deblurrer, clip, self._job.coding, self._job.container, progress.noticed)
        timing = Timing(
            max(1, round(1 / (clip.rate * clip.time_base))),
            self.segments[-1]["last"] if self.segments else None,
        )
        frames = shots(clip, self.frames, after_damage=spared > 0)
        upcoming = next(frames, None)
        while upcoming is not None:
            segment = chain([upcoming], islice(frames, max(1, round(_SECONDS * clip.rate)) - 1))
            upcoming = self._write(worker, segment, timing, frames, progress)
        spared = sum(record["spared"] for record in self.segments)
        if spared:
            frames = counted(spared, "damaged or interlaced frame")
            progress.noticed(f"{frames} of {clip.path} not deblurred")

    def _write(
        self,
        worker: FrameDeblurrer,
        segment: Iterator[Shot],
        timing: Timing,
        frames: Iterator[Shot],
        progress: Progress,
    ) -> Shot | None:
        """Write a segment, note it in the journal, and return the first frame after it."""
        number, before = len(self.segments), (worker.done, worker.spared)
        size = write_segment(self._path(number), worker.encode(segment, timing, progress.advanced))
        upcoming = next(frames, None)
        record = {
            "segment": number,
            "frames": worker.done - before[0],
            "spared": worker.spared - before[1],
            "last": timing.last,
            "bytes": size,
            "ended": upcoming is None,
        }
        self._journal.append(record)
        self.segments.append(record)
        return upcoming

    def join(self, progress: Progress) -> None:
        """Join the segments, and give the result its name."""
        job = self._job
        left_out = {*job.left_out, *self._recorded("left_out")}
        paths = [self._path(number) for number in range(len(self.segments))]
        while True:
            try:
                join(job.clip, job.coding, job.container, paths, self._joined, left_out)
                break
            except UncopyableError as error:
                progress.noticed(str(error))
                self._journal.append({"left_out": error.index})
                left_out.add(error.index)
        try:
            synchronise(self._joined)
            self._journal.append({"joined": True})
            self._put_in_place()
        except OSError as error:
            raise UserError(f"cannot write {job.target}: {reason(error)}") from error

    def _put_in_place(self) -> None:
        self._joined.replace(self._job.target)

    def _path(self, number: int) -> Path:
        return self._job.parts / f"{number:06d}.segment"

    def _is_whole(self, record: Record) -> bool:
        path = self._path(record["segment"])
        return path.is_file() and path.stat().st_size == record["bytes"]

    def _recorded(self, key: str) -> list[Any]:
        return [record[key] for record in self._journal.records if key in record]


def _description(job: VideoJob, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that determines the result."""
    import av

    return {
        "input": fingerprint(job.clip.path),
        "codec": job.coding.codec,
        "pixel_format": job.coding.pixel_format,
        "options": dict(job.coding.options),
        "container": job.container,
        "left_out": sorted(job.left_out),
        "libraries": {name: list(version) for name, version in av.library_versions.items()},
        "settings": dict(settings),
    }


def _target(source: Path, output: Path | None) -> Path:
    """File of the result; its suffix is that of the source where such files can be written."""
    suffix = source.suffix if source.suffix.lower() in CONTAINERS else ".mkv"
    if output is None:
        return source.with_name(f"{source.stem}-deblurred{suffix}")
    return output / f"{source.stem}{suffix}" if output.is_dir() else output


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        raise UserError(f"{target} exists already; choose another output or use --overwrite")


def _remove(parts: Path) -> None:
    """Remove the folder of parts; the journal goes last, so that a later run can finish this."""
    with suppress(OSError):
        for path in sorted(parts.iterdir(), key=lambda path: path.name == _JOURNAL):
            path.unlink()
        parts.rmdir()
