"""Batches of files with a deblurrer that merely darkens: what is written where, and what is refused."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtdeblur.inference.batch import Comparison, Folder, Job, Observer, Outcome, deblur_file, sizes
from mtdeblur.inference.finish import Finish
from mtdeblur.inference.planning import plan
from mtdeblur.media.comparison import side_by_side
from mtdeblur.media.pictures import Picture, read_picture


class Darken:
    """Three iterations; each gives the picture less another 10 grey levels."""

    iterations = 3

    def progress(self, image: np.ndarray, report, /, *, every, notify) -> Iterator[np.ndarray]:
        for iteration in range(1, 4):
            report(iteration / 3)
            if every or iteration == 3:
                yield image - np.array(10 * iteration, image.dtype)


class Log(Observer):
    def __init__(self) -> None:
        self.events: list[str] = []

    def advanced(self, job: Job, share: float) -> None:
        self.events.append(f"{share:.0%}")

    def noticed(self, notice: str) -> None:
        self.events.append(f"notice {notice}")


def photo(path: Path, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (level, level, level)).save(path)
    return path


def deblur_all(deblurrer, jobs: list[Job], observer: Observer | None = None) -> list[str]:
    """Reasons of the failures."""
    return [reason for job in jobs if (reason := deblur_file(deblurrer, job, observer).reason)]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_keeps_its_structure(tmp_path: Path) -> None:
    photo(tmp_path / "in/a.png", 100)
    photo(tmp_path / "in/trip/day 1/b.JPG", 200)
    jobs = plan([tmp_path / "in"], tmp_path / "out").jobs
    assert deblur_all(Darken(), jobs) == []
    assert files(tmp_path / "out") == {"a.png", "trip/day 1/b.JPG"}
    assert read_picture(tmp_path / "out/a.png").pixels.max() == 70
    assert abs(int(read_picture(tmp_path / "out/trip/day 1/b.JPG").pixels.max()) - 170) <= 1


def test_one_photograph_to_a_file_of_another_format(tmp_path: Path) -> None:
    jobs = plan([photo(tmp_path / "a.jpg")], tmp_path / "new/b.tif").jobs
    assert jobs == [Job(tmp_path / "a.jpg", tmp_path / "new/b.tif")]
    deblur_all(Darken(), jobs)
    with Image.open(tmp_path / "new/b.tif") as image:
        assert image.format == "TIFF"


def test_every_iteration_and_a_comparison(tmp_path: Path) -> None:
    jobs = plan([photo(tmp_path / "a.png")], tmp_path / "out", iterations=3, compare=Comparison.side).jobs
    log = Log()
    deblur_all(Darken(), jobs, log)
    assert files(tmp_path / "out") == {
        "a.png",
        "a-compare.png",
        "a-iteration1.png",
        "a-iteration2.png",
        "a-iteration3.png",
    }
    levels = [read_picture(tmp_path / f"out/a-iteration{i}.png").pixels.max() for i in (1, 2, 3)]
    assert levels == [90, 80, 70]
    assert log.events == ["33%", "67%", "100%"]


@pytest.mark.fault("damaged pictures among others")
def test_bad_files_do_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.jpg").write_text("not a picture")
    photo(tmp_path / "in/good.jpg")
    jobs = plan([tmp_path / "missing.png", tmp_path / "in"], tmp_path / "out").jobs
    failures = deblur_all(Darken(), jobs)
    assert len(failures) == 2
    assert files(tmp_path / "out") == {"good.jpg"}
    assert "missing.png: No such file" in failures[0]
    assert "bad.jpg: its content is not" in failures[1]


@pytest.mark.fault("lack of memory")
def test_running_out_of_memory_fails_one_job(tmp_path: Path) -> None:
    class Hungry(Darken):
        def progress(self, image: np.ndarray, report, /, *, every, notify) -> Iterator[np.ndarray]:
            if image[0, 0, 0] == 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate much")
            if image[0, 0, 0] == 2:
                raise RuntimeError("a mistake in the program")
            yield image

    sources = [photo(tmp_path / "a.png", 1), photo(tmp_path / "b.png", 9)]
    (reason,) = deblur_all(Hungry(), plan(sources, tmp_path / "out").jobs)
    assert "a.png: not enough memory" in reason
    assert files(tmp_path / "out") == {"b.png"}
    with pytest.raises(RuntimeError, match="mistake"):
        deblur_all(Hungry(), plan([photo(tmp_path / "c.png", 2)], tmp_path / "out").jobs)


@pytest.mark.fault("SIGINT or SIGTERM")
def test_an_interruption_leaves_finished_files_only(tmp_path: Path) -> None:
    class Interrupted(Darken):
        def progress(self, image: np.ndarray, report, /, *, every, notify) -> Iterator[np.ndarray]:
            yield image
            if image[0, 0, 0] == 2:
                raise KeyboardInterrupt

    sources = [photo(tmp_path / "a.png", 1), photo(tmp_path / "b.png", 2)]
    with pytest.raises(KeyboardInterrupt):
        deblur_all(Interrupted(), plan(sources, tmp_path / "out").jobs)
    assert files(tmp_path / "out") == {"a.png"}


def test_pages_left_behind_are_mentioned(tmp_path: Path) -> None:
    page = Image.new("RGB", (8, 8), "white")
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    log = Log()
    deblur_all(Darken(), plan([tmp_path / "a.tif"], tmp_path / "out").jobs, log)
    assert log.events[0].endswith("a.tif: it contains 2 pictures; only the first is deblurred")


def test_names_without_a_picture_suffix_become_png(tmp_path: Path) -> None:
    photo(tmp_path / "a.png").rename(tmp_path / "scan.001")
    jobs = plan([tmp_path / "scan.001"], tmp_path / "out").jobs
    assert deblur_all(Darken(), jobs) == []
    assert files(tmp_path / "out") == {"scan.001.png"}


def test_comparison_is_upright_with_a_white_line(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its left side
    stored = np.zeros((4, 10, 3), np.uint8)
    stored[:, 0] = 50  # the first stored column is the top row
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    before = read_picture(tmp_path / "a.png")
    both = side_by_side(before, before.with_pixels(before.pixels + np.uint8(100)))
    assert both.pixels.shape == (10, 4 + 2 + 4, 3)
    assert both.orientation == 1
    assert (both.pixels[0, :4] == 50).all()
    assert (both.pixels[1:, :4] == 0).all()
    assert (both.pixels[:, 4:6] == 255).all()
    assert (both.pixels[0, 6:] == 150).all()


def test_comparison_keeps_depth_grey_and_alpha() -> None:
    alpha = np.full((5, 7), 1000, np.uint16)
    picture = Picture(np.zeros((5, 7, 3), np.uint16), alpha, grey=True)
    both = side_by_side(picture, picture)
    assert both.pixels.dtype == np.uint16
    assert both.grey
    assert both.alpha is not None
    assert (both.alpha[:, :7] == 1000).all()
    assert (both.alpha[:, 7:9] == 65535).all()
    with pytest.raises(ValueError, match="cannot compare"):
        side_by_side(picture, Picture(np.zeros((5, 8, 3), np.uint16)))


def test_sizes_are_read_from_the_files_that_can_be_read(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("hello")
    jobs = plan([tmp_path / name for name in ("a.png", "b.jpg", "missing.png")], tmp_path / "out").jobs
    assert sizes(jobs) == [(8, 12)]


def test_an_outcome_has_what_a_report_needs(tmp_path: Path) -> None:
    page = Image.new("RGB", (12, 8), "white")
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    (job,) = plan([tmp_path / "a.tif"], tmp_path / "out").jobs
    outcome = deblur_file(Darken(), job)
    assert (outcome.job, outcome.size, outcome.reason, outcome.disk) == (job, (8, 12), "", False)
    assert outcome.seconds > 0
    assert len(outcome.notices) == 1
    missing = deblur_file(Darken(), Job(tmp_path / "b.png", tmp_path / "c.png"))
    assert missing.size is None
    assert missing.reason


@pytest.mark.fault("full disk")
def test_a_full_disk_is_told_from_other_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> Outcome:
        def fsync(file: int) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            return deblur_file(Darken(), Job(photo(tmp_path / "a.png"), tmp_path / "out/a.png"))

    for number, disk in [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EFBIG, False)]:
        outcome = fail(number)
        assert outcome.disk == disk
        assert f"cannot write {tmp_path / 'out/a.png'}: {os.strerror(number)}" in outcome.reason
        assert files(tmp_path / "out") == set()


@pytest.mark.fault("lost output folder")
def test_another_folder_in_the_place_of_the_output_folder_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    folder = Folder.at(out)
    job = Job(photo(tmp_path / "a.png"), out / "sub/a.png")
    out.rename(tmp_path / "elsewhere")
    for _ in range(2):  # without a folder there, and with another one
        outcome = deblur_file(Darken(), job, folder=folder)
        assert outcome.disk
        assert f"the output folder {out} is gone" in outcome.reason
        out.mkdir(exist_ok=True)
    assert files(out) == set()


def test_outputs_that_are_kept_are_not_written(tmp_path: Path) -> None:
    source, out = photo(tmp_path / "a.png", 100), tmp_path / "out"
    (whole,) = plan([source], out, iterations=3, compare=Comparison.side).jobs
    kept = photo(whole.target, 1), photo(whole.iterations[1], 2)
    deblur_all(Darken(), [replace(whole, keep=frozenset(kept))])
    levels = [read_picture(path).pixels.max() for path in (whole.target, *whole.iterations)]
    assert levels == [1, 90, 2, 70]
    assert whole.comparison is not None
    assert read_picture(whole.comparison).pixels[0, -1, 0] == 70


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("more than one element refers to a single memory location"), False),
        (RuntimeError("unsupported memory format option ChannelsLast"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
@pytest.mark.fault("lack of memory")
def test_only_what_allocators_say_is_a_lack_of_memory(tmp_path: Path, error: Exception, memory: bool) -> None:
    class Failing(Darken):
        def progress(self, image: np.ndarray, report, /, *, every, notify) -> Iterator[np.ndarray]:
            raise error
            yield

    jobs = plan([photo(tmp_path / "a.png")], tmp_path / "out").jobs
    if memory:
        (reason,) = deblur_all(Failing(), jobs)
        assert "not enough memory, even for the smallest tiles" in reason
    else:
        with pytest.raises(type(error), match=str(error)[:20]):
            deblur_all(Failing(), jobs)


def test_a_comparison_page_and_a_finish(tmp_path: Path) -> None:
    (job,) = plan([photo(tmp_path / "a.png", 100)], tmp_path / "out", compare=Comparison.page).jobs
    assert deblur_file(Darken(), job, finish=Finish(0.5)).reason == ""
    assert files(tmp_path / "out") == {"a.png", "a-compare.html"}
    assert read_picture(tmp_path / "out/a.png").pixels.max() == 85
    page = (tmp_path / "out/a-compare.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "<title>a.png</title>" in page


class Watching(Observer):
    """Keeps what an observer that watches is told."""

    watches = True

    def __init__(self) -> None:
        self.shown: np.ndarray | None = None
        self.rows: list[tuple[int, int]] = []
        self.pictures: list[Picture] = []

    def opened(self, job: Job, picture: Picture, shown: np.ndarray) -> None:
        self.shown = shown

    def watched(self, job: Job, step: int, estimate: np.ndarray, rows: int) -> None:
        self.rows.append((step, rows))

    def estimated(self, job: Job, step: int, picture: Picture) -> None:
        assert step == len(self.pictures)
        self.pictures.append(picture)


class DarkenInHalves(Darken):
    def progress(self, image, report, /, *, every, notify, watch=None):
        for number, estimate in enumerate(super().progress(image, report, every=every, notify=notify)):
            watch(number, estimate, 4)
            watch(number, estimate, 8)
            yield estimate


def test_an_observer_that_watches_sees_every_result_as_it_would_be_written(tmp_path: Path) -> None:
    job = Job(photo(tmp_path / "a.png"), tmp_path / "b.png")
    watching, finish = Watching(), Finish(strength=0.5)
    deblur_file(DarkenInHalves(), job, watching, None, finish)
    assert watching.shown is not None
    assert watching.shown.max() == 100
    assert watching.rows == [(0, 4), (0, 8), (1, 4), (1, 8), (2, 4), (2, 8)]
    assert [picture.pixels.max() for picture in watching.pictures] == [95, 90, 85]
    assert files(tmp_path) == {"a.png", "b.png"}
    watched = (tmp_path / "b.png").read_bytes()
    deblur_file(Darken(), job, None, None, finish)
    assert (tmp_path / "b.png").read_bytes() == watched
