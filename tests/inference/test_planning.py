"""What is planned, and what is refused before any file is written."""

import os
from pathlib import Path

import pytest
from PIL import Image

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import name_one_file
from mtdeblur.inference import planning
from mtdeblur.inference.batch import Comparison, Job
from mtdeblur.inference.planning import Existing, plan


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (100, 90, 80)).save(path)
    return path


@pytest.mark.parametrize("disguise", ["same", "dots", "symbolic link", "hard link", "folder link"])
@pytest.mark.fault("links and paths that lead elsewhere")
def test_an_input_is_never_overwritten(tmp_path: Path, disguise: str) -> None:
    source = photo(tmp_path / "in/a.png")
    match disguise:
        case "same":
            output = source
        case "dots":
            output = tmp_path / "in/../in/a.png"
        case "symbolic link":
            output = tmp_path / "b.png"
            output.symlink_to(source)
        case "hard link":
            output = tmp_path / "b.png"
            output.hardlink_to(source)
        case _:
            output = tmp_path / "link"
            output.symlink_to(tmp_path / "in")
    before = source.read_bytes()
    with pytest.raises(UserError, match="would overwrite the input"):
        plan([source], output, existing=Existing.REPLACE)
    assert source.read_bytes() == before


@pytest.mark.fault("links and paths that lead elsewhere")
def test_a_link_to_nowhere_is_a_result_that_exists(tmp_path: Path) -> None:
    source = photo(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(UserError, match="exists already"):
        plan([source], tmp_path / "out")
    assert not (tmp_path / "elsewhere.png").exists()


def test_no_output_is_another_input(tmp_path: Path) -> None:
    first, second = photo(tmp_path / "a.png"), photo(tmp_path / "out/a.png")
    with pytest.raises(UserError, match=r"out/a\.png would overwrite the input"):
        plan([first, second.parent], tmp_path / "out", existing=Existing.REPLACE)
    with pytest.raises(UserError, match="would overwrite the input"):
        plan([tmp_path / "out"], tmp_path / "out", existing=Existing.REPLACE)
    beside = photo(tmp_path / "there/b-compare.png")
    with pytest.raises(UserError, match=r"b-compare\.png would overwrite"):
        plan(
            [photo(tmp_path / "b.png"), beside],
            tmp_path / "there",
            compare=Comparison.side,
            existing=Existing.REPLACE,
        )


def test_two_inputs_never_share_an_output(tmp_path: Path) -> None:
    first, second = photo(tmp_path / "x/a.png"), tmp_path / "x/a"
    second.write_bytes(first.read_bytes())  # whose result gets the suffix that it lacks
    with pytest.raises(UserError, match="would become") as caught:
        plan([first, second], tmp_path / "out")
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    other = photo(tmp_path / "x/a-compare.png")
    with pytest.raises(UserError, match=r"would become .*a-compare\.png"):
        plan([first, other], tmp_path / "out", compare=Comparison.side)
    assert len(plan([first, first], tmp_path / "out").jobs) == 1


def test_photographs_of_one_name_in_different_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("100/1.png", "101/1.png", "101/2.png"):
        photo(tmp_path / name)
    jobs = plan([tmp_path / "100", tmp_path / "101"], tmp_path / "out").jobs
    assert {str(job.source.relative_to(tmp_path)): job.target.name for job in jobs} == {
        "100/1.png": "100-1.png",
        "101/1.png": "101-1.png",
        "101/2.png": "2.png",
    }
    photo(tmp_path / "b/100-1.png")
    with pytest.raises(UserError, match="would become"):
        plan([tmp_path / "100", tmp_path / "101", tmp_path / "b"], tmp_path / "elsewhere")


def test_existing_files_are_replaced_only_on_demand(tmp_path: Path) -> None:
    source, kept = photo(tmp_path / "a.png"), photo(tmp_path / "out/a.png")
    with pytest.raises(UserError, match=r"out/a\.png exists already"):
        plan([source], tmp_path / "out")
    assert plan([source], tmp_path / "out", existing=Existing.REPLACE).jobs == [Job(source, kept)]


def test_only_what_is_missing_is_made_when_results_are_skipped(tmp_path: Path) -> None:
    sources = [photo(tmp_path / f"in/{name}") for name in ("a.png", "b.png", "sub/c.jpg", "sub/d.tif")]
    out = tmp_path / "out"
    photo(out / "a.png")
    (out / "b.png").write_bytes(b"")
    (out / "sub").mkdir()
    (out / "sub/c.jpg").write_text("no picture")
    how = {"existing": Existing.SKIP}
    work = plan([tmp_path / "in"], out, **how)
    assert [job.source for job in work.skipped] == sources[:1]
    assert [job.source for job in work.jobs] == sources[1:]
    assert all(job.missing == job.outputs for job in work.jobs)
    for compare in Comparison:  # the result of `a` stays, and only its comparison is made
        job = plan([tmp_path / "in"], out, compare=compare, **how).jobs[0]
        assert job.source == sources[0]
        assert job.missing == (job.comparison,)
    (out / "a-compare.html").write_text("<html>")
    assert len(plan([tmp_path / "in"], out, compare=Comparison.page, **how).skipped) == 1


def test_nothing_is_left_to_do_when_all_results_exist(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    photo(tmp_path / "out/a.png")
    work = plan([source], tmp_path / "out", existing=Existing.SKIP)
    assert (work.jobs, len(work.skipped)) == ([], 1)


def test_results_inside_the_input_folder_are_no_inputs(tmp_path: Path) -> None:
    for name in ("a.png", "out/a.png", "out/sub/b.png"):
        photo(tmp_path / name)
    jobs = plan([tmp_path], tmp_path / "out", existing=Existing.REPLACE).jobs
    assert [job.source for job in jobs] == [tmp_path / "a.png"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="no pictures outside the output"):
        plan([tmp_path], tmp_path / "out", existing=Existing.REPLACE)


NAMES = [
    ("A.png", "a.png"),
    ("caf\N{LATIN SMALL LETTER E WITH ACUTE}.png", "cafe\N{COMBINING ACUTE ACCENT}.png"),
    ("STRASSE.png", "stra\N{LATIN SMALL LETTER SHARP S}e.png"),
    ("Trip/a.png", "trip/a.png"),
]


@pytest.mark.parametrize("names", NAMES, ids=["case", "composition", "folding", "folder"])
@pytest.mark.fault("unusual file names")
def test_names_that_a_file_system_takes_for_one_are_refused_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    inputs = [tmp_path / "x" / names[0], tmp_path / "y" / names[1]]
    for path in inputs:
        photo(path)
    one = name_one_file(tmp_path / "out" / names[0], tmp_path / "out" / names[1])
    folders = [tmp_path / "x", tmp_path / "y"]
    for answer in (False, True):
        monkeypatch.setattr(planning, "name_one_file", lambda first, second, answer=answer: answer)
        if answer:
            with pytest.raises(UserError, match="would become") as caught:
                plan(folders, tmp_path / "out")
            assert all(str(path) in str(caught.value) for path in inputs)
        else:
            assert len(plan(folders, tmp_path / "out").jobs) == 2
    assert not (tmp_path / "out").exists()
    # The question itself, against what the file system really does:
    for name in names:
        photo(tmp_path / "really" / name)
    assert one == (len([*(tmp_path / "really").rglob("*.png")]) == 1)
    assert name_one_file(*(tmp_path / "really" / name for name in names)) == one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["really", "x", "y"]


@pytest.mark.fault("places that cannot be written")
def test_outputs_that_cannot_work(tmp_path: Path) -> None:
    first, second = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    (tmp_path / "empty").mkdir()
    for inputs, output, reason in [
        ([first, second], tmp_path / "c.png", "is one file, but there are 2"),
        ([first], tmp_path / "c.gif", r"c\.gif: a file's name must end in"),
        ([first], second / "c.png", "is a file, not a folder"),
        ([first, second], first / "sub", "is a file, not a folder"),
        ([tmp_path / "empty"], tmp_path / "out", "empty contains no pictures"),
    ]:
        with pytest.raises(UserError, match=reason):
            plan(inputs, output)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png", "empty"]
