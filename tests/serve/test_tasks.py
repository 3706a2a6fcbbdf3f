"""Names of uploaded files, what clients may ask for, and the server's folder."""

from pathlib import Path

import pytest

from mtdeblur.inference.finish import Finish, Rectangle
from mtdeblur.inference.recipe import Recipe
from mtdeblur.serve.folders import own_folder
from mtdeblur.serve.tasks import safe_name
from mtdeblur.serve.wishes import Wishes, rectangle


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Photos\\photo 1.JPG", "photo 1.JPG"),
        ("Ma\u0308dchen.png", "M\u00e4dchen.png"),
        (".hidden.png", "hidden.png"),
        ("..", "photograph"),
        ("", "photograph"),
        ("a\0b\n.png", "ab.png"),
        ('a<>:"|?*%.png', "a.png"),
        ("x" * 300 + ".tiff", "x" * 80 + ".tiff"),
        ("name.with.dots", "name.with.dots"),
        ("odd.suf fix", "odd.suf fix"),
    ],
)
def test_names_of_uploads(given: str, safe: str) -> None:
    assert safe_name(given) == safe


@pytest.mark.parametrize(
    ("name", "format", "target"),
    [
        ("a.jpeg", "keep", "a-deblurred.jpeg"),
        ("a.jpeg", "jpeg", "a-deblurred.jpeg"),
        ("a.jpeg", "tiff", "a-deblurred.tif"),
        ("a.heic", "keep", "a-deblurred.png"),
        ("a", "keep", "a-deblurred.png"),
        ("a.png", "avif", "a-deblurred.avif"),
    ],
)
def test_names_of_results(tmp_path: Path, name: str, format, target: str) -> None:
    assert Wishes(format=format).job(tmp_path / name).target == tmp_path / target


def test_wishes_are_options_of_the_command_line() -> None:
    wishes = Wishes("best", "3", 0.25, Rectangle(1, 2, 3, 4), "jpeg", 70)
    assert wishes.recipe(Recipe(device="cpu")) == Recipe(quality="best", iterations="3", device="cpu")
    assert wishes.finish() == Finish(0.25, Rectangle(1, 2, 3, 4), 70)
    assert rectangle(" 1, 2,3 ,4") == Rectangle(1, 2, 3, 4)
    assert rectangle("") is None


def test_the_folder_is_removed_and_so_are_those_of_killed_servers(tmp_path: Path) -> None:
    abandoned = tmp_path / "mtdeblur-serve-x"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    (abandoned / "photo.png").touch()
    other = tmp_path / "mtdeblur-serve-y"
    other.mkdir()
    with own_folder(tmp_path) as folder:
        assert set(tmp_path.iterdir()) == {folder, other}
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "photo.png").touch()
    assert set(tmp_path.iterdir()) == {other}
