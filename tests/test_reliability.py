"""The report on reliability, with small numbers; `tools/reliability.py` writes it at length."""

import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
CASES = """
import os, pytest

@pytest.mark.fault("full disk")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_disk(number):
    assert number != 2

@pytest.mark.fault("killed worker process")
def test_kill():
    os._exit(1)

def test_no_fault():
    pass
"""


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("reliability")


def test_every_fault_is_described_and_injected_by_a_test(report) -> None:
    tests = Path(__file__).parent
    found = "".join(path.read_text("utf-8") for path in tests.rglob("test_*.py") if path != Path(__file__))
    for fault in report.FAULTS:
        assert f'fault("{fault}")' in found
    marked = {line.split('"')[1] for line in found.splitlines() if "pytest.mark.fault(" in line}
    assert marked == set(report.FAULTS)


def test_losses_are_counted_and_fail(report) -> None:
    records = [
        {"case": "a", "fault": "full disk"},
        {"case": "b", "fault": "full disk"},
        {"case": "c", "fault": "torn journal"},
        {"case": "a", "outcome": "passed"},
        {"case": "c", "outcome": "passed"},
        {"case": "c", "outcome": "failed"},
    ]
    faults = report._counted(records, ["full disk", "torn journal", "lack of memory"])
    assert faults["full disk"] == Counter(passed=1, failed=1)  # b did not end
    assert faults["torn journal"] == Counter(failed=1)
    found = report.Found({"png": Counter(read=3, hang=1)}, ["x.png: hang"], {}, faults)
    assert found.losses() == {"files": 1, "kills": 0, "faults": 3}  # one fault was not tried


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "safetensors", "pth", "export", "pack"])
def test_whole_files_are_always_the_same(report, kind: str) -> None:
    make = importlib.import_module("whole_files").whole_files
    assert make(kind) == make(kind)


@pytest.mark.slow
def test_a_short_report(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    command = [sys.executable, TOOLS / "reliability.py", "--each", "2", "--formats", "png", "--kills", "0"]
    command += ["--tests", "tests/files/test_journal.py", "-o", page]
    subprocess.run(command, check=True, capture_output=True)
    text = page.read_text("utf-8")
    assert "| [Damaged files](#damaged-files) | 2 | 0 |" in text
    assert "| torn journal |" in text


@pytest.mark.slow
def test_failures_and_killed_tests_are_losses(report, tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text(CASES)
    counts = report.inject([str(tmp_path)], [], 1)
    assert counts["full disk"] == Counter(passed=2, failed=1)
    assert counts["killed worker process"] == Counter(failed=1)
