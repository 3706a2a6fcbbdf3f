"""`mtdeblur deblur` from outside, with a deblurrer that darkens."""

import importlib.util
import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def photo(path: Path, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (120, 60, 30)).save(path)
    return path


def test_files_and_folders(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "in/sub/b.webp")
    result = mtdeblur("deblur", "a.png", "in", "-o", "out", "--iterations", "3")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    chosen, *lines = result.stderr.splitlines()
    assert chosen == "fake: 2 sizes"
    assert [line.rpartition(" (")[0] for line in lines] == [
        "a.png -> out/a.png",
        "in/sub/b.webp -> out/sub/b.webp",
    ]
    with Image.open(tmp_path / "out/a.png") as image:
        assert (np.asarray(image) == np.array([120, 60, 30]) // 4).all()


@pytest.mark.slow
def test_options_reach_the_deblurrer(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    default = mtdeblur("deblur", "a.png", "-o", "1.png", "--weights", "echo")
    assert default.stdout == "None None auto auto 'auto'\n"
    given = [
        "--weights",
        "echo",
        "--iterations",
        "4",
        "--device",
        "cpu",
        "--precision",
        "bfloat16",
        "--tile",
        "256",
    ]
    assert mtdeblur("deblur", "a.png", "-o", "2.png", *given).stdout == "None 4 cpu bfloat16 '256'\n"
    assert mtdeblur("deblur", "a.png", "-o", "3.png", "--weights", "echo", "--tile", "off").stdout.endswith(
        "'off'\n"
    )
    best = mtdeblur("deblur", "a.png", "-o", "4.png", "--weights", "echo", "--quality", "best")
    assert best.stdout.startswith("best ")


@pytest.mark.slow
def test_extra_files_and_overwriting(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    assert mtdeblur("deblur", "a.jpg", "-o", "out", "--save-iterations", "--compare").returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a-compare.jpg",
        "a-iteration1.jpg",
        "a-iteration2.jpg",
        "a.jpg",
    ]
    refused = mtdeblur("deblur", "a.jpg", "-o", "out")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stderr.startswith("mtdeblur: out/a.jpg exists already; use --skip-existing or --overwrite")
    assert mtdeblur("deblur", "a.jpg", "-o", "out", "--overwrite").returncode == 0


@pytest.mark.slow
def test_a_folder_half_done_is_completed(mtdeblur, tmp_path: Path) -> None:
    for name in ("0.png", "1.png", "2.JPG"):
        photo(tmp_path / "in" / name)
    assert mtdeblur("deblur", "in/0.png", "-o", "out/").returncode == 0
    before = (tmp_path / "out/0.png").stat().st_mtime_ns
    result = mtdeblur("deblur", "in", "-o", "out", "--skip-existing", "--exclude", "*.jpg")
    assert result.returncode == 0, result.stderr
    assert "skipped 1 photograph" in result.stderr
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["0.png", "1.png"]
    assert (tmp_path / "out/0.png").stat().st_mtime_ns == before
    assert mtdeblur("deblur", "in", "-o", "out", "--skip-existing").returncode == 0
    nothing = mtdeblur("deblur", "in", "-o", "out", "--skip-existing")
    assert nothing.returncode == 0
    assert nothing.stderr.splitlines()[-1].startswith("skipped 3 photographs")
    refused = mtdeblur("deblur", "in", "-o", "out", "--skip-existing", "--overwrite")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_other_files_in_a_folder_are_told_and_no_error(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "in/a.png")
    for name in ("b.cr2", "sub/c.xmp", "LIESMICH"):
        (tmp_path / "in/sub").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("hello")
    result = mtdeblur("deblur", "in", "-o", "out")
    assert result.returncode == 0
    (line,) = [line for line in result.stderr.splitlines() if "passed over" in line]
    assert "3 files" in line
    assert all(name in line for name in ("b.cr2", "c.xmp", "LIESMICH"))
    by_name = mtdeblur("deblur", "in/a.png", "in/b.cr2", "-o", "named")
    assert by_name.returncode == 1  # what is asked for by name is not passed over
    assert "in/b.cr2" in by_name.stderr


@pytest.mark.fault("damaged pictures among others")
def test_bad_files_get_a_line_each_and_the_rest_goes_on(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "good.jpg")
    whole = photo(tmp_path / "whole.png", (300, 200)).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/empty.tif").write_bytes(b"")
    (tmp_path / "in/text  [bold].jpg").write_text("hello")
    result = mtdeblur("deblur", "in", "good.jpg", "-o", "out")
    assert result.returncode == 1
    _, *lines, summary = result.stderr.splitlines()
    assert len(lines) == 4
    assert summary.startswith("mtdeblur: 3 of 4 photographs failed: in/cut.png, in/empty.tif")
    for line, name in zip(lines, ["in/cut.png", "in/empty.tif", "in/text  [bold].jpg"], strict=False):
        assert line.startswith(f"mtdeblur: cannot read {name}: ")
    assert lines[3].startswith("good.jpg -> out/good.jpg")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.jpg"]


@pytest.mark.slow
def test_what_stops_everything_is_one_line(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    for arguments, names in [
        (["empty", "-o", "out"], "empty contains no pictures"),
        (["a.png", "-o", "a.png/out"], "cannot write a.png/out"),
        (["a.png", "-o", "a.png"], "a.png would overwrite the input"),
        (["a.png", "-o", "."], "a.png would overwrite the input"),
    ]:
        result = mtdeblur("deblur", *arguments)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert names in result.stderr


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
@pytest.mark.fault("SIGINT or SIGTERM")
def test_an_interruption_leaves_nothing_half_written_and_says_how_to_go_on(
    tmp_path: Path, cli_command, sent: signal.Signals, code: int
) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png", (77, 10))
    with subprocess.Popen(
        cli_command("deblur", "a.png", "b.png", "-o", "out", "--report", "r.json"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(sent)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    _, *lines = errors.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("mtdeblur: interrupted")
    assert lines[1].endswith("1 done; repeat the command to resume with 1 photograph left")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".mtdeblur-journal", "a.png"]
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["end"] == "interrupted"
    assert report["counts"] == {"done": 1, "not done": 1}


@pytest.mark.fault("SIGINT or SIGTERM")
@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_video_keeps_its_parts_and_says_so(
    tmp_path: Path, cli_command, sent: signal.Signals, code: int
) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 10, 77, "yuv444p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((10, 77, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode())
    with subprocess.Popen(
        cli_command("deblur", "clip.mkv", "-o", "sharp.mkv"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(sent)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith("mtdeblur: interrupted")
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == [".sharp.mkv.parts", "clip.mkv"]


@pytest.mark.slow
def test_the_same_command_goes_on_after_an_interruption(mtdeblur, tmp_path: Path, cli_command) -> None:
    photo(tmp_path / "in/a.png")
    waits = photo(tmp_path / "in/b.png", (77, 10))
    command = ("deblur", "in", "-o", "out")
    with subprocess.Popen(cli_command(*command), cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    before = (tmp_path / "out/a.png").stat().st_mtime_ns
    other = mtdeblur(*command, "--tile", "64")
    assert other.returncode == 1
    assert "out/a.png was made with other settings" in other.stderr
    assert "tile auto, now 64" in other.stderr
    photo(waits)
    result = mtdeblur(*command)
    assert result.returncode == 0, result.stderr
    assert "1 photograph finished by an interrupted run" in result.stderr
    assert (tmp_path / "out/a.png").stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


@pytest.mark.slow
def test_a_report_tells_what_became_of_every_file(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "in/a.png")
    photo(tmp_path / "in/b.png")
    (tmp_path / "in/c.png").write_text("hello")
    (tmp_path / "in/d.txt").write_text("hello")
    photo(tmp_path / "out/b.png")
    result = mtdeblur("deblur", "in", "-o", "out", "--skip-existing", "--report", "new/r.json")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("mtdeblur: 1 of 2 photographs failed: in/c.png")
    report = json.loads((tmp_path / "new/r.json").read_text())
    assert report["end"] == "complete"
    files = {Path(file["source"]).name: file for file in report["files"]}
    assert {name: file["status"] for name, file in files.items()} == {
        "a.png": "done",
        "b.png": "skipped",
        "c.png": "failed",
        "d.txt": "passed over",
    }
    done = files["a.png"]
    assert (done["height"], done["width"]) == (16, 24)
    assert done["seconds"] > 0
    assert done["outputs"] == {"out/a.png": (tmp_path / "out/a.png").stat().st_size}
    assert "c.png" in files["c.png"]["reason"]
    assert report["versions"]["torch"]
    assert report["settings"]["tile"] == "auto"
    for name, reason in [("r.txt", "must end in .json"), ("in/a.png/r.json", "in/a.png is a file")]:
        refused = mtdeblur("deblur", "in", "-o", "new", "--report", name)
        assert refused.returncode == 1
        assert reason in refused.stderr


@pytest.mark.skipif(importlib.util.find_spec("pty") is None, reason="needs a pseudo-terminal")
def test_bars_on_a_terminal(tmp_path: Path, cli_command) -> None:
    import os
    import pty

    for name in ("a.png", "b[x].png"):
        photo(tmp_path / name)
    (tmp_path / "bad.png").write_text("hello")
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        cli_command("deblur", "a.png", "b[x].png", "bad.png", "-o", "out"),
        cwd=tmp_path,
        stderr=end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(end)
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # how a terminal ends when nobody holds its other side
        pass
    os.close(terminal)
    assert process.wait(60) == 1
    assert b"photographs" in shown
    assert b"b[x].png" in shown
    assert b"cannot read bad.png" in shown


def test_without_an_output_results_are_beside_the_photographs(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "sub/b.gif")
    photo(tmp_path / "in/deep/c.png")
    result = mtdeblur("deblur", "a.jpg", "sub/b.gif", "in")
    assert result.returncode == 0, result.stderr
    for name in ("a-deblurred.jpg", "sub/b-deblurred.png", "in-deblurred/deep/c.png"):
        assert (tmp_path / name).is_file()
    again = mtdeblur("deblur", "a.jpg")
    assert again.returncode == 1
    assert "a-deblurred.jpg exists already" in again.stderr


def test_zero_iterations_only_read_and_write(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    result = mtdeblur("deblur", "a.jpg", "-o", "b.png", "--iterations", "0")
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / "a.jpg") as before, Image.open(tmp_path / "b.png") as after:
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
    assert mtdeblur("deblur", "a.jpg", "-o", "c.png", "--iterations", "-1").returncode == 2


def test_quality_of_jpeg(mtdeblur, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(
        tmp_path / "a.jpg", quality=70
    )
    assert mtdeblur("deblur", "a.jpg", "-o", "kept.jpg").returncode == 0
    assert mtdeblur("deblur", "a.jpg", "-o", "other.jpg", "--quality-jpeg", "88").returncode == 0
    tables = []
    for name, quality in (("kept.jpg", 70), ("other.jpg", 88)):
        photo(tmp_path / "reference.jpg")
        Image.new("RGB", (8, 8)).save(tmp_path / "reference.jpg", quality=quality)
        with Image.open(tmp_path / name) as found, Image.open(tmp_path / "reference.jpg") as reference:
            tables.append(found.quantization == reference.quantization)
    assert tables == [True, True]
    assert mtdeblur("deblur", "a.jpg", "-o", "c.jpg", "--quality-jpeg", "0").returncode == 2
