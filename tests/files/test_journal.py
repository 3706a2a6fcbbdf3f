import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdeblur.errors import UserError
from mtdeblur.files.journal import open_journal

JOB = {"what": "averages", "levels": (7, 13)}
LINES = [{"n": number, "name": "é" * number} for number in range(5)]


def write(path, records, job=JOB):
    with open_journal(path, job) as journal:
        for record in records:
            journal.append(record)


def read(path, job=JOB):
    with open_journal(path, job) as journal:
        return journal.records


def test_what_is_done_is_known_to_the_next_run(tmp_path):
    path = tmp_path / "data" / "journal"
    write(path, LINES[:2])
    write(path, LINES[2:])
    assert read(path) == LINES


@settings(max_examples=20)
@given(cut=st.integers(0, 250), tail=st.binary(max_size=40))
@pytest.mark.fault("torn journal")
def test_a_torn_end_is_forgotten_and_the_journal_goes_on(tmp_path_factory, cut, tail):
    path = tmp_path_factory.mktemp("journal") / "journal"
    write(path, LINES)
    content = path.read_bytes()
    path.write_bytes(content[:cut] + b"\xff" + tail)
    whole = content[:cut].count(b"\n") - 1  # the first line says what the job is
    assert read(path) == LINES[: max(0, whole)]
    write(path, [{"more": 1}])
    assert read(path) == [*LINES[: max(0, whole)], {"more": 1}]


def test_another_jobs_journal_is_refused_and_kept(tmp_path):
    write(tmp_path / "journal", LINES)
    with pytest.raises(UserError, match="other settings"):
        read(tmp_path / "journal", {**JOB, "levels": [7]})
    assert read(tmp_path / "journal") == LINES


@pytest.mark.fault("two runs at once")
def test_two_processes_never_share_a_journal(tmp_path):
    pytest.importorskip("fcntl")
    with (
        open_journal(tmp_path / "journal", JOB),
        pytest.raises(UserError, match="another process"),
        open_journal(tmp_path / "journal", JOB),
    ):
        pass


@pytest.mark.fault("places that cannot be written")
def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "journal", tmp_path):
        with pytest.raises(UserError, match="cannot write"):
            read(path)


def test_a_record_survives_the_kill_that_follows_it(tmp_path):
    code = f"""
import itertools, pathlib
from mtdeblur.files.journal import open_journal
with open_journal(pathlib.Path({str(tmp_path / "journal")!r}), {{"job": 1}}) as journal:
    for number in itertools.count():
        journal.append({{"n": number}})
        print(number, flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    for _ in range(50):
        said = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    said = max([said, *map(int, process.stdout.read().split(b"\n")[:-1])])
    process.wait()
    process.stdout.close()
    found = [record["n"] for record in read(tmp_path / "journal", {"job": 1})]
    assert found == list(range(len(found)))
    assert len(found) - said in (1, 2)
