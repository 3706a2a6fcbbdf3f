"""Temporal data sets by the simulated camera: the levels, the layout and the manifest."""

import numpy as np
import pytest
from skimage.io import imread

from mtdeblur.data.manifest import check_dataset, read_manifest
from mtdeblur.data.stored import Dataset
from mtdeblur.errors import UserError
from mtdeblur.evaluation.simulated import Photograph, Simulation, simulate_pair
from mtdeblur.evaluation.simulated_ladders import write_temporal_dataset
from mtdeblur.exposure.crf import IDENTITY
from mtdeblur.exposure.simulate import Motion, Sensor

HOW = Simulation(seed=5, motion=Motion(length=8.0, layers=0.0, still=0.0), crf=IDENTITY)


def picture(height=60, width=80, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


@pytest.fixture
def photographs():
    return [Photograph(f"p{number:02d}", lambda seed=number: picture(seed=seed)) for number in range(11)]


def test_photographs_become_a_data_set_as_augment_makes_it(photographs, tmp_path):
    assert list(write_temporal_dataset(photographs, tmp_path, 2, HOW, (7, 13))) == [None] * 11
    rows, facts = read_manifest(tmp_path)
    assert len(rows) == 11 * 2 * 7
    assert (facts["seed"], facts["level"], facts["crf"]) == (5, [7, 13], "identity")
    total, faults = check_dataset(tmp_path)
    assert (total, set(faults)) == (len(rows), {None})
    assert {row.clip for row in rows if row.split == "valid"} == {"p09"}  # every tenth is held out
    for row in rows:
        own = 13 if row.name == "000001" else 7
        side = {1: "sharp", own: "blur"}.get(row.level, f"TL{row.level}")
        assert row.path == f"{row.split}/{row.clip}/{side}/{row.name}.png"
        assert row.last_frame - row.first_frame + 1 == row.level
        assert row.first_frame + row.last_frame == 12
    data = Dataset(tmp_path)
    assert len(data.ladders) == 20
    assert all(list(ladder.folders) == [1, 3, 5, 7, 9, 11, 13] for ladder in data.ladders)
    assert len(data.valid_pairs) == 2


def test_levels_are_those_of_the_pairs_and_more_blurred_the_higher(photographs, tmp_path):
    list(write_temporal_dataset(photographs[:1], tmp_path, 1, HOW, (13,)))
    stored = {n: imread(tmp_path / f"train/p00/TL{n}/000000.png").astype(float) for n in (3, 5, 7, 9, 11)}
    clean = Simulation(level=7, seed=5, motion=HOW.motion, crf=IDENTITY, sensor=Sensor(noisy=0, compressed=0))
    blurred, sharp = simulate_pair(picture(seed=0), "p00-0", clean)
    np.testing.assert_array_equal(stored[7], blurred)
    np.testing.assert_array_equal(imread(tmp_path / "train/p00/sharp/000000.png"), sharp)
    errors = [np.square(image - sharp).mean() for image in stored.values()]
    assert errors == sorted(errors)
    # 13 TL13 = 11 TL11 + the two frames outside, each from 0 to 255, up to rounding.
    widest = imread(tmp_path / "train/p00/blur/000000.png").astype(float)
    outside = 13 * widest - 11 * stored[11]
    assert outside.min() >= -12
    assert outside.max() <= 2 * 255 + 12


def test_a_photograph_that_fails_is_reported_and_the_rest_goes_on(photographs, tmp_path):
    tiny = Photograph("tiny", lambda: picture(20, 200))
    failed, fine = write_temporal_dataset([tiny, photographs[0]], tmp_path, 1, HOW)
    assert "tiny-0: a picture of 200x20 is too small" in str(failed)
    assert fine is None
    assert {row.clip for row in read_manifest(tmp_path)[0]} == {"p00"}


def test_a_data_set_that_is_there_stays(photographs, tmp_path):
    list(write_temporal_dataset(photographs[:1], tmp_path, 1, HOW))
    with pytest.raises(UserError, match="holds a data set"):
        list(write_temporal_dataset(photographs[:1], tmp_path, 1, HOW))


def test_levels_out_of_range_are_refused(photographs, tmp_path):
    with pytest.raises(UserError, match="not 8"):
        list(write_temporal_dataset(photographs[:1], tmp_path, 1, HOW, (7, 8)))
    assert not list(tmp_path.iterdir())
