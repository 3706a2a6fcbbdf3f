"""`mtdeblur deblur --strength, --region, --compare` from outside, with a deblurrer that darkens."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (24, 16), (120, 60, 30)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def red(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))[..., 0]


def test_strength_region_and_compare_together(mtdeblur, photo: Path, tmp_path: Path) -> None:
    options = ["--iterations", "1", "--strength", "0.5", "--region", "0,0,12,16"]
    result = mtdeblur("deblur", *options, "--compare", "page", "a.png", "-o", "out")
    assert result.returncode == 0, result.stderr
    assert red(tmp_path / "out/a.png")[8, 2] == 90
    assert (red(tmp_path / "out/a.png")[:, 12:] == 120).all()
    assert (tmp_path / "out/a-compare.html").read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_compare_without_a_value_is_one_picture(mtdeblur, photo: Path, tmp_path: Path) -> None:
    for options in (["--compare", "a.png"], ["a.png", "--compare"], ["--compare", "side", "a.png"]):
        assert mtdeblur("deblur", *options, "-o", "out", "--overwrite").returncode == 0
        assert (tmp_path / "out/a-compare.png").exists()
        (tmp_path / "out/a-compare.png").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--strength", "1.5"], 2, "strength"),
        (["--strength", "nan"], 2, "strength"),
        (["--region", "1,2,3"], 1, "the region '1,2,3' is no file, and not X,Y,W,H in pixels"),
        (["--region", "24,0,5,5"], 1, "the region 24,0,5,5 is outside the photograph of 24 x 16 pixels"),
        (["--region", "bad.png"], 1, "cannot read bad.png"),
    ],
)
def test_what_is_invalid_is_refused(mtdeblur, photo: Path, tmp_path: Path, options, code, told) -> None:
    (tmp_path / "bad.png").write_text("hello")
    result = mtdeblur("deblur", *options, "a.png", "-o", "b.png")
    assert result.returncode == code
    assert told in result.stderr.splitlines()[-1]
    assert not (tmp_path / "b.png").exists()


@pytest.mark.slow
def test_another_strength_does_not_pass_for_finished_work(mtdeblur, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/b.png").write_bytes(photo.read_bytes())
    assert mtdeblur("deblur", "a.png", "-o", "out", "--strength", "0.5").returncode == 0
    again = mtdeblur("deblur", "a.png", "more", "-o", "out", "--strength", "0.4")
    assert again.returncode == 1
    assert "exists already" in again.stderr
