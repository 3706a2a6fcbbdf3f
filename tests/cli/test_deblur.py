"""`mtdeblur deblur` from outside, with a deblurrer that darkens."""

import importlib.util
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
    assert refused.stderr == "mtdeblur: out/a.jpg exists already; choose another output or use --overwrite\n"
    assert mtdeblur("deblur", "a.jpg", "-o", "out", "--overwrite").returncode == 0


def test_bad_files_get_a_line_each_and_the_rest_goes_on(mtdeblur, tmp_path: Path) -> None:
    photo(tmp_path / "good.jpg")
    whole = photo(tmp_path / "whole.png", (300, 200)).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/empty.tif").write_bytes(b"")
    (tmp_path / "in/text  [bold].jpg").write_text("hello")
    result = mtdeblur("deblur", "in", "good.jpg", "-o", "out")
    assert result.returncode == 1
    _, *lines = result.stderr.splitlines()
    assert len(lines) == 4
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


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, cli_command) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png", (77, 10))
    with subprocess.Popen(
        cli_command("deblur", "a.png", "b.png", "-o", "out"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    _, *lines = errors.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("mtdeblur: interrupted")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


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
