from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.disk.manifest import (
    JOURNAL,
    check_dataset,
    picture_path,
    read_manifest,
    write_level,
    write_manifest,
)
from mtdeblur.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
FACTS = {"crf": "identity", "source": "/frames/é", "clip": "walk", "split": "train", "input_level": 7}


@pytest.fixture
def dataset(tmp_path):
    """Two exposures of three levels; gives the folder and the rows."""
    rng = np.random.default_rng(0)
    rows = []
    for index, dtype in enumerate((np.uint8, np.uint16)):
        for level in (7, 1, 3):
            pixels = rng.integers(0, np.iinfo(dtype).max, (20, 30, 3), dtype=dtype)
            more = {"name": f"{index:06d}", "level": level, "first_frame": 9 - level // 2, "last_frame": 9}
            rows.append(write_level(tmp_path / "set", pixels, **FACTS, **more))
    write_manifest(tmp_path / "set", rows, {"why": "a test"})
    return tmp_path / "set", rows


def problems(folder):
    return [problem for problem in check_dataset(folder)[1] if problem]


def test_blur_and_sharp_stay_where_others_look_for_them():
    places = {level: picture_path("test", "walk", "000009", level, 7) for level in (1, 3, 7, 13)}
    assert places == {
        1: "test/walk/sharp/000009.png",
        3: "test/walk/TL3/000009.png",
        7: "test/walk/blur/000009.png",
        13: "test/walk/TL13/000009.png",
    }


def test_the_manifest_says_what_every_picture_is(dataset):
    folder, written = dataset
    rows, facts = read_manifest(folder)
    assert facts == {"why": "a test"}
    assert rows == sorted(written, key=lambda row: row.path)
    for row in rows:
        with Image.open(folder / row.path) as image:
            assert image.size == (row.width, row.height) == (30, 20)
        assert row.bits == (8 if row.name == "000000" else 16)
        assert row.source == "/frames/é"


def test_any_parquet_reader_reads_it(dataset):
    from pyarrow import parquet

    table = parquet.read_table(dataset[0] / "manifest.parquet")
    assert table.num_rows == 6
    assert {"split", "clip", "level", "first_frame", "last_frame", "crf", "sha256"} <= set(table.column_names)


def test_interpolated_pictures_are_marked_and_older_manifests_are_read(dataset):
    from pyarrow import parquet

    folder, rows = dataset
    marked = [replace(row, interpolated=8) for row in rows]
    write_manifest(folder, marked, {"why": "a test"})
    assert read_manifest(folder)[0] == sorted(marked, key=lambda row: row.path)
    path = folder / "manifest.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["interpolated"]), path)
    assert read_manifest(folder)[0] == sorted(rows, key=lambda row: row.path)
    assert {row.interpolated for row in rows} == {0}
    assert problems(folder) == []


def test_the_same_rows_give_the_same_bytes_in_any_order(dataset):
    folder, rows = dataset
    before = (folder / "manifest.parquet").read_bytes()
    write_manifest(folder, rows[::-1], {"why": "a test"})
    assert (folder / "manifest.parquet").read_bytes() == before


def test_a_whole_data_set_passes_the_check(dataset):
    assert check_dataset(dataset[0])[0] == 6
    assert problems(dataset[0]) == []


def test_missing_altered_and_extra_files_are_found(dataset):
    folder, rows = dataset
    (folder / rows[0].path).unlink()
    content = bytearray((folder / rows[1].path).read_bytes())
    content[-20] ^= 1
    (folder / rows[1].path).write_bytes(content)
    (folder / "train/walk/blur/notes.txt").touch()
    (folder / "train/walk/.0123.part.png").touch()
    assert sorted(problems(folder)) == [
        f"altered: {rows[1].path}",
        "extra: train/walk/.0123.part.png",
        "extra: train/walk/blur/notes.txt",
        f"missing: {rows[0].path}",
    ]


def test_what_has_no_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no manifest\.parquet"):
        check_dataset(tmp_path)
    (tmp_path / JOURNAL).touch()
    with pytest.raises(UserError, match="is not finished"):
        check_dataset(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(UserError, match="is no manifest"):
        read_manifest(tmp_path)
