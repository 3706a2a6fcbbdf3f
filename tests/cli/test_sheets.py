"""`mtdeblur sheets`, with the weights that ship."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.cli import app


@pytest.fixture
def sheets(monkeypatch, capsys, tmp_path):
    """Run `mtdeblur sheets` here, in a folder of the test's own: exit code, and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["mtdeblur", "sheets", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            app.main()
        return stop.value.code or 0, capsys.readouterr().err

    return run


def write(path: Path, size: tuple[int, int] = (30, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_a_folder_becomes_sheets(sheets, tmp_path: Path) -> None:
    write(tmp_path / "in/a.png")
    write(tmp_path / "in/sub/b.jpg")
    write(tmp_path / "in/theirs/a-1.png")
    options = ["--beside", "in/theirs", "--side", 64, "--weights", "mtnaf-small", "--iterations", 2]
    code, said = sheets("in", "-o", "out", *options)
    assert code == 0, said
    with Image.open(tmp_path / "out/a.png.png") as one, Image.open(tmp_path / "out/sub/b.jpg.png") as other:
        assert one.size[0] == 3 * 72
        assert other.size[0] == 2 * 72
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


def test_a_broken_picture_is_reported_and_the_rest_goes_on(sheets, tmp_path: Path) -> None:
    write(tmp_path / "in/b.png")
    (tmp_path / "in/a.png").write_bytes(b"broken")
    code, said = sheets("in", "-o", "out", "--side", 64)
    assert code == 1
    assert "mtdeblur: cannot read in/a.png: its content is not" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png.png"]


def test_mistakes_are_one_line(sheets, tmp_path: Path) -> None:
    write(tmp_path / "in/a.png")
    for arguments, reason in {
        ("in", "-o", "in/out"): "choose another folder",
        ("in", "-o", "out", "--weights", "nothing"): "nothing",
        ("nowhere", "-o", "out"): "nowhere",
        ("in", "-o", "in/a.png"): "choose another folder",
    }.items():
        code, said = sheets(*arguments)
        assert code == 1
        assert said.startswith("mtdeblur: ")
        assert len(said.splitlines()) == 1
        assert reason in said
