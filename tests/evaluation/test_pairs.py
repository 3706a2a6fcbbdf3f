from pathlib import Path

import pytest

from mtdeblur.errors import UserError
from mtdeblur.evaluation.pairs import Pair, find_pairs


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
    assert [pair.name for pair in find_pairs(tmp_path, 3)] == ["0", "3", "6"]
    assert len(find_pairs(tmp_path, 100)) == 9


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.png"], r"expected blur/NAME\.png with sharp/NAME\.png"),
        (["blur/a.png"], "expected"),
        (["blur/a.png", "sharp/b.png"], r"blur/a\.png has no partner: expected .*sharp/a"),
        (["blur/a.png", "sharp/a.png", "sharp/b.png"], r"sharp/b\.png has no partner: expected .*blur/b"),
        (["blur/a.png", "blur/a.jpg", "sharp/a.png"], r"a\.jpg and .*a\.png share a stem"),
        (["blur/a.txt", "sharp/a.txt"], "holds no pairs"),
    ],
)
def test_what_does_not_fit_gets_one_line(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as error:
        find_pairs(lay_out(tmp_path, *files))
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(UserError, match="file"):
        find_pairs(lay_out(tmp_path, "file") / Path("file"))
