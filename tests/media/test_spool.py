"""Large pictures in temporary files: the same pixels and files as in memory."""

import os

import numpy as np
import pytest
from PIL import Image

from mtdeblur.errors import UserError
from mtdeblur.media import spool
from mtdeblur.media.comparison import side_by_side
from mtdeblur.media.pictures import read_picture, write_picture


@pytest.fixture
def small_is_large(monkeypatch, tmp_path):
    """Every picture is a large one, kept in a folder of its own."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(spool, "LARGE", 0)
    monkeypatch.setattr(spool, "_STRIP", 500)
    yield
    assert not list(folder.iterdir())


def stored(path, mode: str):
    random = np.random.default_rng(3)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    samples = random.integers(0, 256, (23, 31, channels), dtype=np.uint8)
    exif = Image.Exif()
    exif[271], exif[274] = "Acme", 6
    Image.fromarray(samples.squeeze(), mode).save(path, exif=exif)
    return path


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("container", ["jpg", "png", "tif", "webp"])
def test_the_same_as_in_memory(small_is_large, tmp_path, mode, container):
    source = stored(tmp_path / "a.png", mode)
    whole, large = read_picture(source), read_picture(source, spooled=True)
    assert spool.in_file(large.pixels)
    assert not spool.in_file(whole.pixels)
    changed = [picture.with_pixels(255 - picture.pixels) for picture in (whole, large)]
    for number, (one, other) in enumerate(
        [(whole, large), changed, (side_by_side(*[whole] * 2), side_by_side(*[large] * 2))]
    ):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        for name, picture in (("one", one), ("other", other)):
            write_picture(tmp_path / f"{name}{number}.{container}", picture)
        one, other = (read_picture(tmp_path / f"{name}{number}.{container}") for name in ("one", "other"))
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.exif == other.exif
        assert (one.alpha is None) == (other.alpha is None)
        if one.alpha is not None:
            np.testing.assert_array_equal(one.alpha, other.alpha)


def test_16_bits(small_is_large, tmp_path):
    samples = np.random.default_rng(3).integers(0, 65536, (23, 31), dtype=np.uint16)
    Image.fromarray(samples).save(tmp_path / "a.png")
    large = read_picture(tmp_path / "a.png", spooled=True)
    write_picture(tmp_path / "b.tif", large)
    np.testing.assert_array_equal(read_picture(tmp_path / "b.tif").pixels[..., 0], samples)


def test_values_stay_when_rows_are_released(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    array = spool.mapped(spool.temporary_file(10**6), (1000, 1000), np.uint8)
    array[...] = np.arange(1000)[:, None] % 251
    view = array[10:20, ::-1]
    assert spool.in_file(view)
    spool.release(view)
    assert (array == np.arange(1000)[:, None] % 251).all()
    other = spool.like(view, (3, 4), np.uint16)
    assert spool.in_file(other)
    assert not spool.in_file(spool.like(np.zeros(3), (3,), np.uint8))


def test_a_damaged_large_picture_is_refused(small_is_large, tmp_path):
    whole = stored(tmp_path / "a.png", "RGB").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot read .*b\.png"):
        read_picture(tmp_path / "b.png", spooled=True)


def test_a_folder_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(UserError, match=r"large picture in .*missing: .*set TMPDIR"):
        spool.temporary_file(10)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_a_full_disk_is_found_before_the_picture_is_written(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match="set TMPDIR"):
        spool.temporary_file(2**60)
