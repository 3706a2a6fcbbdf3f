import json
import socket

import numpy as np
import pytest
from skimage.io import imread, imsave

from mtdeblur.errors import UserError
from mtdeblur.evaluation import simulated
from mtdeblur.evaluation.metrics import psnr
from mtdeblur.evaluation.pairs import find_pairs
from mtdeblur.evaluation.simulated import Photograph, Simulation, find_photographs, simulate_pair, write_pairs
from mtdeblur.exposure.simulate import Motion, Sensor, margin

STILL = Motion(length=8.0, layers=0.0)
CLEAN = Sensor(noisy=0.0, compressed=0.0)


def picture(height=60, width=80, seed=0, dtype=np.uint8):
    highest = np.iinfo(dtype).max
    coarse = np.random.default_rng(seed).integers(
        0, highest, (height // 4 + 1, width // 4 + 1, 3), endpoint=True
    )
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype(dtype)


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


def test_pairs_are_written_with_an_account_of_how_they_were_made(tmp_path):
    photographs = [Photograph("one", picture), Photograph("two", lambda: picture(40, 90))]
    outcomes = list(write_pairs(photographs, tmp_path / "pairs", 2, Simulation(seed=5, motion=STILL)))
    assert outcomes == [None, None]
    pairs = find_pairs(tmp_path / "pairs")
    assert [pair.name for pair in pairs] == ["one-0", "one-1", "two-0", "two-1"]
    blurred, sharp = simulate_pair(picture(40, 90), "two-1", Simulation(seed=5, motion=STILL))
    assert np.array_equal(imread(pairs[3].blur), blurred)
    assert np.array_equal(imread(pairs[3].sharp), sharp)
    account = json.loads((tmp_path / "pairs" / "simulation.json").read_text())
    assert (account["seed"], account["exposures"], account["motion"]["length"]) == (5, 2, 8.0)
    assert list(account["photographs"]) == ["one", "two"]


def test_a_photograph_that_fails_is_reported_and_the_rest_goes_on(tmp_path):
    photographs = [Photograph("tiny", lambda: picture(20, 200)), Photograph("fine", picture)]
    failed, fine = write_pairs(photographs, tmp_path, 1, Simulation(motion=STILL))
    assert "tiny-0: a picture of 200x20 is too small" in str(failed)
    assert fine is None
    assert [pair.name for pair in find_pairs(tmp_path)] == ["fine-0"]


def test_pairs_that_are_there_stay(tmp_path):
    (tmp_path / "sharp").mkdir()
    with pytest.raises(UserError, match="there already"):
        list(write_pairs([Photograph("one", picture)], tmp_path, 1, Simulation(motion=STILL)))
    assert not (tmp_path / "blur").exists()


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
    with pytest.raises(UserError, match="share a stem"):
        find_photographs([tmp_path, tmp_path / "c.png"])


def test_public_domain_photographs_need_no_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was used"))
    for photograph in simulated.public_domain_photographs():
        pixels = photograph.read()
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert simulated.PUBLIC_DOMAIN[photograph.name]
