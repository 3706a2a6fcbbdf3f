"""Data sets by the simulated camera: the levels, the layout, the manifest, and builds that are stopped."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread, imsave

from mtdeblur.data.disk.manifest import check_dataset, read_manifest
from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.data.disk.photographs import Photograph, find_photographs
from mtdeblur.data.feeding.stored import Dataset
from mtdeblur.data.making import build as building
from mtdeblur.data.making import camera
from mtdeblur.data.making.camera import Simulation, prepare, simulate_pair
from mtdeblur.data.making.from_photographs import simulate
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import IDENTITY
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import Motion

pytest.importorskip("pyarrow")
STILL = Motion(length=8.0, layers=0.0)
HOW = Simulation(seed=5, motion=Motion(length=8.0, layers=0.0, still=0.0), crf=IDENTITY)


def picture(seed=0, height=60, width=80):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


def photograph(name, seed=0, height=60, width=80):
    return Photograph(name, f"made from {seed}", partial(picture, seed, height, width))


def pair_of(pixels, name, how):
    return simulate_pair(prepare(pixels, name, how.longest, how.motion), name, how)


@pytest.fixture
def photographs():
    return [photograph(f"p{number:02d}", number) for number in range(11)]


# -- what is built


def test_photographs_become_a_data_set_as_augment_makes_it(photographs, tmp_path, heard):
    assert simulate(photographs, tmp_path, 2, HOW, (7, 13), workers=1, progress=heard) == {}
    assert heard.stages == [["photographs", 11, 11], ["exposures", 22, 22]]
    rows, facts = read_manifest(tmp_path)
    assert len(rows) == 11 * 2 * 7
    job = facts["job"]
    assert (job["seed"], job["level"], job["crf"]) == (5, [7, 13], "identity")
    assert job["photographs"]["p03"] == "made from 3"
    assert facts["faults"] == {}
    total, problems = check_dataset(tmp_path)
    assert (total, set(problems)) == (len(rows), {None})
    assert {row.clip for row in rows if row.split == "valid"} == {"p09"}  # every tenth is held out
    for row in rows:
        own = 13 if row.name == "000001" else 7
        side = {1: "sharp", own: "blur"}.get(row.level, f"TL{row.level}")
        assert row.path == f"{row.split}/{row.clip}/{side}/{row.name}.png"
        assert row.source == f"made from {int(row.clip[1:])}"
        assert row.last_frame - row.first_frame + 1 == row.level
        assert row.first_frame + row.last_frame == 12
    data = Dataset(tmp_path)
    assert len(data.ladders) == 20
    assert all(list(ladder.folders) == [1, 3, 5, 7, 9, 11, 13] for ladder in data.ladders)
    assert len(data.valid_pairs) == 2


def test_levels_are_dealt_out_evenly_within_each_split(tmp_path):
    photographs = [photograph(f"p{number:02d}", 0, 48, 48) for number in range(20)]
    how = Simulation(motion=Motion(length=4.0, layers=0.0), crf=IDENTITY)
    simulate(photographs, tmp_path, 1, how, (7, 13), workers=1)
    sharp = [row for row in read_manifest(tmp_path)[0] if row.level == 1]
    dealt = {split: [row.input_level for row in sharp if row.split == split] for split in ("train", "valid")}
    assert dealt == {"train": [7, 13] * 9, "valid": [7, 13]}


def test_levels_are_those_of_the_pairs_and_more_blurred_the_higher(photographs, tmp_path):
    simulate(photographs[:1], tmp_path, 1, HOW, (13,), workers=1)
    stored = {n: imread(tmp_path / f"train/p00/TL{n}/000000.png").astype(float) for n in (3, 5, 7, 9, 11)}
    clean = Simulation(level=7, seed=5, motion=HOW.motion, crf=IDENTITY, sensor=Sensor(noisy=0, compressed=0))
    blurred, sharp = pair_of(picture(seed=0), "p00-0", clean)
    np.testing.assert_array_equal(stored[7], blurred)
    np.testing.assert_array_equal(imread(tmp_path / "train/p00/sharp/000000.png"), sharp)
    errors = [np.square(image - sharp).mean() for image in stored.values()]
    assert errors == sorted(errors)
    # 13 TL13 = 11 TL11 + the two frames outside, each from 0 to 255, up to rounding.
    widest = imread(tmp_path / "train/p00/blur/000000.png").astype(float)
    outside = 13 * widest - 11 * stored[11]
    assert outside.min() >= -12
    assert outside.max() <= 2 * 255 + 12


def test_pairs_are_written_with_an_account_of_how_they_were_made(tmp_path, content):
    how = Simulation(seed=5, motion=STILL)
    photographs = [photograph("one"), photograph("two", 1, 40, 92)]
    assert simulate(photographs, tmp_path / "pairs", 2, how, workers=1) == {}
    pairs = find_pairs(tmp_path / "pairs")
    assert [pair.name for pair in pairs] == ["one-0", "one-1", "two-0", "two-1"]
    blurred, sharp = pair_of(picture(1, 40, 92), "two-1", how)
    assert np.array_equal(imread(pairs[3].blur), blurred)
    assert np.array_equal(imread(pairs[3].sharp), sharp)
    assert len(content(tmp_path / "pairs")) == 2 * 4 + 1
    account = json.loads((tmp_path / "pairs" / "simulation.json").read_text())
    assert (account["seed"], account["exposures"], account["motion"]["length"]) == (5, 2, 8.0)
    assert list(account["photographs"]) == ["one", "two"]


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [(), (7, 13)])
def test_any_number_of_workers_gives_the_same_bytes(inputs, tmp_path, content):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        imsave(tmp_path / f"photos/{number}.png", picture(number, 120, 160), check_contrast=False)
    (tmp_path / "photos/broken.png").write_bytes(b"no picture")
    photographs = find_photographs([tmp_path / "photos"])
    faults = [
        simulate(photographs, tmp_path / f"{n}", 2, Simulation(motion=STILL), inputs, workers=n)
        for n in (1, 2)
    ]
    assert [list(found) for found in faults] == [["broken"], ["broken"]]
    assert content(tmp_path / "1") == content(tmp_path / "2")


# -- what cannot be exposed


@pytest.mark.parametrize("inputs", [(), (7, 13)])
def test_photographs_that_fail_are_reported_and_the_rest_is_as_it_would_be(
    inputs, tmp_path, content, heard, heard_again
):
    (tmp_path / "photos").mkdir()
    for name, seed in (("a", 1), ("c", 2), ("d", 3)):
        imsave(tmp_path / f"photos/{name}.png", picture(seed), check_contrast=False)
    imsave(tmp_path / "photos/e.png", picture(4, 20, 200), check_contrast=False)
    whole = (tmp_path / "photos/c.png").read_bytes()
    (tmp_path / "photos/c.png").write_bytes(whole[: len(whole) // 2])
    photographs = find_photographs([tmp_path / "photos"])
    broken, set_ = tmp_path / "broken", tmp_path / "set"
    faults = simulate(photographs, broken, 2, HOW, inputs, workers=1, progress=heard)
    assert list(faults) == ["c", "e"]
    assert "c.png" in faults["c"]
    assert faults["e"] == "e: a picture of 200x20 is too small for motion over 8 pixels"
    assert heard.notices == list(faults.values())
    assert heard.stages == [["photographs", 4, 4], ["exposures", 4, 4]]

    assert simulate(photographs, broken, 2, HOW, inputs, workers=1, progress=heard_again) == faults
    assert (heard_again.stages, heard_again.notices) == ([], heard.notices)

    (tmp_path / "photos/c.png").write_bytes(whole)
    assert list(simulate(photographs, set_, 2, HOW, inputs, workers=1)) == ["e"]
    healed, lacking = content(set_), content(broken)
    assert len(healed) > len(lacking)
    for name in lacking.keys() - {"manifest.parquet", "simulation.json"}:
        assert healed[name] == lacking[name]


def test_where_nothing_can_be_exposed_nothing_is_begun(tmp_path, content, heard):
    with pytest.raises(UserError, match="none of the photographs"):
        simulate([photograph("tiny", 0, 20, 200)], tmp_path / "set", 1, HOW, workers=1, progress=heard)
    assert len(heard.notices) == 1
    assert content(tmp_path / "set") == {}


# -- refusals


@pytest.mark.parametrize("inputs", [(), (7, 13)])
def test_other_settings_are_refused_and_what_is_finished_stays(inputs, photographs, tmp_path, content, heard):
    simulate(photographs[:1], tmp_path / "set", 1, HOW, inputs, workers=1)
    before = content(tmp_path / "set")
    for changed in (
        {"photographs": photographs[:2]},
        {"exposures": 2},
        {"settings": Simulation(seed=6, motion=HOW.motion, crf=IDENTITY)},
        {"inputs": (7, 9)},
        {"inputs": () if inputs else (7,)},
    ):
        arguments = {"photographs": photographs[:1], "exposures": 1, "settings": HOW, "inputs": inputs}
        with pytest.raises(UserError, match="holds a data set made with other settings"):
            simulate(folder=tmp_path / "set", workers=1, **(arguments | changed))
    simulate(photographs[:1], tmp_path / "set", 1, HOW, inputs, workers=1, progress=heard)
    assert heard.stages == []
    assert content(tmp_path / "set") == before


def test_folders_with_anything_else_in_them_are_left_alone(photographs, tmp_path):
    (tmp_path / "sharp").mkdir()
    with pytest.raises(UserError, match="is not empty"):
        simulate(photographs[:1], tmp_path, 1, HOW, workers=1)
    assert not (tmp_path / "blur").exists()


def test_levels_out_of_range_are_refused(photographs, tmp_path):
    with pytest.raises(UserError, match="not 8"):
        simulate(photographs[:1], tmp_path / "set", 1, HOW, (7, 8))
    assert not (tmp_path / "set").exists()


@pytest.mark.fault("full disk")
def test_a_full_disk_is_noticed_before_anything_is_written(photographs, tmp_path, monkeypatch, content):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs about 0\.\d GB more, .* 0\.0 GB free; .*--exposures"):
        simulate(photographs, tmp_path / "set", 4, HOW, (7,), workers=1)
    assert content(tmp_path / "set") == {}


# -- interrupted


@pytest.mark.parametrize("inputs", [(), (7, 13)])
def test_what_is_done_is_not_done_again_and_what_is_gone_is(
    inputs, photographs, tmp_path, monkeypatch, content, heard
):
    some = photographs[:4]
    simulate(some, tmp_path / "undisturbed", 2, HOW, inputs, workers=1)
    made = []
    original = camera.write_level

    def failing(folder, pixels, path=None, **facts):
        made.append((facts["clip"], facts["name"], facts["level"]))
        if len(made) in (6, 10):
            raise UserError("the disk is full")
        return original(folder, pixels, path, **facts)

    monkeypatch.setattr(camera, "write_level", failing)
    for _ in range(2):
        with pytest.raises(UserError, match="the disk is full"):
            simulate(some, tmp_path / "set", 2, HOW, inputs, workers=1)
        with pytest.raises(UserError, match="unfinished job with other settings"):
            simulate(some, tmp_path / "set", 3, HOW, inputs, workers=1)
    lost = sorted(Path(tmp_path / "set").rglob("sharp/*.png"))[0]
    before = len(made)
    journal = tmp_path / "set/.journal"
    noted = journal.read_bytes().count(b'\n{"exposure"')
    if noted:
        lost.unlink()
    simulate(some, tmp_path / "set", 2, HOW, inputs, workers=1, progress=heard)
    each = 7 if inputs else 2
    assert len(made) - before == (8 - noted + bool(noted)) * each
    assert heard.stages[0] == ["photographs", 4, 4]
    assert content(tmp_path / "set") == content(tmp_path / "undisturbed")


BUILD = """
import sys
from pathlib import Path
from mtdeblur.data.disk.photographs import find_photographs
from mtdeblur.data.making.from_photographs import simulate
from mtdeblur.data.making.camera import Simulation
from mtdeblur.exposure.simulate import Motion
import mtdeblur.media.libvips, pyarrow.parquet, torch

