"""What runs in an output folder have finished, so that a repeated command does only the rest.

The journal of a folder has a record for each finished photograph: the identity of its file (path, size and
time of its last change), the sizes of its results, and the settings. It is deleted when all is done.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

from mtdeblur.files.journal import Record, plain
from mtdeblur.files.places import is_local, real
from mtdeblur.files.shared import read_shared_journal
from mtdeblur.inference.batch import Job

JOURNAL = ".mtdeblur-journal"
KIND = {"mtdeblur": "deblur", "journal": 1}


class State(Enum):
    """What the journal says about a job."""

    NEW = "its results are not from an unfinished run"
    BEGUN = "begun with these settings, but not finished"
    FINISHED = "finished with these settings"
    CHANGED = "finished, but the photograph has changed since"
    OTHER = "begun or finished with other settings"


class Ledger:
    """The journal's records of an output folder, for certain settings.

    Args:
        folder: the output folder.
        settings: what decides the pixels of results, of JSON's types.
        records: of the journal; more may be appended later.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], records: list[Record] | None = None
    ) -> None:
        self.folder, self.settings = folder, plain(dict(settings))
        self.id = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]
        self.records = read_shared_journal(folder / JOURNAL, KIND) if records is None else records
        self._read = 0
        self._latest: dict[str, Record] = {}  # of each target
        self._parts: dict[str, list[Any]] = {}
        self._values: dict[str, Record] = {}

    def state(self, job: Job) -> State:
        """What is known about a job."""
        record = self._record_of(job)
        if record is None:
            return State.NEW
        outputs = {self._name(path): _size(path) for path in job.outputs}
        if "begun" in record:
            if record["settings"] == self.id:
                return State.BEGUN
            return State.NEW if max(outputs.values()) < 0 else State.OTHER
        if not outputs.items() <= record["outputs"].items():
            return State.NEW
        if record["settings"] != self.id:
            return State.OTHER
        return State.FINISHED if record["source"] == identity(job.source) else State.CHANGED

    def difference(self, job: Job) -> str:
        """Settings with which a job was finished, where they differ, for the user."""
        record = self._record_of(job)
        before = self._values.get(record["settings"], {}) if record else {}
        names = [name for name in self.settings if before.get(name) != self.settings[name]]
        return ", ".join(f"{name} {before.get(name)}, now {self.settings[name]}" for name in names)

    def parts(self, key: str) -> list[Any] | None:
        """The parts in which pictures of a kind were deblurred, see `Deblurrer.keep_parts`."""
        self._catch_up()
        return self._parts.get(f"{self.id} {key}")

    def opening(self) -> list[Record]:
        """Records with which a run begins."""
        self._catch_up()
        return [] if self.id in self._values else [{"settings": self.id, "values": self.settings}]

    def parts_record(self, key: str, parts: list[Any]) -> Record:
        """The record of the parts for pictures of a kind."""
        return {"parts": f"{self.id} {key}", "value": parts}

    def beginning(self, job: Job) -> Record:
        """The record of a job that begins."""
        return {"begun": self._name(job.target), "settings": self.id}

    def finishing(self, job: Job, source: list[Any]) -> Record:
        """The record of a finished job.

        Args:
            job: the job.
            source: the `identity` of the photograph before it was read.
        """
        outputs = {self._name(path): _size(path) for path in job.outputs}
        return {
            "finished": self._name(job.target),
            "source": source,
            "outputs": outputs,
            "settings": self.id,
        }

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _record_of(self, job: Job) -> Record | None:
        self._catch_up()
        return self._latest.get(self._name(job.target))

    def _catch_up(self) -> None:
        """Read the records that are new."""
        for record in islice(self.records, self._read, None):
            self._read += 1
            with suppress(KeyError, TypeError):  # of other versions
                if "begun" in record or "finished" in record:
                    self._latest[record.get("begun") or record["finished"]] = record
                elif "parts" in record:
                    self._parts[record["parts"]] = record["value"]
                elif "values" in record:
                    self._values[record["settings"]] = record["values"]


LedgerOf = Callable[[Path], Ledger]
"""Gives the ledger of an output folder."""


def identity(source: Path) -> list[Any]:
    """Path, size in bytes and time of the last change in nanoseconds, of JSON's types."""
    try:
        status = source.stat()
    except OSError:
        return [str(real(source))]
    changed = status.st_mtime_ns if is_local(source) else str(status.st_mtime)
    return plain([str(real(source)), status.st_size, changed])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
