"""The before/after page: what is in it, read by an HTML parser and Pillow."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mtdeblur.errors import UserError
from mtdeblur.media.comparison import write_page
from mtdeblur.media.pictures import Picture, read_picture


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())

    def picture(self, side: str) -> Image.Image:
        (address,) = [facts["src"] for tag, facts in self.tags if tag == "img" and facts["class"] == side]
        start, _, data = address.partition(",")
        assert re.fullmatch(r"data:image/\w+;base64", start)
        return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def stored_turned(path: Path) -> Picture:
    """A dark picture of which the left half is stored above the right one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = np.zeros((40, 60, 3), np.uint8)
    samples[:20] = 90
    Image.fromarray(samples).save(path, exif=exif)
    return read_picture(path)


def written(path: Path, before: Picture, after: Picture, title: str = "photo.png") -> Page:
    write_page(path, title, before, after)
    return Page(path.read_text(encoding="utf-8"))


def test_both_pictures_are_in_the_page_upright(tmp_path: Path) -> None:
    before = stored_turned(tmp_path / "photo.png")
    page = written(tmp_path / "page.html", before, before.with_pixels(before.pixels + np.uint8(100)))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "photo.png"))).astype(int)
    for side, more in (("before", 0), ("after", 100)):
        shown = page.picture(side)
        assert shown.getexif().get(0x0112, 1) == 1
        assert np.abs(np.asarray(shown) - expected - more).max() <= 12
        assert np.abs(np.asarray(shown) - expected - more).mean() <= 1


def test_a_person_without_a_mouse_is_served(tmp_path: Path) -> None:
    picture = Picture(np.zeros((4, 5, 3), np.uint8))
    page = written(tmp_path / "page.html", picture, picture)
    (slider,) = [facts for tag, facts in page.tags if tag == "input" and facts["type"] == "range"]
    assert slider["aria-label"]
    assert all(facts["alt"] for tag, facts in page.tags if tag == "img")
    assert {"Before", "After"} <= set(page.text)


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    picture = Picture(np.zeros((4, 5, 3), np.uint8))
    page = written(tmp_path / "page.html", picture, picture)
    addresses = [facts[name] for _, facts in page.tags for name in ("src", "href") if name in facts]
    assert len(addresses) == 2
    assert all(address.startswith("data:image/") for address in addresses)
    assert "http:" not in (text := (tmp_path / "page.html").read_text())
    assert "https:" not in text


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    picture = Picture(np.zeros((4, 5, 3), np.uint8))
    name = 'a <script>alert("1")</script> & $b \udce9.png'
    page = written(tmp_path / "page.html", picture, picture, name)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert 'a <script>alert("1")</script> & $b %E9.png' in page.text


def test_transparency_is_kept_and_16_bits_become_8(tmp_path: Path) -> None:
    alpha = np.zeros((4, 5), np.uint16)
    alpha[2] = 65535
    picture = Picture(np.full((4, 5, 3), 257 * 100, np.uint16), alpha)
    shown = written(tmp_path / "page.html", picture, picture).picture("after")
    assert shown.mode == "RGBA"
    assert np.asarray(shown)[2].tolist() == [[100, 100, 100, 255]] * 5
    assert (np.asarray(shown)[..., 3][[0, 1, 3]] == 0).all()


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    picture = Picture(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(UserError, match="it is a folder"):
        write_page(tmp_path / "page.html", "photo.png", picture, picture)