torch.set_num_threads(1)  # a child that is forked has no other threads

def build(folder, workers):
    how = Simulation(motion=Motion(length=8.0))
    simulate(find_photographs([Path(sys.argv[1])]), folder, 4, how, INPUTS, workers=workers)
"""


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(6):
        imsave(tmp_path / f"photos/{number}.png", picture(number), check_contrast=False)
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [(), (7, 13)])
@pytest.mark.fault("killed training or data set")
def test_killed_again_and_again_the_data_set_has_the_same_bytes(inputs, photos, tmp_path, builder):
    how = Simulation(motion=Motion(length=8.0))
    simulate(find_photographs([photos]), tmp_path / "undisturbed", 4, how, inputs, workers=1)
    code = BUILD.replace("INPUTS", str(inputs))
    each = 7 if inputs else 2
    builder.kill_and_repeat(code, photos, tmp_path / "undisturbed", times=8, pictures=each)


MEASURE = """
import sys
from functools import partial
from pathlib import Path
import numpy as np
from mtdeblur.data.disk.photographs import Photograph
from mtdeblur.data.making.from_photographs import simulate
from mtdeblur.data.making.camera import Simulation
from mtdeblur.exposure.simulate import Motion
from mtdeblur.inference.memory import peak_memory

def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8)

