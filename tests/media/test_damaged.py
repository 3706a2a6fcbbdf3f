"""Damaged and malicious files: each is read or refused in one line."""

import importlib
import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mtdeblur.errors import UserError
from mtdeblur.media import directories
from mtdeblur.media.directories import EXIF, GPS, INTEROPERABILITY, Layout
from mtdeblur.media.facts import Coding
from mtdeblur.media.pictures import Picture, encode_picture, read_picture, write_picture
from mtdeblur.media.primaries import SRGB, Colour
from mtdeblur.media.working import seen, with_estimate

TOOLS = Path(__file__).parents[2] / "tools"
PACKAGES = {"heic": "pillow_heif", "jxl": "pylibjxl"}
CONTAINERS = ["jpeg", "png", "tiff", "webp", "avif", "gif", "bmp", "pnm", "heic", "jxl"]
CLASSIC = Layout("<", big=False)


@pytest.fixture
def fuzzer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("fuzz_files")


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_few_damaged_files(
    fuzzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], container: str
) -> None:
    if container in PACKAGES:
        pytest.importorskip(PACKAGES[container])
    monkeypatch.setenv("MTDEBLUR_MAX_PIXELS", "1000000")
    for index, content in enumerate(fuzzer.damaged(container, 5, seed=1)):
        path = tmp_path / f"{index}.{container}"
        path.write_bytes(content)
        assert fuzzer.verdict(path).outcome in ("read", "refused"), path
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.fault("decompression bomb")
def test_more_pixels_than_the_limit_are_refused(
    fuzzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    if container in PACKAGES:
        pytest.importorskip(PACKAGES[container])
    path = tmp_path / f"a.{container}"
    monkeypatch.setenv("MTDEBLUR_MAX_PIXELS", str(40 * 56 - 1))
    path.write_bytes(importlib.import_module("whole_files").whole_files(container)[0])
    with pytest.raises(
        UserError, match=r"^cannot read .*: it has 56 x 40 pixels, .*MTDEBLUR_MAX_PIXELS to 2240$"
    ):
        read_picture(path)


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_many_damaged_files(fuzzer, container: str) -> None:
    if container in PACKAGES:
        pytest.importorskip(PACKAGES[container])
    counts, faults = fuzzer.fuzz(container, 60, 2, 60)
    assert not faults
    assert counts.total() == 60


@pytest.mark.slow
def test_the_fuzzer_sees_a_crash_and_a_hang(fuzzer, tmp_path: Path) -> None:
    Image.new("RGB", (400, 400)).save(tmp_path / "a.png")
    for limit, kill, outcome in ((60, True, "crash"), (0, False, "hang")):
        reader = fuzzer.Reader(limit, tmp_path)
        try:
            if kill:
                assert reader.read(tmp_path / "a.png").outcome == "read"
                reader._process.kill()
                reader._process.join()
            assert reader.read(tmp_path / "a.png").outcome == outcome
        finally:
            reader.close()


def test_the_table_of_the_fuzzer(fuzzer) -> None:
    counts = {"png": fuzzer.Counter(read=2, refused=1), "gif": fuzzer.Counter(crash=1)}
    assert fuzzer.table(counts).splitlines()[-1] == "| all | 4 | 2 | 1 | 1 | 0 | 0 | 0 | 0 |"


def test_keywords_of_text_may_be_latin_1(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text(b"\xdcberschrift", "Tasse")
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", pnginfo=text)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", picture)
    with Image.open(tmp_path / "b.png") as written:
        assert written.text == {"\xdcberschrift": "Tasse"}


@pytest.mark.parametrize("container", ["png", "jxl"])
def test_a_malformed_profile_does_not_prevent_writing(container: str) -> None:
    if container in PACKAGES:
        pytest.importorskip(PACKAGES[container])
    picture = Picture(np.zeros((4, 5, 3), np.uint8), icc=b"no profile at all" * 20)
    assert encode_picture(picture, container)


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("container", ["jpeg", "png", "tiff"])
def test_extreme_floats_are_written_without_a_warning(
    fuzzer, tmp_path: Path, container: str, grey: bool, premultiplied: bool
) -> None:
    values = [np.inf, -np.inf, np.nan, 3e38, -3e38, 0.0, 1e-40, 0.5, 1.0]
    numbers = np.array(values, np.float32).reshape(3, 3)
    pixels = np.repeat(numbers[..., None], 3, axis=2) if grey else np.stack([numbers, numbers.T, numbers], 2)
    coding = Coding("tiff", premultiplied=premultiplied)
    picture = Picture(pixels, alpha=numbers[::-1].copy(), grey=grey, coding=coding)
    path = tmp_path / "a.tif"
    path.write_bytes(encode_picture(picture, "tiff"))
    read = read_picture(path)
    shown = seen(read)
    assert encode_picture(with_estimate(read, shown, shown.copy()), container)
    assert fuzzer.verdict(path).outcome == "read"


@pytest.mark.parametrize(
    "primaries",
    [
        (0.3127, 0.329, 0.64, 0.33, 0.64, 0.33, 0.15, 0.06),  # no triangle
        (0.7, 0.2, *SRGB[2:]),  # white outside
        (0.3127, 0.0, *SRGB[2:]),
    ],
)
def test_impossible_primaries_are_ignored(tmp_path: Path, primaries: tuple[float, ...]) -> None:
    assert not Colour(primaries).is_plausible
    content = struct.pack(">8I", *(round(value * 100_000) for value in primaries))
    info = PngImagePlugin.PngInfo()
    info.add(b"cHRM", content)
    info.add(b"gAMA", struct.pack(">I", 100_000))
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", pnginfo=info)
    picture = read_picture(tmp_path / "a.png")
    assert picture.colour is None
    write_picture(tmp_path / "a.jpg", picture)


# -- directories that would never end


def directory(entries: list[tuple[int, int, int, int]], link: int = 0) -> bytes:
    """A classic directory of entries with a number as field."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + table + struct.pack("<I", link)


def test_sub_directories_that_branch_at_every_level_are_not_followed_for_ever() -> None:
    size = len(directory([(0, 4, 1, 0)] * 3))
    levels = (
        directory([(tag, 4, 1, 8 + size * (level + 1)) for tag in (EXIF, GPS, INTEROPERABILITY)])
        for level in range(200)
    )
    block = b"II*\0\x08\0\0\0" + b"".join(levels)
    found = directories.read(block, CLASSIC, 8)

    def total(part: directories.Directory) -> int:
        return 1 + sum(total(each.value) for each in part.values() if isinstance(each.value, dict))

    assert total(found) == 1 + 3 + 9 + 27


def test_overlapping_values_are_not_longer_than_the_block() -> None:
    block = b"II*\0\x08\0\0\0" + directory([(tag, 7, 40_000, 0) for tag in range(4000)])
    found = directories.read(block, CLASSIC, 8)
    assert sum(len(each.value) for each in found.values()) <= len(block)
    assert found


def test_overlapping_directories_end() -> None:
    """Every second byte begins a directory of many entries, each linking to the next one."""
    number = 4000
    data = bytearray(b"II*\0\x08\0\0\0" + struct.pack("<H", number) * 60_000)
    for start in range(8, 8 + 4 * 5000, 4):
        struct.pack_into("<I", data, start + 2 + 12 * number, start + 4)
    chain = directories.chain(bytes(data), CLASSIC, 8)
    assert 1 <= len(chain) <= len(data) // (12 * number) + 1


def test_directories_of_absurdly_many_entries_are_malformed() -> None:
    with pytest.raises(directories.MALFORMED):
        directories.read(b"II*\0\x08\0\0\0" + directory([(1, 1, 1, 0)] * 5000), CLASSIC, 8)
