"""Photographs and results at addresses: fsspec's memory, and its files on disk as a store that is remote."""

from pathlib import Path

import pytest
from PIL import Image

from mtdeblur.errors import UserError
from mtdeblur.files.places import place_of
from mtdeblur.inference.batch import Comparison, Observer, Outcome
from mtdeblur.inference.finding import Patterns
from mtdeblur.inference.folder import Means, deblur_batch
from mtdeblur.inference.parts import Parts
from mtdeblur.inference.planning import Existing, Plan, plan
from mtdeblur.inference.recipe import Recipe
from mtdeblur.media.pictures import read_picture

pytest.importorskip("upath")


class Darken:
    iterations = 1

    def progress(self, image, report, /, *, every, notify):
        notify("a notice")
        report(1)
        yield image - 10

    def parts(self, height, width, results=1):
        return Parts("whole")

    def keep_parts(self, height, width, kept=()):
        return kept


class Log(Observer):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def noticed(self, notice: str) -> None:
        self.notices.append(notice)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    """A folder at an address."""
    if request.param == "file":
        (tmp_path / "store").mkdir()
        yield place_of(f"file://{tmp_path}/store")
        return
    folder = place_of("memory://store")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    folder.fs.rm("/store", recursive=True)


def photo(place, level: int):
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        Image.new("RGB", (12, 8), (level, level, level)).save(file, "PNG")
    return place


def run(work: Plan, observer: Observer | None = None) -> list[Outcome]:
    return list(deblur_batch(work, Darken(), observer or Observer(), Means(Recipe())))


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def level(place, tmp_path: Path) -> int:
    copy = tmp_path / "copy.png"
    copy.write_bytes(place.read_bytes())
    return int(read_picture(copy).pixels.max())


def test_a_folder_keeps_its_structure(store, tmp_path: Path) -> None:
    for name, grey in (("in/a.png", 100), ("in/sub/b.png", 200), ("in/raw/c.png", 50), ("in/.d.png", 9)):
        photo(store / name, grey)
    (store / "in/sub/notes.txt").write_text("hello")
    work = plan([store / "in"], store / "out", compare=Comparison.side, patterns=Patterns(exclude=["raw"]))
    assert [len(found.others) for found in work.found] == [1]
    log = Log()
    outcomes = run(work, log)
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    assert names(store / "out") == ["a-compare.png", "a.png", "sub/b-compare.png", "sub/b.png"]
    assert level(store / "out/a.png", tmp_path) == 90
    assert level(store / "out/sub/b.png", tmp_path) == 190
    assert log.notices[0] == f"{store / 'in/a.png'}: a notice"
    assert outcomes[0].notices == (log.notices[0],)


def test_between_a_disk_and_a_store(store, tmp_path: Path) -> None:
    here = photo(tmp_path / "in/a.png", 100)
    run(plan([here.parent], store / "out"))
    assert names(store / "out") == ["a.png"]
    run(plan([store / "out"], tmp_path / "back"))
    assert read_picture(tmp_path / "back/a.png").pixels.max() == 80
    run(plan([store / "out/a.png"], tmp_path / "one.png"))
    assert read_picture(tmp_path / "one.png").pixels.max() == 80


def test_existing_results_are_refused_skipped_or_replaced(store, tmp_path: Path) -> None:
    photo(store / "in/a.png", 100)
    photo(store / "in/b.png", 100)
    kept = photo(store / "out/a.png", 7)
    with pytest.raises(UserError, match=r"out/a\.png exists already"):
        plan([store / "in"], store / "out")
    with pytest.raises(UserError, match="would overwrite the input"):
        plan([store / "in"], store / "in", existing=Existing.REPLACE)
    work = plan([store / "in"], store / "out", existing=Existing.SKIP)
    assert [job.source.name for job in work.skipped] == ["a.png"]
    run(work)
    assert (level(kept, tmp_path), names(store / "out")) == (7, ["a.png", "b.png"])
    run(plan([store / "in"], store / "out", existing=Existing.REPLACE))
    assert level(kept, tmp_path) == 90


def test_failures_name_the_addresses(store, tmp_path: Path) -> None:
    photo(store / "in/a.png", 100)
    (store / "in/bad.png").write_bytes(b"hello")
    missing = store / "in/missing.png"
    outcomes = run(plan([store / "in", missing], store / "out"))
    reasons = [outcome.reason for outcome in outcomes]
    assert reasons[0] == ""
    assert reasons[1].startswith(f"cannot read {store / 'in/bad.png'}: its content is not")
    assert reasons[2].startswith(f"cannot read {missing}: ")
    assert "mtdeblur-" not in "".join(reasons)
    assert names(store / "out") == ["a.png"]


def test_a_driver_that_is_missing_is_told() -> None:
    with pytest.raises(UserError, match=r"cannot open nowhere://bucket"):
        place_of("nowhere://bucket/x")
