"""The slider for notebooks: what is in its frame, read by an HTML parser and Pillow."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import mtdeblur
from mtdeblur import Comparison

DARK = np.full((12, 20, 3), 60, np.uint8)
BRIGHT = np.full((12, 20, 3), 200, np.uint8)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))


def shown(comparison: Comparison) -> dict[str, Image.Image]:
    """The pictures in the frame, by their class."""
    ((tag, frame),) = Tags(comparison._repr_html_()).tags
    assert tag == "iframe"
    pictures = {}
    for name, facts in Tags(frame["srcdoc"]).tags:
        if name == "img":
            data = base64.b64decode(facts["src"].partition("base64,")[2], validate=True)
            pictures[facts["class"]] = Image.open(io.BytesIO(data))
    return pictures


@pytest.mark.parametrize(
    "convert",
    [
        lambda pixels: pixels,
        lambda pixels: pixels.astype(np.uint16) * 257,
        lambda pixels: pixels / 255,
        Image.fromarray,
        lambda pixels: Image.fromarray(pixels).convert("L"),
        lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
    ],
    ids=["uint8", "uint16", "float64", "pillow", "grey", "tensor"],
)
def test_both_pictures_are_in_the_frame(convert):
    pictures = shown(mtdeblur.Comparison(convert(DARK), convert(BRIGHT)))
    for side, value in (("before", 60), ("after", 200)):
        assert pictures[side].size == (20, 12)
        assert np.abs(np.asarray(pictures[side].convert("RGB")).astype(int) - value).max() <= 3


def test_profile_and_orientation_are_those_of_the_picture(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(DARK).save(tmp_path / "turned.jpg", exif=exif, icc_profile=profile)
    with Image.open(tmp_path / "turned.jpg") as turned:
        pictures = shown(Comparison(turned, turned.copy()))
    assert pictures["after"].size == (12, 20)
    assert pictures["after"].info["icc_profile"] == profile


def test_the_page_is_saved_and_the_title_is_text(tmp_path):
    comparison = Comparison(DARK, BRIGHT, title='"<script>"', height=300)
    ((_, frame),) = Tags(comparison._repr_html_()).tags
    assert frame["sandbox"] == "allow-scripts"  # as another origin it may not take the keyboard's focus
    assert frame["title"] == '"<script>"'
    assert "300px" in frame["style"]
    comparison.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == frame["srcdoc"]
    assert repr(comparison) == "Comparison('\"<script>\"', 20x12)"


def test_pictures_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="cannot compare"):
        Comparison(DARK, BRIGHT[1:])
    with pytest.raises(ValueError, match="array, a tensor or a Pillow image"):
        Comparison("a.png", "b.png")
