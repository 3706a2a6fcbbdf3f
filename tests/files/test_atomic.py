"""Atomic files: whole or not at all."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import (
    atomic_folder,
    atomic_path,
    check_writable,
    distinct_names,
    read_whole,
    remove_parts,
    write_atomically,
    write_text,
)


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "deep/down/a.bin"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["a.bin"]


def test_a_file_is_synchronised_through_a_descriptor_that_may_write(tmp_path: Path, monkeypatch) -> None:
    """Windows requires it."""
    fcntl = pytest.importorskip("fcntl")
    modes = []
    monkeypatch.setattr(
        os, "fsync", lambda file: modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE)
    )
    write_atomically(tmp_path / "a.bin", b"x")
    assert modes == [os.O_RDWR]


def test_new_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    write_atomically(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, SystemExit])
@pytest.mark.fault("SIGINT or SIGTERM")
def test_an_interruption_leaves_the_old_file_alone(tmp_path: Path, interruption: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            assert temporary.suffix == ".bin"
            temporary.write_bytes(b"half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.fault("full disk")
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*a\.bin: No space left on device"):
        write_atomically(tmp_path / "a.bin", b"x")
    assert os.listdir(tmp_path) == []


@pytest.mark.fault("links and paths that lead elsewhere")
def test_a_symbolic_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "original").write_bytes(b"original")
    (tmp_path / "link").symlink_to("original")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "original").read_bytes() == b"original"
    assert (tmp_path / "link").read_bytes() == b"new"


@pytest.mark.fault("places that cannot be written")
def test_what_cannot_be_written_is_told_early_and_late(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [
        (tmp_path / "file/a.png", "file"),
        (tmp_path / "file/deeper/a.png", "file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / ("x" * 300), "File name too long"),
    ]:
        with pytest.raises(UserError, match=f"cannot write .*{reason}"):
            check_writable(path)
        with pytest.raises(UserError, match="cannot write"):
            write_atomically(path, b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.fault("places that cannot be written")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="no permission"):
        check_writable(tmp_path / "a.png")
    with pytest.raises(UserError, match="Permission denied"):
        write_atomically(tmp_path / "a.png", b"x")


def test_checking_makes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new/a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/1.png", "a/2.png"], ["1", "2"]),
        (["a/1.png", "b/1.png", "b/2.png"], ["a-1", "b-1", "2"]),
        (["a/x/1.png", "b/x/1.png"], ["a-x-1", "b-x-1"]),
        (["a/1.png", "a/1.jpg"], ["1-png", "1-jpg"]),
        (["a/1.png", "a/1.jpg", "b/1.png"], ["a-1-png", "a-1-jpg", "b-1"]),
        (["a/IMG.png", "b/img.png"], ["a-IMG", "b-img"]),
        (["a/1.png", "b/1.png", "c/a-1.png"], ["a-a-1", "b-1", "c-a-1"]),
        ([b"a/caf\xe9.png"], ["caf%E9"]),
        (["1.png", "1.png"], ["1-png", "1-png-2"]),
    ],
)
def test_no_two_files_get_one_name(tmp_path: Path, paths: list, names: list[str]) -> None:
    places = [tmp_path / os.fsdecode(path) for path in paths]
    found = distinct_names(places, [place.stem for place in places])
    assert len(set(map(str.casefold, found))) == len(found)
    if names[0] != "a-a-1":  # there any names will do that differ
        assert found == names


def test_a_text_with_a_name_that_is_not_utf_8_is_valid_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", f"caf\u00e9,{os.fsdecode(b'caf')}\udce9\n")
    assert (tmp_path / "a.csv").read_text("utf-8") == "caf\u00e9,caf\\udce9\n"


@pytest.mark.fault("pipes and devices")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", Path("/dev/zero")):
            with pytest.raises(OSError, match="not a regular file"):
                read_whole(path)
    (tmp_path / "file").write_bytes(b"x")
    assert read_whole(tmp_path / "file") == b"x"


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    write_atomically(tmp_path / "sub" / "whole.png", b"x")
    (tmp_path / "sub" / ".0123456789abcdef.part.png").touch()
    (tmp_path / ".0123456789abcdef.part").touch()
    kept = [tmp_path / ".notes.part.png", tmp_path / "a.part.png"]
    for path in kept:
        path.touch()
    remove_parts(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*kept, tmp_path / "sub" / "whole.png"}


def test_what_a_living_process_writes_is_not_removed(tmp_path):
    sub = tmp_path / "sub"
    with atomic_path(sub / "a.png") as temporary:
        temporary.write_bytes(b"x")
        (sub / ".0123456789abcdef.part").touch()
        remove_parts(tmp_path, recursive=False)
        assert len(list(sub.iterdir())) == 2
        remove_parts(sub, recursive=False)
        assert list(sub.iterdir()) == [temporary]
    assert (sub / "a.png").read_bytes() == b"x"


def test_a_folder_appears_whole_and_a_new_attempt_begins_anew(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with suppress(KeyboardInterrupt), atomic_folder(target) as part:
        write_atomically(part / "a.txt", b"half")
        raise KeyboardInterrupt
    assert not target.exists()
    with atomic_folder(target) as part:
        assert not part.exists()
        write_atomically(part / "b.txt", b"whole")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.txt")] == [Path("set/b.txt")]
