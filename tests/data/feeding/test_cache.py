"""The cache of decoded pictures, and that memory does not grow with the data set."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import mtdeblur as package
from mtdeblur.data.disk.decode import decode
from mtdeblur.data.feeding import cache as module
from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.data.feeding.pack import Pack
from mtdeblur.errors import UserError


@pytest.fixture
def count(monkeypatch):
    """Names of the pictures that were decoded, in order."""
    names = []
    monkeypatch.setattr(module, "decode", lambda entry: names.append(entry.name) or decode(entry))
    return names


class Photos(TrainingData):
    def __init__(self, photos):
        self.photos = photos


@pytest.mark.parametrize("folder", [None, "cache/of/pictures"])
def test_pictures_are_decoded_once(tmp_path, save, count, folder):
    pixels = {tmp_path / f"{n}.png": save(tmp_path / f"{n}.png", n, 30 + n, 40) for n in range(3)}
    cache = Decoded(folder and tmp_path / folder)
    for _ in range(3):
        for file, expected in pixels.items():
            np.testing.assert_array_equal(cache(file), expected)
    assert count == ["0.png", "1.png", "2.png"]


def test_the_folder_serves_other_runs_and_maps_files(tmp_path, save, count):
    expected = save(tmp_path / "a.png", 1)
    Decoded(tmp_path / "cache")(tmp_path / "a.png")
    again = Decoded(tmp_path / "cache")(tmp_path / "a.png")
    np.testing.assert_array_equal(again, expected)
    assert count == ["a.png"]
    assert isinstance(again.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again[0, 0] = 0


def test_a_picture_that_changes_is_decoded_anew(tmp_path, save):
    cache = Decoded(tmp_path / "cache")
    save(tmp_path / "a.png", 1)
    cache(tmp_path / "a.png")
    changed = save(tmp_path / "a.png", 2)
    os.utime(tmp_path / "a.png", ns=(1, 1))
    np.testing.assert_array_equal(cache(tmp_path / "a.png"), changed)


def test_pictures_of_an_archive(tmp_path, folder, count):
    archive = tmp_path / "pack.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(folder.rglob("*.png")):
            target.write(file, file.relative_to(folder))
    one, other = Pack(archive), Pack(folder)
    cache = Decoded(tmp_path / "cache")
    for packed, loose in zip(one.pictures(), other.pictures(), strict=True):
        np.testing.assert_array_equal(cache(packed), decode(loose))
    decoded = len(count)
    for packed in Pack(archive).pictures():
        cache(packed)
    assert len(count) == decoded == len(list(one.pictures()))


def test_memory_holds_no_more_than_allowed_and_the_last_used_stay(tmp_path, save, count):
    files = [tmp_path / f"{n}.png" for n in range(4)]
    size = save(files[0]).nbytes
    for number, file in enumerate(files):
        save(file, number)
    cache = Decoded(memory=2 * size)
    for index in (0, 1, 0, 2, 0, 3, 0):  # 0 is always among the two used last
        cache(files[index])
    assert count == ["0.png", "1.png", "2.png", "3.png"]
    cache(files[1])
    assert count[-1] == "1.png"


def test_a_picture_larger_than_the_memory_is_served(tmp_path, save):
    expected = save(tmp_path / "a.png")
    cache = Decoded(memory=1)
    for _ in range(2):
        np.testing.assert_array_equal(cache(tmp_path / "a.png"), expected)


# -- decoding ahead


def test_decoding_ahead_goes_on_where_it_stopped(tmp_path, save, count):
    files = [tmp_path / f"{n}.png" for n in range(100)]
    for number, file in enumerate(files):
        save(file, number, 8, 8)
    steps = Decoded(tmp_path / "cache").store(Photos(files))
    assert next(steps) == 36
    steps.close()
    assert list(Decoded(tmp_path / "cache").store(Photos(files))) == [0]
    assert sorted(count) == sorted(file.name for file in files)
    assert list(Decoded(tmp_path / "cache").store(Photos(files))) == []
    assert not [file for file in (tmp_path / "cache").iterdir() if file.suffix != ".npy"]


def test_without_a_folder_nothing_is_decoded_ahead(tmp_path, save, count):
    save(tmp_path / "a.png")
    assert list(Decoded().store(Photos([tmp_path / "a.png"]))) == []
    assert count == []


@pytest.mark.fault("full disk")
def test_too_little_room_is_noticed_early(tmp_path, save, monkeypatch):
    files = [tmp_path / f"{n}.png" for n in range(100)]
    for file in files:
        save(file, 0, 100, 100)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 10**6))
    with pytest.raises(UserError, match=r"cache has no room .* 0\.0 GB are free, about 0\.0 GB are needed"):
        list(Decoded(tmp_path / "cache").store(Photos(files)))


def test_a_broken_picture_is_named(tmp_path, save):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"cannot read the picture .*a\.png"):
        list(Decoded(tmp_path / "cache").store(Photos([tmp_path / "a.png"])))


# -- memory

PEAK = """
import sys, tracemalloc
from pathlib import Path
from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.data.feeding.stream import Exposures, LadderStream
from mtdeblur.data.feeding.stored import Dataset
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import Motion
from mtdeblur.inference.memory import peak_memory

cache = Decoded(Path(sys.argv[2]) if len(sys.argv) > 2 else None, memory=2**21)
exposures = Exposures(Motion(), Sensor(), 0, 0)
tracemalloc.start()
data = Dataset(Path(sys.argv[1]))
made = LadderStream(data, exposures, levels=(5,), patch=64, batch=4, decoded=cache)
for number in range(len(made.order)):
    made.batch(number)
print(len(data.ladders), tracemalloc.get_traced_memory()[1], peak_memory())
"""


@pytest.mark.slow
@pytest.mark.parametrize("mapped", [True, False])
def test_peak_memory_does_not_grow_with_the_data_set(tmp_path, save, mapped):
    """Ten times as many exposures, 28 MB more of pictures; only their names cost memory."""
    for clip in range(10):
        for side in ("blur", "sharp", "TL3", "TL5"):
            for number in range(10):
                file = tmp_path / f"long/train/clip{clip}/{side}/{number:06d}.png"
                if clip == 0:
                    save(tmp_path / f"short/train/clip0/{side}/{number:06d}.png", number, 160, 160)
                file.parent.mkdir(parents=True, exist_ok=True)
                os.link(tmp_path / f"short/train/clip0/{side}/{number:06d}.png", file)

    def peak(dataset):
        cache = [f"cache-{dataset}"] if mapped else []
        command = [sys.executable, "-c", PEAK, dataset, *cache]  # relative: names as long everywhere
        environment = os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1])}
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
        )
        return [int(word) for word in answer.stdout.split()]

    (few, traced, resident), (many, more_traced, more_resident) = peak("short"), peak("long")
    assert (few, many) == (10, 100)
    assert more_traced - traced < 90 * 3000  # four names of an exposure; its pictures have 300 kB
    assert more_resident - resident < 14 * 2**20  # of 28: the pages of what was read a moment ago vary
