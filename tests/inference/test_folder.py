"""Batches that are interrupted, repeated and done by two runs at once, with a deblurrer that darkens."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mtdeblur as package
from mtdeblur.errors import UserError
from mtdeblur.files.shared import SharedJournal
from mtdeblur.inference.batch import Comparison, Observer, Outcome
from mtdeblur.inference.folder import Means, deblur_batch
from mtdeblur.inference.parts import Parts
from mtdeblur.inference.planning import Existing, Plan, plan
from mtdeblur.inference.recipe import Recipe
from mtdeblur.inference.resuming import JOURNAL, KIND, Ledger
from mtdeblur.media.pictures import read_picture

SOURCE = str(Path(package.__file__).resolve().parents[1])


class Darken:
    """Takes 10 grey levels away; does something before each picture, and remembers their levels."""

    iterations = 1

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        self.seen: list[int] = []
        self.kept: dict[tuple[int, int], Any] = {}
        self._before = before

    def progress(self, image: np.ndarray, report, /, *, every, notify) -> Iterator[np.ndarray]:
        self._before(len(self.seen))
        self.seen.append(int(image[0, 0, 0]))
        yield image - np.array(10, image.dtype)

    def parts(self, height: int, width: int, results: int = 1) -> Parts:
        return Parts("windows", 64 + 8 * len(self.kept))

    def keep_parts(self, height: int, width: int, kept=()) -> list[Any]:
        self.kept[height, width] = kept
        return kept


class Stop(BaseException):
    """Stands for Ctrl-C, without pytest's reaction to it."""


