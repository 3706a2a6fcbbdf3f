"""The journal of a long job, which lets a killed job resume where it stopped.

A journal is an append-only text file of one JSON object a line: first the job's description, then its
records, each synchronised to the disk before the job continues. An incomplete line, which a crash may leave,
is dropped together with all lines after it.
"""

import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from operator import index
from pathlib import Path
from typing import IO, Any

from mtdeblur.errors import UserError
from mtdeblur.files import locks
from mtdeblur.files.atomic import reason

if sys.platform != "win32":
    import fcntl

Record = dict[str, Any]


def plain(content: Any) -> Any:
    """JSON content after a round trip through JSON; numbers of NumPy and other libraries become Python's."""
    return json.loads(json.dumps(content, default=_number))


def _number(value: Any) -> int | float:
    try:
        return index(value)
    except TypeError:
        return float(value)


class Journal:
    """An open journal; use `open_journal`.

    Attributes:
        records: records of earlier runs of the job, in order.
    """

    def __init__(self, file: IO[bytes], records: list[Record]) -> None:
        self._file = file
        self.records = records

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record and synchronise it to the disk.

        Raises:
            OSError: if it cannot be written, for instance because the disk is full.
        """
        self._file.write(json.dumps(record, default=_number).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_journal(path: Path, job: Mapping[str, Any]) -> Generator[Journal]:
    """Open a job's journal, and create it with its folder if it does not exist.

    Args:
        path: the file.
        job: everything that determines the job's output, of JSON's types.

    Raises:
        UserError: if the journal belongs to another job, is locked by another process, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _lock(file, path.parent)
            file.seek(0)
            records, whole = whole_records(file)
            file.truncate(whole)
            journal = Journal(file, records[1:])
            if not records:
                journal.append(job)
            elif records[0] != plain(job):
                raise UserError(
                    f"{path.parent} holds an unfinished job with other settings; use the same settings, or "
                    "delete the folder"
                )
            yield journal
    except OSError as error:
        raise UserError(f"cannot write {error.filename or path}: {reason(error)}") from error


@contextmanager
def lock_folder(folder: Path) -> Generator[None]:
    """Lock a folder against other processes, and create it if it does not exist.

    Raises:
        UserError: if another process has locked it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+b")
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder}: {reason(error)}") from error
    with file:
        _lock(file, folder)
        yield


def _lock(file: IO[bytes], folder: Path) -> None:
    if not _locked(file):
        raise UserError(f"another process is working in {folder}; wait until it has ended")


def _locked(file: IO[bytes]) -> bool:
    """Lock a whole file without waiting, against this process too; whether it is locked now."""
    if sys.platform == "win32":
        return locks.lock(file, locks.byte_of(""))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def whole_records(file: IO[bytes]) -> tuple[list[Record], int]:
    """The records from the file's position up to the first incomplete one, and their size in bytes."""
    records: list[Record] = []
    whole = 0
    for line in file:
        if not (line.startswith(b"{") and line.endswith(b"}\n")):
            break
        try:
            records.append(json.loads(line))
        except ValueError:  # not JSON, or not UTF-8
            break
        whole += len(line)
    return records, whole