for count in (3, 30):
    photographs = [Photograph(f"{n}", "noise", partial(picture, n)) for n in range(count)]
    how = Simulation(motion=Motion(length=8.0))
    simulate(photographs, Path(sys.argv[1], f"{count}"), 1, how, (7, 13), workers=1)
    print(peak_memory())
"""


@pytest.mark.slow
def test_ten_times_the_photographs_take_no_more_memory(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(building.__file__).parents[3])}
    said = subprocess.check_output([sys.executable, "-c", MEASURE, str(tmp_path)], text=True, env=environment)
    few, many = (int(line) / 2**20 for line in said.split())
    frames = 13 * 3 * 304**2 * 4 / 2**20  # MiB, of one exposure
    assert many - few < 2 * frames


@pytest.mark.parametrize("inputs", [(), (7,)])
def test_integers_of_numpy_make_the_same_data_set_and_go_on_with_it(photographs, tmp_path, inputs):
    plain = Simulation(7, 3, 64, motion=Motion(length=8.0))
    numpy = Simulation(np.int64(7), np.int64(3), np.int32(64), motion=Motion(length=np.float64(8)))
    assert simulate(photographs[:2], tmp_path / "a", 1, plain, inputs, workers=1) == {}
    levels = tuple(np.int64(level) for level in inputs)
    for _ in range(2):
        assert simulate(photographs[:2], tmp_path / "b", np.int64(1), numpy, levels, workers=1) == {}
    for file in (tmp_path / "a").rglob("*.png"):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    assert simulate(photographs[:2], tmp_path / "a", np.int64(1), numpy, levels, workers=1) == {}
