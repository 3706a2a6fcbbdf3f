"""What a search of a folder takes, leaves out, and says."""

import os
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdeblur.errors import UserError
from mtdeblur.inference.finding import Patterns, search


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def taken(folder: Path, patterns: Patterns | None = None) -> list[str]:
    found = search(folder, patterns or Patterns())
    return [path.relative_to(folder).as_posix() for path in found.pictures]


def test_other_files_are_told_from_pictures(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "sub/b.JPG", "notes.txt", "sub/raw.CR2", "README", ".hidden.png", ".cache/c.png")
    found = search(tmp_path, Patterns())
    assert taken(tmp_path) == ["a.png", "sub/b.JPG"]
    assert {path.name for path in found.others} == {"notes.txt", "raw.CR2", "README"}
    assert found.passed_over() == (
        f"{tmp_path}: passed over 3 files of other formats: README, notes.txt, {Path('sub/raw.CR2')}"
    )
    assert search(make(tmp_path / "pure", "a.png"), Patterns()).passed_over() == ""


def test_many_other_files_are_counted_by_suffix(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "README", *(f"{n}.CR2" for n in range(7)), *(f"{n}.xmp" for n in range(4)))
    line = search(tmp_path, Patterns()).passed_over()
    assert "12 files of other formats: 7 with .cr2, 4 with .xmp, 1 without a suffix" in line


def test_patterns(tmp_path: Path) -> None:
    make(tmp_path, "a.PNG", "b.jpg", "day 1/c.jpg", "day 1/thumbs/d.jpg", "thumbs.jpg", "notes.txt")
    for include, exclude, expected in [
        (["*.jpg"], [], ["b.jpg", "day 1/c.jpg", "day 1/thumbs/d.jpg", "thumbs.jpg"]),
        (["*.png", "B.*"], [], ["a.PNG", "b.jpg"]),
        (["day 1/*"], [], ["day 1/c.jpg", "day 1/thumbs/d.jpg"]),
        (["./day 1/?.jpg"], [], ["day 1/c.jpg"]),
        ([], ["thumbs"], ["a.PNG", "b.jpg", "day 1/c.jpg", "thumbs.jpg"]),
        ([], ["day 1/"], ["a.PNG", "b.jpg", "thumbs.jpg"]),
        ([], ["day 1"], ["a.PNG", "b.jpg", "thumbs.jpg"]),
        (["*.jpg"], ["[bc].*", "*/thumbs"], ["thumbs.jpg"]),
    ]:
        assert taken(tmp_path, Patterns(include, exclude)) == expected, (include, exclude)
    assert search(tmp_path, Patterns(["*.jpg"])).others == []  # nobody asked for text
    with pytest.raises(UserError, match=r"none of the pictures in .* is left by --include '\*\.gif'"):
        search(tmp_path, Patterns(["*.gif"]))


NAMES = st.lists(st.text("abAB.-", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)


@given(NAMES, NAMES)
def test_a_path_matches_itself_and_is_left_out_with_its_folder(name: str, other: str) -> None:
    path = PurePath(name)
    if path.name:
        assert Patterns([path.as_posix()])(path)
        assert not Patterns([], [path.as_posix()])(path)
        assert not Patterns([], [path.as_posix()])(path / "inside.png")
        assert Patterns([other.upper()])(path) == Patterns([other.lower()])(path)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty contains no pictures"):
        search(make(tmp_path / "empty", "a.txt"), Patterns())
    with pytest.raises(UserError, match="cannot list"):
        search(tmp_path / "missing", Patterns())


@pytest.mark.fault("links and paths that lead elsewhere")
def test_links_are_not_followed_and_an_output_inside_is_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.png", "out/a.png", "sub/out/b.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    found = search(folder, Patterns(), folder / "out")
    assert [path.relative_to(folder) for path in found.pictures] == [Path("a.png"), Path("sub/out/b.png")]
    (tmp_path / "link").symlink_to(folder / "out", target_is_directory=True)
    assert search(folder, Patterns(), tmp_path / "link").pictures == found.pictures
    assert len(search(folder / "out", Patterns(), folder / "out").pictures) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.fault("pipes and devices")
def test_pipes_are_listed_by_their_names_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(make(tmp_path, "z.png") / "a.png")
    os.mkfifo(tmp_path / "b.sock")
    assert taken(tmp_path) == ["a.png", "z.png"]
    assert [path.name for path in search(tmp_path, Patterns()).others] == ["b.sock"]
