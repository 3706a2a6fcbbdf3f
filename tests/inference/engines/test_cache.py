import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtdeblur.inference.engines import cache


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_found_by_its_facts_alone(place):
    cache.write({"weights": "a", "size": [1, 2]}, b"content")
    assert cache.read({"size": [1, 2], "weights": "a"}) == b"content"
    assert cache.read({"weights": "b", "size": [1, 2]}) is None
    cache.forget({"weights": "a", "size": [1, 2]})
    assert cache.read({"weights": "a", "size": [1, 2]}) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.data(), content=st.binary(min_size=1, max_size=50))
def test_a_damaged_entry_is_deleted(place, data, content):
    cache.write({}, content)
    (file,) = place.iterdir()
    good = file.read_bytes()
    where = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.booleans())
    file.write_bytes(good[:where] if cut else good[:where] + bytes([good[where] ^ 1]) + good[where + 1 :])
    assert cache.read({}) is None
    assert not file.exists()


def test_the_least_recently_used_entries_make_room(place, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 3 * (100 + 32))
    for number in range(3):
        cache.write({"n": number}, bytes(100))
    for age, file in enumerate(sorted(place.iterdir(), key=os.path.getmtime)):
        os.utime(file, (age, age))
    assert cache.read({"n": 0}) is not None, "which makes it the most recently used one"
    cache.write({"n": 3}, bytes(100))
    assert [cache.read({"n": number}) is not None for number in range(4)] == [True, False, True, True]
    cache.write({"n": 4}, bytes(1000))
    assert cache.read({"n": 4}) is None, "larger than the whole cache"


def _write(place: str, number: int) -> None:
    os.environ[cache.VARIABLE] = place
    for _ in range(50):
        cache.write({"shared": True}, bytes([number]) * 10_000)


def test_two_processes_may_write_the_same_entry(place):
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    writers = [context.Process(target=_write, args=(str(place), number)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    found = [cache.read({"shared": True}) for _ in range(200)]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found.append(cache.read({"shared": True}))
    assert found[-1] is not None
    assert {content for content in found if content} <= {bytes([n]) * 10_000 for n in (1, 2)}
    assert len(list(place.iterdir())) == 1


def test_without_a_writable_folder_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for value in ("off", str(tmp_path / "file")):
        monkeypatch.setenv(cache.VARIABLE, value)
        cache.write({}, b"content")
        assert cache.read({}) is None


def test_the_folder_is_the_user_s_cache(tmp_path, monkeypatch):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg/mtdeblur"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder() == tmp_path / ".cache/mtdeblur"
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == tmp_path / "Library/Caches/mtdeblur"
