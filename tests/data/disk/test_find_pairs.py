import os
import re
from pathlib import Path

import pytest

from mtdeblur.data.disk.pairs import Pair, find_pairs
from mtdeblur.errors import UserError


def lay_out(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_a_plain_folder_of_pairs(tmp_path):
    files = ("blur/b.png", "sharp/b.jpg", "blur/a.b.PNG", "sharp/a.b.tif", "blur/notes.txt", "sharp/.b.png")
    dataset = lay_out(tmp_path, *files)
    assert find_pairs(dataset) == [
        Pair("a.b", tmp_path / "blur/a.b.PNG", tmp_path / "sharp/a.b.tif"),
        Pair("b", tmp_path / "blur/b.png", tmp_path / "sharp/b.jpg"),
    ]


@pytest.mark.parametrize("parent", ["", "test/"])
def test_the_layout_of_gopro(tmp_path, parent):
    clips = ("GOPR0384_11_00", "GOPR0410_11_00")
    sides = ("blur", "sharp", "blur_gamma")
    lay_out(
        tmp_path, *(f"{parent}{clip}/{side}/{n:06d}.png" for clip in clips for side in sides for n in (1, 2))
    )
    lay_out(tmp_path, "train/GOPR0372_07_00/blur/000047.png", "train/GOPR0372_07_00/sharp/000047.png")
    pairs = find_pairs(tmp_path)
    assert [pair.name for pair in pairs] == [f"{clip}/{n:06d}" for clip in clips for n in (1, 2)]
    assert pairs[0].blur == tmp_path / parent / "GOPR0384_11_00/blur/000001.png"
    assert pairs[0].sharp == tmp_path / parent / "GOPR0384_11_00/sharp/000001.png"


def test_a_maximum_is_spread_over_the_data_set(tmp_path):
    lay_out(tmp_path, *(f"{side}/{n}.png" for side in ("blur", "sharp") for n in range(9)))
    assert [pair.name for pair in find_pairs(tmp_path, maximum=3)] == ["0", "3", "6"]
    assert len(find_pairs(tmp_path, maximum=100)) == 9


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.png"], r"expected blur/NAME\.png with sharp/NAME\.png"),
        (["blur/a.png"], "expected"),
        (["blur/a.png", "sharp/b.png"], r"blur/a\.png has no partner: expected .*sharp/a"),
        (["blur/a.png", "sharp/b.png", "sharp/c.png"], r"blur/a\.png has no partner.* \(and 2 more\)"),
        (["blur/a.png", "blur/a.jpg", "sharp/a.png"], r"a\.jpg shares its stem with another"),
        (["blur/a.txt", "sharp/a.txt"], "no pairs"),
    ],
)
def test_what_does_not_fit_gets_one_line(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as error:
        find_pairs(lay_out(tmp_path, *files))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["sharp/x.png"], [r"sharp/x\.png has no partner: expected .*/blur/x with"]),
        (["blur/x.png"], [r"blur/x\.png has no partner: expected .*/sharp/x with"]),
        (["blur/x.png", "sharp/y.png"], [r"blur/x\.png has no", r"sharp/y\.png has no"]),
        (
            ["blur/x.png", "blur/x.jpg", "sharp/x.png"],
            [r"x\.jpg shares its stem", r"x\.png shares its stem", r"sharp/x\.png has several partners"],
        ),
        (["blur/x.png", "sharp/x.tif", "sharp/x.png"], [r"blur/x\.png has several", "shares", "shares"]),
        (["blur/.x.png", "sharp/notes.txt"], []),
    ],
)
@pytest.mark.parametrize("parent", ["", "scene/", "test/scene/"])
def test_pictures_without_a_partner_are_told_and_the_rest_is_found(tmp_path, extra, told, parent):
    names = [f"{parent}{side}/{name}.png" for side in ("blur", "sharp") for name in ("a", "b")]
    lay_out(tmp_path, *names, *(parent + name for name in extra))
    faults = []
    pairs = find_pairs(tmp_path, report=faults.extend)
    assert [pair.name.split("/")[-1] for pair in pairs] == ["a", "b"]
    assert len(faults) == len(told)
    for line, pattern in zip(faults, told, strict=True):
        assert re.search(pattern + ".*it is left out$", line)


def test_of_many_left_out_a_few_are_told_and_how_many_there_are(tmp_path, caplog):
    lay_out(tmp_path, "blur/a.png", "sharp/a.png", *(f"blur/x{number}.png" for number in range(9)))
    assert len(find_pairs(tmp_path)) == 1
    assert len(caplog.messages) == 6
    assert caplog.messages[-1] == "and 4 more pictures are left out"


def test_a_list_that_does_not_match_its_folder_gives_the_rest(tmp_path):
    lay_out(tmp_path, "s/1.png", "b/1.png", "b/2.png", "s/3.png")
    caf = os.fsdecode(b"s/caf\xe9.png")
    lay_out(tmp_path, caf, "b/4.png")
    lines = (
        b"\xef\xbb\xbfs/1.png b/1.png\ns/2.png b/2.png\ns/3.png b/3.png\n\ns/1.png\ns/caf\xe9.png b/4.png\n"
    )
    (tmp_path / "RealBlur_J_test_list.txt").write_bytes(lines)
    faults = []
    pairs = find_pairs(tmp_path, report=faults.extend)
    assert [pair.name for pair in pairs] == ["b/1", "b/4"]
    assert pairs[1].sharp == tmp_path / caf
    for line, part in zip(faults, ("'s/2.png'", "'b/3.png'", "one picture, not two"), strict=True):
        assert part in line


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(UserError, match="file"):
        find_pairs(lay_out(tmp_path, "file") / Path("file"))
