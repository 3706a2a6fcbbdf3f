"""A journal that several processes use, and their claims; other processes are real ones."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtdeblur as package
from mtdeblur.errors import UserError
from mtdeblur.files.shared import open_shared_journal, read_shared_journal

SOURCE = str(Path(package.__file__).resolve().parents[1])
KIND = {"journal": "test", "version": 1}
LINES = [{"n": number, "name": "é" * number} for number in range(5)]
HEAD = f"""
import sys; sys.path.insert(0, {SOURCE!r})
from pathlib import Path
from mtdeblur.files.shared import open_shared_journal
path, kind = Path(sys.argv[1]), {KIND!r}
"""
TALK = """
with open_shared_journal(path, kind) as journal:
    print("open", flush=True)
    for line in sys.stdin:
        print(eval(line), flush=True)
"""


class Other:
    """Another process with the journal open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self._hear() == "open"

    def do(self, call: str) -> str:
        self.process.stdin.write(call + "\n")
        self.process.stdin.flush()
        return self._hear()

    def _hear(self) -> str:
        return self.process.stdout.readline().strip()


@contextmanager
def other(path: Path):
    command = [sys.executable, "-c", HEAD + TALK, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Other(process)
        process.stdin.close()


def write(path: Path, records) -> None:
    with open_shared_journal(path, KIND) as journal:
        for record in records:
            journal.append(record)


def read(path: Path):
    with open_shared_journal(path, KIND) as journal:
        return journal.records


def test_what_is_done_is_known_to_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "new/journal"
    assert read_shared_journal(path, KIND) == []
    assert not path.parent.exists()
    write(path, LINES[:2])
    write(path, LINES[2:])
    assert read(path) == LINES == read_shared_journal(path, KIND)
    assert read_shared_journal(path, {"journal": "another"}) == []
    with (
        pytest.raises(UserError, match="is no journal of this version"),
        open_shared_journal(path, {"journal": "another"}),
    ):
        pass
    assert read(path) == LINES


@settings(max_examples=20)
@given(cut=st.integers(0, 250), tail=st.binary(max_size=40))
@pytest.mark.fault("torn journal")
def test_a_torn_end_is_forgotten_and_the_journal_goes_on(tmp_path_factory, cut: int, tail: bytes) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    write(path, LINES)
    content = path.read_bytes()
    path.write_bytes(content[:cut] + b"\xff" + tail)
    whole = max(0, content[:cut].count(b"\n") - 1)  # the first line says what it is
    assert read_shared_journal(path, KIND) == LINES[:whole]
    write(path, [{"more": 1}])
    assert read(path) == [*LINES[:whole], {"more": 1}]


@pytest.mark.fault("two runs at once")
def test_processes_see_one_anothers_records_and_claims(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with other(path) as first, open_shared_journal(path, KIND) as journal:
        assert first.do("journal.claim('a')") == "True"
        assert not journal.claim("a")
        assert journal.claim("b")
        assert first.do("journal.claim('b')") == "False"
        first.do("journal.append({'a': 1})")
        first.do("journal.release('a')")
        assert journal.claim("a")
        assert journal.records == []
        journal.refresh()
        assert journal.records == [{"a": 1}]
        journal.append({"b": 2})
        assert first.do("journal.refresh() or journal.records") == "[{'a': 1}, {'b': 2}]"
        assert first.do("journal.claim('c')") == "True"
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert journal.claim("c")  # claims end with their process


@pytest.mark.fault("two runs at once")
def test_a_process_killed_while_it_writes_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with other(path) as first, open_shared_journal(path, KIND) as journal:
        first.do("journal.append({'a': 1})")
        with path.open("ab") as file:
            file.write(b'{"half": "a li')
        journal.append({"b": 2})
        first.do("journal.append({'c': 3})")
        journal.refresh()
        assert journal.records == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.slow
@pytest.mark.fault("two runs at once")
def test_no_record_is_lost_among_many_writers(tmp_path: Path) -> None:
    path, number = tmp_path / "journal", 40
    code = f"""
with open_shared_journal(path, kind) as journal:
    for n in range({number}):
        journal.append({{"who": int(sys.argv[2]), "n": n}})
"""
    command = [sys.executable, "-c", HEAD + code, str(path)]
    writers = [subprocess.Popen([*command, str(who)]) for who in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    records = read(path)
    assert len(records) == 4 * number
    for who in range(4):
        assert [record["n"] for record in records if record["who"] == who] == list(range(number))


def test_a_journal_is_deleted_when_nobody_uses_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with other(path) as first:
        with open_shared_journal(path, KIND) as journal:
            journal.append({"a": 1})
            journal.obsolete = True
        assert path.exists()
        assert first.do("setattr(journal, 'obsolete', True)") == "None"
    assert not path.exists()
    assert read(path) == []


@pytest.mark.fault("places that cannot be written")
def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "journal", tmp_path):
        with pytest.raises(UserError, match="cannot write"):
            read(path)


@pytest.mark.fault("full disk")
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path / "journal", LINES)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*journal: No space left"):
        write(tmp_path / "journal", [{"more": 1}])
    monkeypatch.undo()
    assert read(tmp_path / "journal")[:5] == LINES
