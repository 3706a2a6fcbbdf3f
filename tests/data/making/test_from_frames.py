import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from mtdeblur.data.disk.manifest import check_dataset, read_manifest
from mtdeblur.data.making import build as building
from mtdeblur.data.making import from_frames as room
from mtdeblur.data.making.camera import Simulation
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.from_photographs import simulate
from mtdeblur.data.making.plan import GOPRO, Recipe
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import GAMMA

pytest.importorskip("pyarrow")
SMALL = Recipe((3, 5), (3, 5), stride=2)


def film(folder, count, seed=0, first=1, height=24, width=32):
    """Frames of a camera that pans over a texture, as PNG."""
    folder.mkdir(parents=True)
    scene = gaussian_filter(
        np.random.default_rng(seed).normal(size=(height, width + 2 * count, 3)), (3, 3, 0)
    )
    scene = (128 + 40 * scene / scene.std()).clip(0, 255).astype(np.uint8)
    for index in range(count):
        Image.fromarray(scene[:, 2 * index : 2 * index + width]).save(folder / f"{first + index:06d}.png")
    return folder


@pytest.fixture
def footage(tmp_path):
    root = tmp_path / "GOPRO_Large_all"
    film(root / "train/GOPR0372_07_00", 24, 1)
    film(root / "train/GOPR0378_13_00", 30, 2, first=100)
    film(root / "test/GOPR0384_11_00", 26, 3)
    return root


# -- what is built


