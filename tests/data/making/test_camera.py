import socket
import sys

import numpy as np
import pytest
from skimage.io import imsave

from mtdeblur.data.disk import photographs
from mtdeblur.data.disk.photographs import find_photographs
from mtdeblur.data.making.camera import SMALLEST_SIDE, Simulation, prepare
from mtdeblur.data.making.camera import simulate_pair as simulate_prepared
from mtdeblur.errors import UserError
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import Motion, margin
from mtdeblur.metrics import quality as metrics
from mtdeblur.metrics.arrays import psnr

STILL = Motion(length=8.0, layers=0.0)
CLEAN = Sensor(noisy=0.0, compressed=0.0)


def picture(height=60, width=80, seed=0, dtype=np.uint8):
    highest = np.iinfo(dtype).max
    coarse = np.random.default_rng(seed).integers(
        0, highest, (height // 4 + 1, width // 4 + 1, 3), endpoint=True
    )
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype(dtype)


def simulate_pair(photograph, name, how):
    return simulate_prepared(prepare(photograph, name, how.longest, how.motion), name, how)


@pytest.mark.parametrize("size", [(60, 80), (81, 60), (61, 61)])
def test_the_sharp_picture_is_the_photograph_without_a_margin(size):
    photograph = picture(*size)
    blurred, sharp = simulate_pair(photograph, "any", Simulation(motion=STILL, sensor=CLEAN))
    edge = margin(STILL)
    middle = photograph[edge:-edge, edge:-edge].astype(int)
    assert np.abs(sharp - middle).max() <= 1
    assert blurred.shape == sharp.shape
    assert blurred.dtype == np.uint8
    assert not np.array_equal(blurred, sharp)


def test_a_higher_level_is_more_blurred():
    def quality(level):
        how = Simulation(level=level, motion=Motion(length=8.0, layers=0.0, still=0.0), sensor=CLEAN)
        return psnr(*simulate_pair(picture(), "any", how))

    assert quality(3) > quality(7) > quality(13)


def test_seed_and_name_decide_everything():
    def blurred(name="a-0", seed=0):
        return simulate_pair(picture(), name, Simulation(seed=seed, motion=STILL))[0]

    assert np.array_equal(blurred(), blurred())
    assert not np.array_equal(blurred(), blurred(name="a-1"))
    assert not np.array_equal(blurred(), blurred(seed=1))


def test_large_photographs_are_made_smaller_first():
    _, sharp = simulate_pair(picture(120, 200), "any", Simulation(longest=100, motion=STILL))
    assert sharp.shape == (60 - 2 * margin(STILL), 100 - 2 * margin(STILL), 3)


def test_16_bits_are_exposed_as_8():
    wide = picture(dtype=np.uint16)
    _, sharp = simulate_pair(wide, "any", Simulation(motion=STILL, sensor=CLEAN))
    edge = margin(STILL)
    assert np.abs(sharp - wide[edge:-edge, edge:-edge] / 257).max() <= 0.51


@pytest.mark.parametrize("level", [1, 4, 15])
def test_levels_are_odd_from_3_to_13(level):
    with pytest.raises(UserError, match=f"not {level}"):
        Simulation(level=level)


def test_photographs_are_found_in_files_and_folders(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("folder/b.png", "folder/a.png", "c.png"):
        imsave(tmp_path / name, picture(), check_contrast=False)
    found = find_photographs([tmp_path / "c.png", tmp_path / "folder"])
    assert [photograph.name for photograph in found] == ["c", "a", "b"]
    for photograph in found:
        assert np.array_equal(photograph.read(), picture())
    twice = find_photographs([tmp_path, tmp_path / "c.png"])
    assert [photograph.name for photograph in twice] == ["c", "a", "b"]


def test_photographs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("100/1.png", "101/1.png", "101/1.jpg", "101/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        imsave(tmp_path / name, picture(), check_contrast=False)
    found = find_photographs([tmp_path])
    assert {photograph.name: photograph.source for photograph in found} == {
        "100-1": str(tmp_path / "100/1.png"),
        "101-1-jpg": str(tmp_path / "101/1.jpg"),
        "101-1-png": str(tmp_path / "101/1.png"),
        "2": str(tmp_path / "101/2.png"),
    }


def test_public_domain_photographs_need_no_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was used"))
    for photograph in photographs.public_domain_photographs():
        pixels = photograph.read()
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert photographs.PUBLIC_DOMAIN[photograph.name]


def test_without_scikit_image_they_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(UserError, match=r"skimage.data: pip install 'mtdeblur\[data\]'"):
        photographs.public_domain_photographs()


def test_pictures_are_large_enough_to_be_measured():
    assert SMALLEST_SIDE >= metrics.SMALLEST_SIDE
