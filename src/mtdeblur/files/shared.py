"""A journal that several processes use at once, and claims by which they share the work.

Like the journal of `mtdeblur.files.journal` it is a text file of one JSON object a line, each synchronised to
the disk, and survives the death of its writers at any moment. A claim is a lock, so that it ends with its
process. One process must not open a journal twice.
"""

import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason
from mtdeblur.files.journal import Record, plain, whole_records
from mtdeblur.files.locks import byte_of, lock, unlock, wait_for_lock

_APPENDING, _USED = 2**39, 2**39 + 1  # bytes to lock


class SharedJournal:
    """An open journal; use `open_shared_journal`.

    Attributes:
        records: of all processes, in order, as of the last `refresh`.
        obsolete: whether to delete the journal at the end, unless another process uses it.
    """

    def __init__(self, path: Path, file: FileIO, kind: Record) -> None:
        self._path, self._file, self._kind, self._read = path, file, kind, 0
        self.records: list[Record] = []
        self.obsolete = False
        with self._appending():
            if self._read == 0:
                self._write(kind)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record and synchronise it to the disk; read what others have appended.

        Raises:
            OSError: if it cannot be written, for instance because the disk is full.
        """
        with self._appending():
            self._write(plain(record))
            self.records.append(plain(record))

    def refresh(self) -> None:
        """Read the records that other processes have appended.

        Raises:
            UserError: if the file is no journal of this kind.
        """
        self._file.seek(self._read)
        records, size = whole_records(BytesIO(self._file.readall()))
        if self._read == 0 and records and records.pop(0) != self._kind:
            raise UserError(f"{self._path} is no journal of this version; delete it, or use another folder")
        self._read += size
        self.records += records

    def claim(self, name: str) -> bool:
        """Claim a name for this process; whether no other process has claimed it."""
        return lock(self._file, byte_of(name))

    def release(self, name: str) -> None:
        """Give up a claim."""
        unlock(self._file, byte_of(name))

    @contextmanager
    def _appending(self) -> Generator[None]:
        wait_for_lock(self._file, _APPENDING)
        try:
            self.refresh()
            self._file.truncate(self._read)  # an incomplete line that a killed process has left
            yield
        finally:
            unlock(self._file, _APPENDING)

    def _write(self, record: Record) -> None:
        line = json.dumps(record).encode() + b"\n"
        written = 0
        while written < len(line):
            written += self._file.write(line[written:]) or 0
        os.fsync(self._file.fileno())
        self._read += len(line)


@contextmanager
def open_shared_journal(path: Path, kind: Mapping[str, Any]) -> Generator[SharedJournal]:
    """Open a journal, and create it with its folder if it does not exist.

    Args:
        path: the file.
        kind: what the journal is, of JSON's types.

    Raises:
        UserError: if the file is something else, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_in_use(path) as file:
            journal = SharedJournal(path, file, plain(kind))
            yield journal
            if journal.obsolete and lock(file, _USED):
                if sys.platform == "win32":
                    file.close()  # Windows deletes no open file, and so none that others use
                with suppress(OSError):
                    path.unlink()
    except OSError as error:
        raise UserError(f"cannot write {error.filename or path}: {reason(error)}") from error


def read_shared_journal(path: Path, kind: Mapping[str, Any]) -> list[Record]:
    """The records of a journal so far; none if there is no such journal or it cannot be read."""
    try:
        with path.open("rb") as file:
            records, _ = whole_records(file)
    except OSError:
        return []
    return records[1:] if records and records[0] == plain(kind) else []


def _open_in_use(path: Path) -> FileIO:
    """Open the file so that others see that it is used; again if it was deleted in the same moment."""
    while True:
        file = path.open("a+b", buffering=0)
        wait_for_lock(file, _USED, shared=True)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