def stop_at(number: int) -> Callable[[int], None]:
    def stop(present: int) -> None:
        if present == number:
            raise Stop

    return stop


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five photographs of grey levels 100 to 104, in two folders."""
    for number in range(5):
        photo(tmp_path / "in" / ("sub" if number > 2 else "") / f"{number}.png", 100 + number)
    return tmp_path / "in"


def photo(path: Path, level: int, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def planned(photos: Path, settings: Any = "settings", **options) -> Plan:
    out = photos.parent / "out"
    return plan([photos], out, ledger_of=lambda folder: Ledger(folder, {"s": settings}), **options)


def run(work: Plan, deblurrer: Darken | None = None, observer: Observer | None = None) -> list[Outcome]:
    means = Means(Recipe())
    return list(deblur_batch(work, deblurrer or Darken(), observer or Observer(), means))


def interrupt(work: Plan, number: int) -> None:
    """Stop a run in the middle of the picture of that number."""
    with pytest.raises(Stop):
        run(work, Darken(stop_at(number)))


def levels(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): int(read_picture(path).pixels.max())
        for path in sorted(folder.rglob("*.png"))
    }


WHOLE = {"0.png": 90, "1.png": 91, "2.png": 92, "sub/3.png": 93, "sub/4.png": 94}


def test_a_run_that_comes_to_its_end_leaves_only_results(photos: Path) -> None:
    (photos / "bad.png").write_text("hello")
    outcomes = run(planned(photos))
    assert [bool(outcome.reason) for outcome in outcomes] == [False] * 3 + [True] + [False] * 2
    out = photos.parent / "out"
    assert levels(out) == WHOLE
    assert not (out / JOURNAL).exists()
    with pytest.raises(UserError, match="exists already"):
        planned(photos)


def test_what_is_finished_is_not_done_again_after_an_interruption(photos: Path) -> None:
    out = photos.parent / "out"
    for existing in Existing:
        interrupt(planned(photos, existing=existing), 3)
        assert len(levels(out)) == 3
        before = {name: (out / name).stat().st_mtime_ns for name in levels(out)}
        work = planned(photos, existing=existing)
        assert [job.source.name for job in work.finished] == ["0.png", "1.png", "2.png"]
        again = Darken()
        run(work, again)
        assert again.seen == [103, 104]
        assert levels(out) == WHOLE
        assert all((out / name).stat().st_mtime_ns == time for name, time in before.items())
        shutil.rmtree(out)


def test_what_was_in_progress_is_done_again_even_if_its_file_is_there(photos: Path) -> None:
    # Killed between the renaming of the result and the record of it:
    interrupt(planned(photos), 1)
    photo(photos.parent / "out/1.png", 7)
    again = Darken()
    run(planned(photos), again)
    assert again.seen == [101, 102, 103, 104]
    assert levels(photos.parent / "out") == WHOLE


@pytest.mark.fault("files that change between runs")
def test_a_changed_photograph_is_done_again(photos: Path) -> None:
    interrupt(planned(photos), 3)
    photo(photos / "1.png", 201)
    work = planned(photos)
    assert [job.source.name for job in work.changed] == ["1.png"]
    again = Darken()
    run(work, again)
    assert again.seen == [201, 103, 104]
    assert levels(photos.parent / "out") == WHOLE | {"1.png": 191}


@pytest.mark.fault("files that change between runs")
def test_a_result_that_is_gone_or_other_is_not_taken_for_finished(photos: Path) -> None:
    interrupt(planned(photos), 3)
    out = photos.parent / "out"
    (out / "0.png").unlink()
    work = planned(photos)
    assert [job.source.name for job in work.finished] == ["1.png", "2.png"]
    (out / "1.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"1\.png exists already"):
        planned(photos)
    run(planned(photos, existing=Existing.REPLACE))
    assert levels(out) == WHOLE


def test_other_settings_are_told_and_nothing_is_mixed(photos: Path) -> None:
    interrupt(planned(photos, "sharp"), 3)
    with pytest.raises(UserError, match=r"other settings .*s sharp, now soft.* --overwrite"):
        planned(photos, "soft")
    assert len(planned(photos, "sharp").finished) == 3
    again = Darken()
    run(planned(photos, "soft", existing=Existing.REPLACE), again)
    assert again.seen == [100, 101, 102, 103, 104]


def test_a_run_with_other_settings_leaves_no_doubt_about_what_it_replaced(photos: Path) -> None:
    interrupt(planned(photos, "sharp"), 3)
    interrupt(planned(photos, "soft", existing=Existing.REPLACE), 1)
    work = planned(photos, "soft", existing=Existing.REPLACE)
    assert [job.source.name for job in work.finished] == ["0.png"]
    with pytest.raises(UserError, match="other settings"):
        planned(photos, "sharp")


def test_all_files_of_a_photograph_are_finished_or_none(photos: Path) -> None:
    how: dict[str, Any] = {"compare": Comparison.side, "iterations": 1}
    interrupt(planned(photos, **how), 3)
    (photos.parent / "out/1-compare.png").unlink()
    with pytest.raises(UserError, match="exists already"):
        planned(photos, **how)
    work = planned(photos, existing=Existing.SKIP, **how)
    assert [job.source.name for job in work.finished] == ["0.png", "2.png"]
    assert [path.name for path in work.jobs[0].missing] == ["1-compare.png"]


def test_pictures_of_a_size_are_done_in_the_same_parts_after_an_interruption(photos: Path) -> None:
    photo(photos / "x.png", 50, (20, 30))
    first = Darken(stop_at(4))
    with pytest.raises(Stop):
        run(planned(photos), first)
    again = Darken()
    again.kept = {(1, 1): 0, (2, 2): 0, (3, 3): 0}  # as if other parts were chosen now
    run(planned(photos), again)
    assert again.kept[8, 12] == first.kept[8, 12]
    assert again.kept[30, 20] == ["windows", 64 + 8 * 4, 0, False]


@pytest.mark.fault("torn journal")
@pytest.mark.slow
def test_a_journal_torn_at_any_byte_loses_no_result(photos: Path) -> None:
    interrupt(planned(photos), 3)
    out = photos.parent / "out"
    whole, results = (out / JOURNAL).read_bytes(), levels(out)
    known = set[int]()
    for cut in range(len(whole)):
        (out / JOURNAL).write_bytes(whole[:cut])
        try:
            known.add(len(planned(photos).finished))
        except UserError:  # results whose records are lost are taken for the user's own files
            known.add(-1)
        work = planned(photos, existing=Existing.REPLACE)
        assert len(work.finished) + len(work.jobs) == 5
        assert levels(out) == results
    assert known == {-1, 2, 3}
    for cut in range(5, len(whole), len(whole) // 7):
        (out / JOURNAL).write_bytes(whole[:cut])
        run(planned(photos, existing=Existing.REPLACE))
        assert levels(out) == WHOLE
        assert not (out / JOURNAL).exists()
        for name in ("sub/3.png", "sub/4.png"):
            (out / name).unlink()


def test_parts_that_a_killed_process_left_are_removed(photos: Path) -> None:
    left = photos.parent / "out/sub/.0123456789abcdef.part.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    run(planned(photos))
    assert not left.exists()


class Log(Observer):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def noticed(self, notice: str) -> None:
        self.notices.append(notice)


OTHER = f"""
import sys; sys.path.insert(0, {SOURCE!r})
from pathlib import Path
from mtdeblur.files.shared import open_shared_journal
with open_shared_journal(Path(sys.argv[1]), {KIND!r}) as journal:
    assert journal.claim(sys.argv[2])
    journal.append({{"begun": sys.argv[3], "settings": sys.argv[4]}})
    print("claimed", flush=True)
    exec(sys.stdin.read())