def test_a_data_set_is_built_and_passes_its_check(footage, tmp_path, heard):
    rows = augment([footage], tmp_path / "set", SMALL, workers=1, progress=heard)
    assert heard.stages == [["clips", 3, 3], ["exposures", 10 + 13 + 11, 34]]
    assert heard.notices == []
    assert len(rows) == 34 * 3
    assert {(row.split, row.clip) for row in rows} == {
        ("train", "GOPR0372_07_00"),
        ("train", "GOPR0378_13_00"),
        ("test", "GOPR0384_11_00"),
    }
    inputs = [row.input_level for row in rows if row.level == 1 and row.split == "train"]
    assert (inputs.count(3), inputs.count(5)) == (12, 11)
    assert [problem for problem in check_dataset(tmp_path / "set")[1] if problem] == []
    assert not list((tmp_path / "set").glob(".*"))
    names = [row.name for row in rows if row.clip == "GOPR0378_13_00" and row.level == 1]
    assert names == [f"{number:06d}" for number in range(102, 128, 2)]
    _, facts = read_manifest(tmp_path / "set")
    assert facts["faults"] == {"GOPR0372_07_00": [], "GOPR0378_13_00": [], "GOPR0384_11_00": []}


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(footage, tmp_path, content):
    for workers in (1, 2):
        augment([footage], tmp_path / f"{workers}", SMALL, crf=GAMMA, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_no_exposure_spans_a_fault_and_the_reason_is_told(footage, tmp_path, heard):
    clip = footage / "train/GOPR0372_07_00"
    (clip / "000010.png").unlink()
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(clip / "000020.png")
    rows = augment([clip], tmp_path / "set", Recipe((5,), (), stride=1), workers=1, progress=heard)
    spans = [set(range(row.first_frame, row.last_frame + 1)) for row in rows if row.level == 5]
    assert not any({9, 11} <= span or 20 in span for span in spans)
    assert len(spans) == (9 - 4) + (9 - 4) + 0
    (notice,) = heard.notices
    assert notice.startswith("GOPR0372_07_00: no exposure spans frame 11: frames are lost before it: numbers")
    faults = read_manifest(tmp_path / "set")[1]["faults"]["GOPR0372_07_00"]
    assert [fault["number"] for fault in faults][:2] == [11, 20]


def test_gopros_pairs_have_each_clips_own_level(footage, tmp_path, heard):
    rows = augment([footage], tmp_path / "set", GOPRO, workers=1, progress=heard)
    pairs = {(row.clip, row.name): row.input_level for row in rows if row.level != 1}
    assert {level for (clip, _), level in pairs.items() if clip == "GOPR0372_07_00"} == {7}
    assert [name for clip, name in pairs if clip == "GOPR0372_07_00"] == ["000004", "000011", "000018"]
    assert {row.path.split("/")[2] for row in rows} == {"blur", "sharp"}
    assert heard.notices == [
        "5 exposures for train, not the 2103 of the published data set",
        "2 exposures for test, not the 1111 of the published data set",
    ]


# -- limits and refusals


def test_a_limit_is_kept_by_leaving_exposures_out_evenly(footage, tmp_path, heard):
    whole = augment([footage], tmp_path / "whole", SMALL, workers=1)
    limit = sum(row.bytes for row in whole) // 2
    rows = augment([footage], tmp_path / "set", SMALL, limit=limit, workers=1, progress=heard)
    assert 0.6 * limit < sum(row.bytes for row in rows) <= limit
    inputs = [row.input_level for row in rows if row.level == 1 and row.split == "train"]
    assert abs(inputs.count(3) - inputs.count(5)) <= 1
    assert any("left out evenly" in notice for notice in heard.notices)
    with pytest.raises(UserError, match="the limit is too small"):
        augment([footage], tmp_path / "none", SMALL, limit=1000, workers=1)


@pytest.mark.fault("full disk")
def test_a_full_disk_is_noticed_before_anything_is_written(footage, tmp_path, monkeypatch, content):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs about 0\.\d GB more, .* 0\.0 GB free; set --limit-size"):
        augment([footage], tmp_path / "set", SMALL, workers=1)
    assert content(tmp_path / "set") == {}
    monkeypatch.undo()
    augment([footage], tmp_path / "set", Recipe((3,), ()), workers=1)  # other settings may follow


def test_folders_with_anything_else_in_them_are_left_alone(footage, tmp_path, content, heard):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.png").touch()
    with pytest.raises(UserError, match="is not empty"):
        augment([footage], tmp_path / "photos", SMALL, workers=1)
    augment([footage / "test"], tmp_path / "set", SMALL, workers=1)
    before = content(tmp_path / "set")
    with pytest.raises(UserError, match="other settings"):
        augment([footage / "test"], tmp_path / "set", SMALL, crf=GAMMA, workers=1)
    assert augment([footage / "test"], tmp_path / "set", SMALL, workers=1, progress=heard)
    assert heard.stages == []  # what is finished is not made again
    assert content(tmp_path / "set") == before


def test_a_test_video_is_refused_in_training_before_anything_is_read(footage, tmp_path):
    with pytest.raises(UserError, match=r"GOPR0384_11_00 .*11 test videos"):
        augment([footage], tmp_path / "set", SMALL, splits={"train": ["GOPR*"]}, workers=1)
    assert not (tmp_path / "set").exists()


# -- interrupted


def test_what_is_done_is_not_done_again_and_what_is_gone_is(footage, tmp_path, monkeypatch, content, heard):
    augment([footage], tmp_path / "undisturbed", SMALL, workers=1)
    made = []
    original = room.make_exposure

    def failing(exposure, **settings):
        made.append((exposure.clip.name, exposure.middle))
        if len(made) in (8, 20):
            raise UserError("the disk is full")
        return original(exposure, **settings)

    monkeypatch.setattr(room, "make_exposure", failing)
    for _ in range(2):
        with pytest.raises(UserError, match="the disk is full"):
            augment([footage], tmp_path / "set", SMALL, workers=1)
        with pytest.raises(UserError, match="other settings"):
            augment([footage], tmp_path / "set", Recipe((3,), ()), workers=1)
    next(iter((tmp_path / "set").rglob("sharp/*.png"))).unlink()
    augment([footage], tmp_path / "set", SMALL, workers=1, progress=heard)
    assert heard.stages[0] == ["clips", 3, 3]
    assert len(made) == 34 + 2 + 1
    assert content(tmp_path / "set") == content(tmp_path / "undisturbed")


BUILD = """
import sys
from pathlib import Path
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.plan import Recipe
import mtdeblur.data.making.faults, mtdeblur.media.libvips, pyarrow.parquet

def build(folder, workers):
    augment([sys.argv[1]], folder, Recipe((3, 5), (3, 5), stride=2), workers=workers)
"""


@pytest.mark.slow
@pytest.mark.fault("killed training or data set")
def test_killed_at_twenty_random_moments_the_data_set_has_the_same_bytes(footage, tmp_path, builder):
    augment([footage], tmp_path / "undisturbed", SMALL, workers=1)
    builder.kill_and_repeat(BUILD, footage, tmp_path / "undisturbed", times=20, pictures=3)


@pytest.mark.slow
@pytest.mark.fault("killed training or data set")
def test_killed_with_its_workers_at_work_none_stays_and_the_bytes_are_the_same(footage, tmp_path, builder):
    augment([footage], tmp_path / "undisturbed", SMALL, workers=1)
    builder.kill_with_its_workers(BUILD, footage, tmp_path / "undisturbed", pictures=3)


def test_a_missing_pyarrow_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    clip, made = film(tmp_path / "clip", 14), tmp_path / "made"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pyarrow: pip install 'mtdeblur\[data\]'"):
        augment([clip], made, SMALL)
    with pytest.raises(UserError, match=r"pyarrow: pip install 'mtdeblur\[data\]'"):
        simulate([], made, 1, Simulation(), (7,))
    assert not made.exists()
