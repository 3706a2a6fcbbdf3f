"""The journal of a long job: a job that was killed at any moment resumes where it stopped.

A journal is a text file that only grows: first what the job is, then what is done, one JSON object a line,
each on the disk before the job goes on. A line that a crash has torn, and all that follows it, is forgotten.
"""

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from operator import index
from pathlib import Path
from typing import IO, Any

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason

try:
    import fcntl
except ImportError:  # Windows: two jobs at once are not noticed there
    fcntl = None

Record = dict[str, Any]


def plain(content: Any) -> Any:
    """Content of JSON's types as JSON gives it back; numbers of NumPy and other libraries become Python's."""
    return json.loads(json.dumps(content, default=_number))


def _number(value: Any) -> int | float:
    try:
        return index(value)
    except TypeError:
        return float(value)


class Journal:
    """An open journal; use `open_journal`.

    Attributes:
        records: what earlier runs of the job have done, in order.
    """

    def __init__(self, file: IO[bytes], records: list[Record]) -> None:
        self._file = file
        self.records = records

    def append(self, record: Mapping[str, Any]) -> None:
        """Note what is done; it is on the disk when this returns.

        Raises:
            OSError: if it cannot be written, such as on a full disk.
        """
        self._file.write(json.dumps(record, default=_number).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_journal(path: Path, job: Mapping[str, Any]) -> Generator[Journal]:
    """Open a job's journal while the block runs, and begin it if it is not there; the folder is made as well.

    Args:
        path: the file.
        job: all that decides what the job does, of JSON's types.

    Raises:
        UserError: if the journal is another job's, another process has it open, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _lock(file, path.parent)
            records = _whole_records(file)
            journal = Journal(file, records[1:])
            if not records:
                journal.append(job)
            elif records[0] != plain(job):
                raise UserError(
                    f"{path.parent} holds an unfinished job with other settings; repeat these, or delete it"
                )
            yield journal
    except OSError as error:
        raise UserError(f"cannot write {error.filename or path}: {reason(error)}") from error


@contextmanager
def lock_folder(folder: Path) -> Generator[None]:
    """Keep other processes out of a folder while the block runs; the folder is made if it is not there.

    Raises:
        UserError: if another process is at work in it, or it cannot be written.
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
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another process is working in {folder}; wait until it has ended") from None


def _whole_records(file: IO[bytes]) -> list[Record]:
    """The records up to the first that is not whole; the file is cut there."""
    records: list[Record] = []
    whole = 0
    file.seek(0)
    for line in file:
        if not (line.startswith(b"{") and line.endswith(b"}\n")):
            break
        try:
            records.append(json.loads(line))
        except ValueError:  # not JSON, or not UTF-8
            break
        whole += len(line)
    file.truncate(whole)
    return records
