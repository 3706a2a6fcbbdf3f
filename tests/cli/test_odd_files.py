"""Files that are not as usual: names that are no UTF-8, pipes and devices among pictures, lost streams."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.disk.manifest import read_manifest
from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.data.disk.photographs import find_photographs
from mtdeblur.data.feeding.pack import Pack, build_pack
from mtdeblur.data.making.camera import Simulation
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.from_photographs import simulate
from mtdeblur.data.making.plan import Recipe
from mtdeblur.exposure.simulate import Motion
from mtdeblur.media.pictures import read_size
from mtdeblur.media.sheets import make_sheet
from mtdeblur.media.sheets import plan as plan_sheets
from mtdeblur.media.video import video_frames

NAME = os.fsdecode(b"caf\xe9")
QUICK = ["--quality", "fast", "--iterations", "1"]


def write(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(os.fsencode(path))
    return path


def run(
    folder: Path, *arguments: str | Path, shell: str = "", **options
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mtdeblur", *map(str, arguments)]
    if shell:
        command = ["sh", "-c", f'"$@" {shell}', "sh", *command]
    return subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, timeout=120, **options)


# -- names that are not UTF-8


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_data_set_with_such_names_is_measured(tmp_path: Path, encoding: str) -> None:
    for side in ("blur", "sharp"):
        write(tmp_path / NAME / side / f"{NAME}.png")
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    for command, output in (("evaluate", "r"), ("curve", "c.csv")):
        options = ("--iterations", "1", "--weights", "mtnaf-small", "-o", output)
        result = run(tmp_path, command, NAME, *options, stdout=subprocess.PIPE, env=environment)
        assert result.returncode == 0, result.stderr
        assert b"caf\\udce9" in result.stdout
    assert "caf\\udce9" in (tmp_path / "r/evaluation.csv").read_text("utf-8")
    content = json.loads((tmp_path / "r/evaluation.json").read_text("utf-8"))
    assert content["images"][0]["image"] == NAME
    assert "caf\\udce9" in (tmp_path / "c.csv").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.fault("unusual file names")
def test_a_photograph_with_such_a_name_is_deblurred_and_shown(tmp_path: Path) -> None:
    photo = write(tmp_path / "in" / f"{NAME}.png")
    assert run(tmp_path, "deblur", "in", "-o", "out", *QUICK).returncode == 0
    assert (tmp_path / "out" / f"{NAME}.png").is_file()
    assert read_size(photo) == (24, 32)
    (item,) = plan_sheets(tmp_path / "in", tmp_path / "sheets")
    make_sheet(item, {NAME: lambda pixels: pixels}, 64)


def test_photographs_with_such_names_are_simulated(tmp_path: Path) -> None:
    photo = write(tmp_path / "in" / f"{NAME}.png", 48, 48)
    how = Simulation(motion=Motion(length=4))
    photographs = find_photographs([photo])
    assert simulate(photographs, tmp_path / "pairs", 1, how, workers=1) == {}
    assert (tmp_path / "pairs/blur/caf%E9-0.png").is_file()
    assert simulate(photographs, tmp_path / "levels", 1, how, (7,), workers=1) == {}
    rows, _ = read_manifest(tmp_path / "levels")
    assert {row.clip for row in rows} == {"caf%E9"}
    assert all((tmp_path / "levels" / row.path).is_file() for row in rows)
    build_pack(tmp_path / f"{NAME}.zip", photos=[tmp_path / "in"])
    assert len(Pack(tmp_path / f"{NAME}.zip").photos) == 1


def test_frames_with_such_names_are_averaged(tmp_path: Path) -> None:
    for number in range(7):
        write(tmp_path / NAME / f"{NAME}{number}.png", seed=number)
    recipe = Recipe((7,), (), keep_faulty=True)
    rows = augment([tmp_path / NAME], tmp_path / "made", recipe, workers=1)
    assert {row.clip for row in rows} == {"caf%E9"}
    assert len(find_pairs(tmp_path / "made", split="train")) == 1


@pytest.mark.fault("unusual file names")
def test_a_video_with_such_a_name_is_read(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = (tmp_path / "a.mkv").rename(tmp_path / f"{NAME}.mkv")
    assert [frame.read().max() for frame in video_frames(video)] == [9]


# -- pipes, sockets and devices


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.fault("pipes and devices")
def test_what_is_no_regular_file_is_told_and_the_rest_goes_on(tmp_path: Path, kind: str) -> None:
    good = write(tmp_path / "in/z.png", 48, 48)
    bad = tmp_path / "in/a.png"
    if kind == "pipe":
        os.mkfifo(bad)
    else:
        bad.symlink_to("/dev/zero")
    result = run(tmp_path, "deblur", "in", "-o", "out", *QUICK)
    assert result.returncode == 1
    assert b"a.png: it is a pipe, a socket or a device" in result.stderr
    assert (tmp_path / "out/z.png").is_file()
    how = Simulation(motion=Motion(length=4))
    faults = simulate(find_photographs([tmp_path / "in"]), tmp_path / "pairs", 1, how, workers=1)
    assert list(faults) == ["a"]
    assert good.is_file()
    os.mkfifo(tmp_path / "x.mp4")
    result = run(tmp_path, "augment", "x.mp4", "-o", "made", "--level", "7")
    assert result.returncode == 1
    assert b"x.mp4: it is a pipe" in result.stderr


@pytest.mark.slow
@pytest.mark.fault("pipes and devices")
def test_a_pipe_is_no_weights_file(tmp_path: Path) -> None:
    photo = write(tmp_path / "a.png")
    os.mkfifo(tmp_path / "w.safetensors")
    os.mkfifo(tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        result = run(tmp_path, "deblur", photo, "-o", "out.png", "--weights", name)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1


# -- standard streams


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&-", "<&-", ">&- <&-", "2>&-", ">&- 2>&- <&-"])
@pytest.mark.fault("closed or full standard streams")
def test_without_standard_streams_all_is_done(tmp_path: Path, streams: str) -> None:
    for side in ("blur", "sharp"):
        write(tmp_path / "d" / side / "a.png")
    for arguments, made in (
        (["deblur", "d/blur/a.png", "-o", "o.png", *QUICK], "o.png"),
        (["evaluate", "d", "--iterations", "1", "--weights", "mtnaf-small", "-o", "r"], "r/evaluation.csv"),
    ):
        result = run(tmp_path, *arguments, shell=streams)
        assert result.returncode == 0, result.stderr
        assert b"Traceback" not in result.stderr
        assert (tmp_path / made).stat().st_size > 0
    assert run(tmp_path, "deblur", "missing.png", "-o", "o2.png", *QUICK, shell=streams).returncode == 1
    assert run(tmp_path, "--version", shell=streams).returncode == 0
    assert run(tmp_path, "deblur", shell=streams).returncode == 2
