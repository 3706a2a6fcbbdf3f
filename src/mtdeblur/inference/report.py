"""A report of a batch for other programs: what became of every file."""

import json
import platform
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mtdeblur import __version__
from mtdeblur.errors import UserError
from mtdeblur.files.atomic import check_writable, write_text
from mtdeblur.inference.batch import Job, Outcome
from mtdeblur.inference.planning import Plan

_PACKAGES = ("torch", "numpy", "pyvips", "openvino", "onnxruntime")


class Report:
    """Collects what becomes of the files of a batch.

    Args:
        path: the JSON file to write; None for no report.
        work: the plan.
        settings: options and other facts that decide the results, of JSON's types.

    Raises:
        UserError: if the file cannot be written, or is no JSON file.
    """

    def __init__(self, path: Path | None, work: Plan, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = path, settings
        self._started, self._clock = datetime.now(UTC), time.perf_counter()
        self._open = dict.fromkeys(work.jobs)
        self._files: list[dict[str, Any]] = []
        if path is not None:
            _check(path, work)
        self._files += [_file(job, "finished by an earlier run") for job in work.finished]
        self._files += [_file(job, "skipped", reason="its results exist") for job in work.skipped]
        self._files += [
            {"source": str(path), "status": "passed over", "reason": "not a picture of a known format"}
            for found in work.found
            for path in found.others
        ]

    def add(self, outcome: Outcome) -> None:
        """Enter what became of a job."""
        self._open.pop(outcome.job, None)
        status = "done by another run" if outcome.elsewhere else "done"
        facts: dict[str, Any] = {"seconds": round(outcome.seconds, 3)}
        if outcome.reason:
            status, facts["reason"] = "failed", outcome.reason
        if outcome.size:
            facts["height"], facts["width"] = outcome.size
        if outcome.notices:
            facts["notices"] = list(outcome.notices)
        self._files.append(_file(outcome.job, status, **facts))

    def write(self, end: str) -> None:
        """Write the report, if one is wanted.

        Args:
            end: how the run ended: "complete", "interrupted" or "stopped".

        Raises:
            UserError: if it cannot be written.
        """
        if self._path is None:
            return
        files = [*self._files, *(_file(job, "not done") for job in self._open)]
        content = {
            "program": "mtdeblur",
            "end": end,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self._clock, 3),
            "counts": dict(Counter(file["status"] for file in files)),
            "settings": dict(self._settings),
            "versions": _versions(),
            "files": sorted(files, key=lambda file: file["source"]),
        }
        write_text(self._path, json.dumps(content, indent=1) + "\n")


def _file(job: Job, status: str, **facts: Any) -> dict[str, Any]:
    """What became of a photograph."""
    outputs = {str(path): size for path in job.outputs if (size := _size(path)) is not None}
    return {
        "source": str(job.source),
        "target": str(job.target),
        "status": status,
        **facts,
        "bytes": _size(job.source),
        "outputs": outputs,
    }


def _size(path: Path) -> int | None:
    """Size of a file in bytes, if it is there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _check(path: Path, work: Plan) -> None:
    if path.suffix.lower() != ".json":
        raise UserError(f"the report {path} is JSON: its name must end in .json")
    check_writable(path)


def _versions() -> dict[str, str]:
    versions = {"mtdeblur": __version__, "python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