"""


def other_run(work: Plan, name: str) -> subprocess.Popen[str]:
    """Another run that works on a picture, and does what it reads from standard input."""
    ledger = work.ledger
    assert ledger is not None
    place, target = ledger.folder / JOURNAL, ledger.folder / name
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(place), str(target), name, ledger.id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    return process


@pytest.mark.fault("two runs at once")
def test_two_runs_share_the_work(photos: Path) -> None:
    work = planned(photos)
    other, out = other_run(work, "1.png"), photos.parent / "out"

    class Waiting(Log):
        def noticed(self, notice: str) -> None:
            super().noticed(notice)
            photo(out / "1.png", 91)
            job = work.jobs[1]
            record = Ledger(out, {"s": "settings"}).finishing(job, [os.path.realpath(job.source)])
            status = job.source.stat()
            record["source"] += [status.st_size, status.st_mtime_ns]
            other.communicate(f"journal.append({record!r})")

    log, mine = Waiting(), Darken()
    outcomes = run(work, mine, log)
    assert mine.seen == [100, 102, 103, 104]
    assert [outcome.job.source.name for outcome in outcomes if outcome.elsewhere] == ["1.png"]
    assert len(log.notices) == 1
    assert "waiting for another run" in log.notices[0]
    assert levels(out) == WHOLE
    assert not (out / JOURNAL).exists()


@pytest.mark.fault("two runs at once")
def test_what_another_run_has_begun_before_it_was_killed_is_done_by_this_one(photos: Path) -> None:
    work = planned(photos)
    other = other_run(work, "1.png")

    class Waiting(Log):
        def noticed(self, notice: str) -> None:
            other.kill()
            other.communicate()

    mine = Darken()
    outcomes = run(work, mine, Waiting())
    assert mine.seen == [100, 102, 103, 104, 101]
    assert not any(outcome.elsewhere or outcome.reason for outcome in outcomes)


@pytest.mark.fault("files that change between runs")
def test_files_that_appear_meanwhile_are_left_alone(photos: Path) -> None:
    out = photos.parent / "out"

    def appear(number: int) -> None:
        photo(out / "2.png", 7)

    outcomes = run(planned(photos), Darken(appear))
    assert [outcome.job.source.name for outcome in outcomes if outcome.reason] == ["2.png"]
    assert levels(out) == WHOLE | {"2.png": 7}
    (out / "0.png").unlink()
    outcomes = run(planned(photos, existing=Existing.SKIP), Darken())
    assert [outcome.reason for outcome in outcomes] == [""]


@pytest.mark.fault("lost output folder")
def test_a_lost_output_folder_ends_the_run_and_is_not_made_anew(photos: Path) -> None:
    out = photos.parent / "out"

    def lose(number: int) -> None:
        if number == 2:
            out.rename(photos.parent / "elsewhere")

    outcomes = run(planned(photos), Darken(lose))
    assert [outcome.disk for outcome in outcomes] == [False, False, True]
    assert "is gone" in outcomes[-1].reason
    assert not out.exists()
    (photos.parent / "elsewhere").rename(out)  # the disk is back
    work = planned(photos)
    assert [job.source.name for job in work.finished] == ["0.png", "1.png"]
    run(work)
    assert levels(out) == WHOLE


@pytest.mark.fault("full disk")
def test_a_full_disk_ends_the_run_and_leaves_what_is_finished(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith(".png"):
            raise OSError(28, "No space left on device")
        real(file)

    def fill(number: int) -> None:
        if number == 2:
            monkeypatch.setattr(os, "fsync", full)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell the names of open files")
    outcomes = run(planned(photos), Darken(fill))
    assert [outcome.disk for outcome in outcomes] == [False, False, True]
    assert "No space left" in outcomes[-1].reason
    monkeypatch.undo()
    again = Darken()
    run(planned(photos), again)
    assert again.seen == [102, 103, 104]
    assert levels(photos.parent / "out") == WHOLE


@pytest.mark.fault("full disk")
def test_a_disk_too_full_for_the_journal_is_one_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: SharedJournal, record: Any) -> None:
        raise OSError(28, "No space left on device")

    def fill(number: int) -> None:
        if number == 2:
            monkeypatch.setattr(SharedJournal, "append", full)

    with pytest.raises(UserError, match=r"cannot write .*: No space left"):
        run(planned(photos), Darken(fill))
    monkeypatch.undo()
    assert len(levels(photos.parent / "out")) == 3
    run(planned(photos))
    assert levels(photos.parent / "out") == WHOLE
