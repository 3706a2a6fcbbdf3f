"""`mtdeblur pack` at the command line."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Pack = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> Pack:
    """Run `mtdeblur pack` in this process, in the test's folder: exit code, standard output and error."""
    from mtdeblur.cli.app import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["mtdeblur", "pack", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def draw(folder: Path, count: int, size: tuple[int, int] = (120, 80)) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        picture = Image.fromarray(random.integers(0, 256, (8, 12, 3), dtype=np.uint8))
        picture.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:03}.png")
    return folder


def test_photographs_clips_and_pairs_in_one_archive(pack: Pack, tmp_path: Path) -> None:
    draw(tmp_path / "photos", 10)
    draw(tmp_path / "clip", 15)
    draw(tmp_path / "pairs" / "blur", 2)
    draw(tmp_path / "pairs" / "sharp", 2)
    draw(tmp_path / "more" / "blur", 3, (90, 70))
    draw(tmp_path / "more" / "sharp", 3, (90, 70))
    options = ["--clip", "clip", "--pairs", "pairs", "--train-pairs", "more"]
    options += ["--long-side", "64", "--runs", "1", "-o", "all.zip"]
    code, out, err = pack("photos", *options)
    assert (code, err) == (0, "")
    assert out.startswith("all.zip: ")
    assert out.endswith(" MB\n")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = archive.namelist()
        sizes = {name: Image.open(archive.open(name)).size for name in names}
    kinds = [name.split("/")[:2] for name in names]
    counts = {"/".join(kind): kinds.count(kind) for kind in kinds}
    assert counts == {
        "train/photos": 9,
        "valid/photos": 1,
        "train/clips": 13,
        "train/pairs": 6,
        "valid/pairs": 4,
    }
    assert {max(size) for name, size in sizes.items() if "photos" in name} == {64}
    assert {size for name, size in sizes.items() if "train/pairs" in name} == {(90, 70)}
    assert {size for name, size in sizes.items() if "clips" in name or "valid/pairs" in name} == {(120, 80)}


def test_a_limit_is_kept(pack: Pack, tmp_path: Path) -> None:
    draw(tmp_path / "photos", 4)
    assert pack("photos", "-o", "free.zip", "--quality", "100")[0] == 0
    free = (tmp_path / "free.zip").stat().st_size
    assert pack("photos", "-o", "small.zip", "--quality", "100", "--limit", f"{0.7 * free / 1e6:.4f}")[0] == 0
    assert (tmp_path / "small.zip").stat().st_size <= 0.7 * free


def test_a_broken_photograph_is_named_and_the_rest_is_packed(pack: Pack, tmp_path: Path) -> None:
    draw(tmp_path / "photos", 3)
    (tmp_path / "photos" / "001.png").write_text("no picture")
    code, out, err = pack("photos", "-o", "two.zip")
    assert code == 0
    assert out.startswith("two.zip: ")
    assert len(err.splitlines()) == 1
    assert "001.png" in err
    with zipfile.ZipFile(tmp_path / "two.zip") as archive:
        assert len(archive.namelist()) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "needs photographs, high-speed clips or pairs"),
        (["nowhere"], "nowhere"),
        (["empty"], ""),
        (["bad.jpg"], "bad.jpg"),
        (["photos", "--pairs", "photos"], "blur"),
        (["photos", "--clip", "short"], "exposure needs 13"),
        (["photos", "--limit", "0.001"], "does not fit"),
    ],
)
def test_what_cannot_be_packed_is_one_line(
    pack: Pack, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    draw(tmp_path / "photos", 4)
    draw(tmp_path / "short", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jpg").write_text("no picture")
    code, out, err = pack(*arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("mtdeblur: ")
    assert reason in err
    assert not list(tmp_path.glob("*.zip*"))


@pytest.mark.parametrize("option", ["--quality", "--long-side", "--runs", "--limit"])
def test_numbers_out_of_range(pack: Pack, option: str) -> None:
    code, _, err = pack("photos", option, "0")
    assert code == 2
    assert option in err
