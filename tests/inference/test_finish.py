"""Strength and regions, against plain arithmetic."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mtdeblur.errors import UserError
from mtdeblur.inference.finish import WHOLE, Finish, Rectangle, parse_region
from mtdeblur.media.pictures import Picture, read_picture

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def pictures(height: int, width: int, dtype: type = np.uint8) -> tuple[Picture, np.ndarray]:
    rng = np.random.default_rng(height * 100 + width)
    top = np.iinfo(dtype).max
    before, estimate = rng.integers(0, top, (2, height, width, 3), dtype, endpoint=True)
    return Picture(before), estimate


def apply(finish: Finish, picture: Picture, estimate: np.ndarray) -> np.ndarray:
    return finish(picture, picture.pixels, estimate)


@given(SHAPES, st.floats(0, 1), st.sampled_from([np.uint8, np.uint16]))
def test_strength_lies_between_photograph_and_estimate(shape, strength: float, dtype) -> None:
    picture, estimate = pictures(*shape, dtype)
    result = apply(Finish(strength), picture, estimate)
    expected = picture.pixels * (1 - strength) + estimate * strength
    assert result.dtype == dtype
    assert np.abs(result - expected).max() <= 0.51


def test_the_ends_of_strength_are_exact() -> None:
    picture, estimate = pictures(30, 40, np.uint16)
    assert (apply(Finish(0.0), picture, estimate) == picture.pixels).all()
    assert apply(WHOLE, picture, estimate) is estimate
    everywhere = Finish(1.0, Rectangle(-5, -5, 100, 100))
    assert (apply(everywhere, picture, estimate) == estimate).all()


@given(SHAPES, st.integers(-5, 39), st.integers(-5, 39), st.integers(1, 50), st.integers(1, 50))
def test_outside_a_rectangle_nothing_changes(shape, x: int, y: int, width: int, height: int) -> None:
    picture, estimate = pictures(*shape)
    inside = np.zeros(shape, bool)
    inside[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = True
    finish = Finish(1.0, Rectangle(x, y, width, height))
    if not inside.any():
        with pytest.raises(UserError, match="is outside the photograph"):
            apply(finish, picture, estimate)
        return
    result = apply(finish, picture, estimate)
    assert (result[~inside] == picture.pixels[~inside]).all()
    low, high = np.minimum(picture.pixels, estimate), np.maximum(picture.pixels, estimate)
    assert ((low <= result) & (result <= high)).all()
    places = np.argwhere(inside)
    if np.ptp(places, axis=0).min() >= 5:
        middle = tuple(places.mean(axis=0).astype(int))
        assert (result[middle] == estimate[middle]).all()


def test_the_edge_is_soft_and_inside() -> None:
    picture = Picture(np.zeros((400, 600, 3), np.uint8))
    result = apply(Finish(1.0, Rectangle(100, 100, 600, 200)), picture, np.full((400, 600, 3), 200, np.uint8))
    row = result[200, :, 0].astype(int)
    assert (row[:100] == 0).all()
    assert (row[109:] == 200).all()  # also at the picture's border, where the region goes on
    ramp = np.diff(row[99:109])
    assert (ramp >= 0).all()
    assert ramp.max() <= 25  # of 200
    column = result[:, 400, 0].astype(int)
    assert (column[100:300] == column[100:300][::-1]).all()


def write_mask(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_mask_says_how_much_of_the_estimate_is_kept(tmp_path: Path, depth) -> None:
    levels = np.full((60, 80), 0.25)
    levels[:, 40:] = 0
    path = write_mask(tmp_path / "mask.png", (levels * np.iinfo(depth).max).astype(depth))
    picture = Picture(np.zeros((60, 80, 3), np.uint8))
    result = apply(Finish(0.5, path), picture, np.full((60, 80, 3), 200, np.uint8))
    assert (result[:, :37] == 25).all()
    assert (result[:, 40:] == 0).all()


def test_a_thin_mask_keeps_something(tmp_path: Path) -> None:
    values = np.zeros((400, 400), np.uint8)
    values[200] = 255
    path = write_mask(tmp_path / "mask.png", values)
    result = apply(
        Finish(1.0, path), Picture(np.zeros((400, 400, 3), np.uint8)), np.full((400, 400, 3), 9, np.uint8)
    )
    assert (result[200] == 9).all()
    assert result.sum() == 400 * 3 * 9


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["rectangle", "mask"])
def test_regions_are_those_of_the_upright_photograph(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.zeros((60, 80, 3), np.uint8))
    stored.save(tmp_path / "photo.png", exif=exif)
    picture = read_picture(tmp_path / "photo.png")
    result = apply(WHOLE, picture, picture.pixels)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "photo.png")).size
    values = np.zeros(upright[::-1], np.uint8)
    values[10:30, 5:40] = 255
    region = write_mask(tmp_path / "mask.png", values) if kind == "mask" else Rectangle(5, 10, 35, 20)
    result = apply(Finish(1.0, region), picture, np.full((60, 80, 3), 200, np.uint8))
    Image.fromarray(result).save(tmp_path / "result.png", exif=exif)
    seen = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "result.png")))[..., 0]
    assert (seen[values == 0] == 0).all()
    assert (seen[12:28, 7:38] == 200).all()


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "mask.png", np.zeros((6, 8), np.uint8))
    picture, estimate = pictures(8, 6)
    with pytest.raises(UserError, match=r"mask\.png has 8 x 6 pixels, but the photograph 6 x 8"):
        apply(Finish(1.0, path), picture, estimate)


def test_what_a_user_names_as_a_region(tmp_path: Path) -> None:
    assert parse_region("10, 20,30,40") == Rectangle(10, 20, 30, 40)
    assert parse_region("-10,0,30,40") == Rectangle(-10, 0, 30, 40)
    mask = write_mask(tmp_path / "1,2.png", np.zeros((6, 8), np.uint8))
    assert parse_region(str(mask)) == mask
    for wrong, why in [
        ("1,2,3", "is no file, and not X,Y,W,H"),
        ("face.png", "no file"),
        ("1,2,0,5", "no area"),
    ]:
        with pytest.raises(UserError, match=why):
            parse_region(wrong)


def test_settings_tell_other_finishes_apart(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.png", np.zeros((6, 8), np.uint8))
    finishes = [WHOLE, Finish(0.5), Finish(1.0, Rectangle(1, 2, 3, 4)), Finish(1.0, mask)]
    settings = [str(finish.settings()) for finish in finishes]
    write_mask(mask, np.ones((6, 8), np.uint8))
    settings.append(str(finishes[-1].settings()))
    assert len(set(settings)) == 5
    assert WHOLE.settings() == {}
