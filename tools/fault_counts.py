"""A plugin of pytest: notes which tests inject which faults, and what becomes of them.

The environment variable MTDEBLUR_FAULTS names a file, to which a line of JSON is added for every test with
the marker `fault`, and another one when it has ended. A test without the second line did not end.
"""

import json
import os
from typing import Any

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the tests, and the faults that each injects."""
    for item in session.items:
        for marker in item.iter_markers("fault"):
            _note({"case": item.nodeid, "fault": marker.args[0]})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test; each of its parts may fail."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # the controller notes it
        return
    if report.when == "call" or report.outcome != "passed":
        _note({"case": report.nodeid, "outcome": report.outcome})


def _note(record: dict[str, Any]) -> None:
    with open(os.environ["MTDEBLUR_FAULTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
