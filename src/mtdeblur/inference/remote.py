"""Photographs and results at fsspec addresses: downloaded to temporary files, and uploaded whole."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mtdeblur.errors import UserError, one_line
from mtdeblur.files.places import is_local
from mtdeblur.inference.batch import Folder, Job, Observer, Outcome, Progressive, deblur_file
from mtdeblur.inference.finish import WHOLE, Finish

_WHOLE = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"))
"""Protocols of stores in which an object appears only when it is whole."""


def deblur_anywhere(
    deblurrer: Progressive,
    job: Job,
    observer: Observer | None = None,
    folder: Folder | None = None,
    finish: Finish = WHOLE,
) -> Outcome:
    """Deblur one photograph, of which files may be at addresses; otherwise as `deblur_file` does."""
    if is_local(job.source) and is_local(job.target):
        return deblur_file(deblurrer, job, observer, folder, finish)
    started, observer = time.perf_counter(), observer or Observer()
    with TemporaryDirectory(prefix="mtdeblur-") as place:
        copies = _copies(job, Path(place))
        try:
            if not is_local(job.source):
                _transfer(f"cannot read {job.source}", job.source, copies[job.source])
            renaming = _Renaming(observer, copies)
            outcome = deblur_file(deblurrer, _renamed(job, copies), renaming, folder, finish)
            if not outcome.reason and not is_local(job.target):
                for path in job.missing:
                    _transfer(f"cannot write {path}", copies[path], path)
        except UserError as error:
            outcome = Outcome(job, str(error))
    return replace(
        outcome,
        job=job,
        reason=_original(outcome.reason, copies),
        notices=tuple(_original(notice, copies) for notice in outcome.notices),
        seconds=time.perf_counter() - started,
    )


def _copies(job: Job, place: Path) -> dict[Path, Path]:
    """The file on disk for each file of a job."""
    source = job.source if is_local(job.source) else place / "source" / job.source.name
    copies = {job.source: source}
    for path in job.outputs:
        copies[path] = path if is_local(path) else place / "results" / path.name
    return copies


def _renamed(job: Job, copies: Mapping[Path, Path]) -> Job:
    return Job(
        copies[job.source],
        copies[job.target],
        tuple(copies[path] for path in job.iterations),
        copies[job.comparison] if job.comparison else None,
        frozenset(copies[path] for path in job.keep),
    )


def _original(line: str, copies: Mapping[Path, Path]) -> str:
    """A line for the user with the names that the user knows."""
    for path, copy in copies.items():
        line = line.replace(str(copy), str(path))
    return line


class _Renaming(Observer):
    """Passes progress on, with the names that the user knows."""

    def __init__(self, observer: Observer, copies: Mapping[Path, Path]) -> None:
        self._observer, self._copies = observer, copies

    def advanced(self, job: Job, share: float) -> None:
        self._observer.advanced(job, share)

    def noticed(self, notice: str) -> None:
        self._observer.noticed(_original(notice, self._copies))


def _transfer(failure: str, source: Any, target: Any) -> None:
    """Copy a file from or to an address; what is at the target is whole at any moment.

    Raises:
        UserError: if that fails.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_local(target):
            source.fs.get_file(source.path, str(target))
        elif target.protocol in _WHOLE:
            target.fs.put_file(str(source), target.path)
        else:
            part = target.with_name(f".{secrets.token_hex(8)}.part{target.suffix}")
            target.fs.put_file(str(source), part.path)
            target.fs.mv(part.path, target.path)
    except Exception as error:  # every driver has its own types of error
        raise UserError(f"{failure}: {one_line(error)}") from error
