"""What cannot be read or written is refused in one line that names it."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mtdeblur.errors import UserError
from mtdeblur.media.formats import list_pictures
from mtdeblur.media.pictures import Picture, read_picture, write_picture

CONTAINERS = ["jpg", "png", "tif", "webp"]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], container: str, share: float
) -> None:
    whole = tmp_path / f"whole.{container}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)).save(whole)
    path = tmp_path / f"cut.{container}"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(UserError, match="damaged or incomplete") as caught:
        read_picture(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_other_bad_files_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jpg").write_text("Dear diary")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("L", (9, 9)).save(tmp_path / "targa.png", "TGA")
    (tmp_path / "start.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "folder.jpg").mkdir()
    tifffile.imwrite(tmp_path / "long.tif", np.zeros((8, 8, 3), np.uint32), photometric="rgb")
    tifffile.imwrite(tmp_path / "five.tif", np.zeros((8, 8, 5), np.uint8), photometric="rgb")
    reasons = {
        "text.jpg": "not a picture",
        "empty.jpg": "the file is empty",
        "targa.png": "not a picture",
        "start.jpg": "damaged",
        "folder.jpg": "Is a directory",
        "missing.jpg": "No such file",
        "long.tif": "type uint",
        "five.tif": "5 channels",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as caught:
            read_picture(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    long = Picture(np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(UserError, match=r"a\.webp.*16383"):
        write_picture(tmp_path / "a.webp", long)
    with pytest.raises(UserError, match=r"a\.gif.*must end in"):
        write_picture(tmp_path / "a.gif", long)
    assert list(tmp_path.iterdir()) == []


def test_pictures_refuse_arrays_of_another_kind() -> None:
    with pytest.raises(ValueError, match="must be \\(H, W, 3\\)"):
        Picture(np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        Picture(np.zeros((4, 5, 3)))
    with pytest.raises(ValueError, match="alpha"):
        Picture(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8))
    with pytest.raises(ValueError, match="uint16"):
        Picture(np.zeros((4, 5, 3), np.uint8)).with_pixels(np.zeros((4, 5, 3), np.uint16))


def test_list_pictures(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.tiff", ".cache/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_pictures(tmp_path) == [tmp_path / "a.png", tmp_path / "b.JPG", tmp_path / "sub/c.tiff"]
    assert list_pictures(tmp_path, recursive=False) == [tmp_path / "a.png", tmp_path / "b.JPG"]
    with pytest.raises(UserError, match=r"missing.*No such file"):
        list_pictures(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty contains no pictures"):
        list_pictures(tmp_path / "empty")
