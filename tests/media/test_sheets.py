"""Before/after sheets: what is shown where, and which outputs of others belong to a picture."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mtdeblur.errors import UserError
from mtdeblur.media.pictures import read_picture
from mtdeblur.media.sheets import CROPS, Column, Item, make_sheet, plan, sheet

SIDE = 64


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def place_of(crop: np.ndarray, made: np.ndarray) -> tuple[int, int]:
    """Where a crop stands in a sheet."""
    candidates = np.argwhere((made == crop[0, 0]).all(axis=-1))
    height, width = crop.shape[:2]
    for top, left in candidates:
        if np.array_equal(made[top : top + height, left : left + width], crop):
            return int(top), int(left)
    raise AssertionError("the crop stands nowhere")


def test_crops_stand_below_one_another_and_columns_beside_one_another() -> None:
    before, after = noise(300, 400), noise(300, 400, 1)
    made = sheet([Column("before", before), Column("after", after)], SIDE)
    middles = {"centre": (150, 200), "upper left": (75, 100), "lower right": (225, 300)}
    found = {}
    for name, (row, column) in middles.items():
        area = (slice(row - 32, row + 32), slice(column - 32, column + 32))
        (top, left), (beside, further) = place_of(before[area], made), place_of(after[area], made)
        assert (top, left) == (beside, 0)
        assert further >= SIDE
        found[name] = top
    assert list(CROPS) == ["centre", "upper left", "upper right", "lower left", "lower right"]
    assert found["centre"] < found["upper left"] < found["lower right"]
    assert found["lower right"] - found["upper left"] == 3 * (found["upper left"] - found["centre"])


def test_the_whole_picture_is_there_made_smaller() -> None:
    picture = np.zeros((200, 400, 3), np.uint8)
    picture[:, 200:] = (10, 200, 30)
    made = sheet([Column("", picture)], 100)
    area = made[:115]  # the captions and the whole
    coloured = (area == (10, 200, 30)).all(axis=-1).sum(axis=1)
    assert (coloured >= 40).sum() == 50  # 50 rows of almost 50 pixels


@settings(max_examples=25)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 3))
def test_pictures_of_any_size(height: int, width: int, columns: int) -> None:
    """Smaller ones are shown whole in every crop."""
    pictures = [noise(height, width, seed) for seed in range(columns)]
    made = sheet([Column(f"number {index}", picture) for index, picture in enumerate(pictures)], SIDE)
    assert made.dtype == np.uint8
    assert made.shape[1] >= SIDE * columns
    if max(height, width) <= SIDE:
        for picture in pictures:
            assert place_of(picture, made)


def test_labels_are_written() -> None:
    picture = np.full((80, 80, 3), 255, np.uint8)
    blank, one, other = (sheet([Column(label, picture)], SIDE) for label in ("", "before", "a < b & c"))
    assert blank[:12].min() == 255
    assert one[:14].min() < 100
    assert not np.array_equal(one[:14], other[:14])
    assert sheet([Column("long " * 99, picture)], SIDE).shape == one.shape


def test_columns_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="columns of one size"):
        sheet([Column("a", noise(9, 9)), Column("b", noise(9, 8))])
    with pytest.raises(ValueError, match="columns of one size"):
        sheet([])


def test_every_picture_has_a_sheet_of_its_own(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "sub/a.png"):
        save(tmp_path / "in" / name, noise(8, 8))
    targets = [item.target for item in plan(tmp_path / "in", tmp_path / "out")]
    assert targets == [tmp_path / "out" / f"{name}.png" for name in ("a.jpg", "a.png", "sub/a.png")]


def test_others_outputs_are_found_and_are_no_pictures_of_their_own(tmp_path: Path) -> None:
    for name in ("a.png", "ab.png", "sub/a.png", "theirs/a-1.png", "theirs/a.jpg", "theirs/sub/a.webp"):
        save(tmp_path / name, noise(8, 8))
    save(tmp_path / "theirs/ab-2.png", noise(8, 8))
    items = plan(tmp_path, tmp_path.parent / "out", [tmp_path / "theirs"])
    found = {
        item.source.relative_to(tmp_path).as_posix(): [
            path.relative_to(tmp_path / "theirs").as_posix() for path in item.beside
        ]
        for item in items
    }
    assert found == {
        "a.png": ["a-1.png", "a.jpg"],
        "ab.png": ["ab-2.png"],
        "sub/a.png": ["a-1.png", "a.jpg", "sub/a.webp"],
    }


def test_sheets_do_not_lie_among_the_pictures(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", noise(8, 8))
    for output in (tmp_path / "in", tmp_path / "in" / "sheets", tmp_path / "out" / ".." / "in"):
        with pytest.raises(UserError, match="choose another folder"):
            plan(tmp_path / "in", output)
    with pytest.raises(UserError, match="missing"):
        plan(tmp_path / "in", tmp_path / "out", [tmp_path / "missing"])


def test_a_sheet_shows_before_after_and_what_others_made(tmp_path: Path) -> None:
    pixels = noise(40, 50)
    source = save(tmp_path / "a.png", pixels)
    theirs = save(tmp_path / "theirs" / "a.png", noise(40, 50, 7))
    small = save(tmp_path / "theirs" / "a-small.png", noise(20, 25))
    item = Item(source, tmp_path / "sheet.png", (theirs, small))
    made, notices = make_sheet(item, {"inverted": lambda image: 255 - image}, SIDE)
    lefts = [place_of(shown, made.pixels)[1] for shown in (pixels, 255 - pixels, noise(40, 50, 7))]
    assert lefts[0] == 0
    assert lefts[1] >= SIDE
    assert lefts[2] == 2 * lefts[1]
    assert notices == [f"{small} is left out: its size differs from that of {source}"]


def test_deep_and_turned_pictures(tmp_path: Path) -> None:
    """What a method is given has the file's depth; the sheet is upright and has 8 bits."""
    exif = Image.Exif()
    exif[274] = 6
    pixels = noise(30, 40)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(pixels, -1)
    made, _ = make_sheet(Item(tmp_path / "turned.png", tmp_path / "x.png", ()), {}, SIDE)
    assert place_of(upright, made.pixels)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    seen = []

    def method(image: np.ndarray) -> np.ndarray:
        seen.append(image.dtype)
        return image

    made, _ = make_sheet(Item(tmp_path / "deep.png", tmp_path / "x.png", ()), {"same": method}, SIDE)
    assert seen == [np.uint16]
    assert place_of(pixels[..., :1].repeat(3, axis=-1), made.pixels)
    assert read_picture(tmp_path / "deep.png").grey
    assert not made.grey
