"""Batches of files with a deblurrer that merely darkens: what is written where, and what is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtdeblur.errors import UserError
from mtdeblur.inference.batch import Job, Observer, deblur_files, plan, sizes
from mtdeblur.media.comparison import side_by_side
from mtdeblur.media.pictures import Picture, read_picture


class Darken:
    """Three iterations; each gives the picture less another 10 grey levels."""

    iterations = 3

    def progress(self, image: np.ndarray, report, /) -> Iterator[np.ndarray]:
        for iteration in range(1, 4):
            report(iteration / 3)
            yield image - np.array(10 * iteration, image.dtype)


class Log(Observer):
    def __init__(self) -> None:
        self.events: list[str] = []

    def started(self, job: Job) -> None:
        self.events.append(f"started {job.source.name}")

    def advanced(self, job: Job, share: float) -> None:
        self.events.append(f"{share:.0%}")

    def noticed(self, job: Job, notice: str) -> None:
        self.events.append(f"notice {notice}")

    def finished(self, job: Job) -> None:
        self.events.append(f"finished {job.target.name}")

    def failed(self, job: Job, reason: str) -> None:
        self.events.append(f"failed {reason}")


def photo(path: Path, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (level, level, level)).save(path)
    return path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_keeps_its_structure(tmp_path: Path) -> None:
    photo(tmp_path / "in/a.png", 100)
    photo(tmp_path / "in/trip/day 1/b.JPG", 200)
    jobs = plan([tmp_path / "in"], tmp_path / "out")
    assert deblur_files(Darken(), jobs, Observer()) == 0
    assert files(tmp_path / "out") == {"a.png", "trip/day 1/b.JPG"}
    assert read_picture(tmp_path / "out/a.png").pixels.max() == 70
    assert abs(int(read_picture(tmp_path / "out/trip/day 1/b.JPG").pixels.max()) - 170) <= 1


def test_one_photograph_to_a_file_of_another_format(tmp_path: Path) -> None:
    jobs = plan([photo(tmp_path / "a.jpg")], tmp_path / "new/b.tif")
    assert jobs == [Job(tmp_path / "a.jpg", tmp_path / "new/b.tif")]
    deblur_files(Darken(), jobs, Observer())
    with Image.open(tmp_path / "new/b.tif") as image:
        assert image.format == "TIFF"


def test_every_iteration_and_a_comparison(tmp_path: Path) -> None:
    jobs = plan([photo(tmp_path / "a.png")], tmp_path / "out", iterations=3, compare=True)
    log = Log()
    deblur_files(Darken(), jobs, log)
    assert files(tmp_path / "out") == {
        "a.png",
        "a-compare.png",
        "a-iteration1.png",
        "a-iteration2.png",
        "a-iteration3.png",
    }
    levels = [read_picture(tmp_path / f"out/a-iteration{i}.png").pixels.max() for i in (1, 2, 3)]
    assert levels == [90, 80, 70]
    assert log.events == ["started a.png", "33%", "67%", "100%", "finished a.png"]


def test_bad_files_do_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.jpg").write_text("not a picture")
    photo(tmp_path / "in/good.jpg")
    jobs = plan([tmp_path / "missing.png", tmp_path / "in"], tmp_path / "out")
    log = Log()
    assert deblur_files(Darken(), jobs, log) == 2
    assert files(tmp_path / "out") == {"good.jpg"}
    failures = [event for event in log.events if event.startswith("failed")]
    assert "missing.png: No such file" in failures[0]
    assert "bad.jpg: its content is not" in failures[1]


def test_running_out_of_memory_fails_one_job(tmp_path: Path) -> None:
    class Hungry(Darken):
        def progress(self, image: np.ndarray, report, /) -> Iterator[np.ndarray]:
            if image[0, 0, 0] == 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate much")
            if image[0, 0, 0] == 2:
                raise RuntimeError("a mistake in the program")
            yield image

    sources = [photo(tmp_path / "a.png", 1), photo(tmp_path / "b.png", 9)]
    log = Log()
    assert deblur_files(Hungry(), plan(sources, tmp_path / "out"), log) == 1
    assert "a.png: not enough memory" in log.events[1]
    assert files(tmp_path / "out") == {"b.png"}
    with pytest.raises(RuntimeError, match="mistake"):
        deblur_files(Hungry(), plan([photo(tmp_path / "c.png", 2)], tmp_path / "out"), log)


def test_an_interruption_leaves_finished_files_only(tmp_path: Path) -> None:
    class Interrupted(Darken):
        def progress(self, image: np.ndarray, report, /) -> Iterator[np.ndarray]:
            yield image
            if image[0, 0, 0] == 2:
                raise KeyboardInterrupt

    sources = [photo(tmp_path / "a.png", 1), photo(tmp_path / "b.png", 2)]
    with pytest.raises(KeyboardInterrupt):
        deblur_files(Interrupted(), plan(sources, tmp_path / "out"), Observer())
    assert files(tmp_path / "out") == {"a.png"}


def test_pages_left_behind_are_mentioned(tmp_path: Path) -> None:
    page = Image.new("RGB", (8, 8), "white")
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    log = Log()
    deblur_files(Darken(), plan([tmp_path / "a.tif"], tmp_path / "out"), log)
    assert log.events[1].endswith("a.tif contains 2 pictures; only the first is deblurred")


def test_names_without_a_picture_suffix_become_png(tmp_path: Path) -> None:
    photo(tmp_path / "a.png").rename(tmp_path / "scan.001")
    jobs = plan([tmp_path / "scan.001"], tmp_path / "out")
    assert deblur_files(Darken(), jobs, Observer()) == 0
    assert files(tmp_path / "out") == {"scan.001.png"}


@pytest.mark.parametrize("disguise", ["same", "dots", "symbolic link", "hard link", "folder link"])
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
        plan([source], output, overwrite=True)
    assert source.read_bytes() == before


def test_no_output_is_another_input(tmp_path: Path) -> None:
    first, second = photo(tmp_path / "a.png"), photo(tmp_path / "out/a.png")
    with pytest.raises(UserError, match=r"out/a\.png would overwrite the input"):
        plan([first, second.parent], tmp_path / "out", overwrite=True)
    with pytest.raises(UserError, match="would overwrite the input"):
        plan([tmp_path / "out"], tmp_path / "out", overwrite=True)
    beside = photo(tmp_path / "there/b-compare.png")
    with pytest.raises(UserError, match=r"b-compare\.png would overwrite"):
        plan([photo(tmp_path / "b.png"), beside], tmp_path / "there", compare=True, overwrite=True)


def test_two_inputs_never_share_an_output(tmp_path: Path) -> None:
    first, second = photo(tmp_path / "x/a.png"), tmp_path / "x/a"
    second.write_bytes(first.read_bytes())  # whose result gets the suffix that it lacks
    with pytest.raises(UserError, match="would become") as caught:
        plan([first, second], tmp_path / "out")
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    other = photo(tmp_path / "x/a-compare.png")
    with pytest.raises(UserError, match=r"would become .*a-compare\.png"):
        plan([first, other], tmp_path / "out", compare=True)
    assert len(plan([first, first], tmp_path / "out")) == 1


def test_photographs_of_one_name_in_different_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("100/1.png", "101/1.png", "101/2.png"):
        photo(tmp_path / name)
    jobs = plan([tmp_path / "100", tmp_path / "101"], tmp_path / "out")
    assert {str(job.source.relative_to(tmp_path)): job.target.name for job in jobs} == {
        "100/1.png": "100-1.png",
        "101/1.png": "101-1.png",
        "101/2.png": "2.png",
    }
    assert deblur_files(Darken(), jobs, Observer()) == 0
    assert files(tmp_path / "out") == {"100-1.png", "101-1.png", "2.png"}
    photo(tmp_path / "b/100-1.png")
    with pytest.raises(UserError, match="would become"):
        plan([tmp_path / "100", tmp_path / "101", tmp_path / "b"], tmp_path / "elsewhere")


def test_existing_files_are_replaced_only_on_demand(tmp_path: Path) -> None:
    source, kept = photo(tmp_path / "a.png"), photo(tmp_path / "out/a.png", 5)
    with pytest.raises(UserError, match=r"out/a\.png exists already"):
        plan([source], tmp_path / "out")
    assert read_picture(kept).pixels.max() == 5
    deblur_files(Darken(), plan([source], tmp_path / "out", overwrite=True), Observer())
    assert read_picture(kept).pixels.max() == 70


def test_results_inside_the_input_folder_are_no_inputs(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    deblur_files(Darken(), plan([tmp_path], tmp_path / "out"), Observer())
    assert [job.source for job in plan([tmp_path], tmp_path / "out", overwrite=True)] == [tmp_path / "a.png"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="no pictures outside the output"):
        plan([tmp_path], tmp_path / "out", overwrite=True)


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
    jobs = plan([tmp_path / name for name in ("a.png", "b.jpg", "missing.png")], tmp_path / "out")
    assert sizes(jobs) == [(8, 12)]


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
def test_only_what_allocators_say_is_a_lack_of_memory(tmp_path: Path, error: Exception, memory: bool) -> None:
    class Failing(Darken):
        def progress(self, image: np.ndarray, report, /) -> Iterator[np.ndarray]:
            raise error
            yield

    jobs = plan([photo(tmp_path / "a.png")], tmp_path / "out")
    if memory:
        log = Log()
        assert deblur_files(Failing(), jobs, log) == 1
        assert "not enough memory; use a smaller --tile" in log.events[-1]
    else:
        with pytest.raises(type(error), match=str(error)[:20]):
            deblur_files(Failing(), jobs, Observer())
