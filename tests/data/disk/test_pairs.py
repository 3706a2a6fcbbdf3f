"""Every known layout: what is found in it, what is left out, and what an error shows of it."""

import pytest

from mtdeblur.data.disk.layouts import LAYOUTS
from mtdeblur.data.disk.pairs import find_ladders, find_pairs, gopro_level
from mtdeblur.errors import UserError


def lay_out(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def many(*templates, **words):
    """Templates filled in with every combination of words."""
    for word, values in words.items():
        templates = [one.replace(f"<{word}>", value) for one in templates for value in values]
    return list(templates)


J, RS = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref", "RSBlur/0001"

# name: (other files, {split: [(name of the pair, blurred, sharp)]})
SMALL = {
    "GoPro": (
        ["test/GOPR0384_11_00/blur_gamma/000001.png", "train/GOPR0372_07_00/frames.csv"],
        {
            "train": [
                (f"GOPR0372_07_00/{n}", *many(f"train/GOPR0372_07_00/<s>/{n}.png", s=("blur", "sharp")))
                for n in ("000047", "000048")
            ],
            "test": [
                (f"{clip}/000001", *many(f"test/{clip}/<s>/000001.png", s=("blur", "sharp")))
                for clip in ("GOPR0384_11_00", "GOPR0410_11_00")
            ],
        },
    ),
    "REDS": (
        [],
        {
            "train": [
                ("000/00000007", "train/train_blur/000/00000007.png", "train/train_sharp/000/00000007.png")
            ],
            "test": [("011/00000099", "val/val_blur/011/00000099.png", "val/val_sharp/011/00000099.png")],
        },
    ),
    "HIDE": (
        [],
        {
            "train": [("1fromGOPR0950", "train/1fromGOPR0950.png", "GT/1fromGOPR0950.png")],
            "test": [
                (f"{part}/{name}", f"test/{part}/{name}.png", f"GT/{name}.png")
                for part, name in (("test-close-ups", "107fromGOPR1089"), ("test-long-shot", "2fromGOPR0855"))
            ],
        },
    ),
    "RealBlur-J": (
        [],
        {
            "train": [
                (f"{J}/scene001/blur/blur_1", f"{J}/scene001/blur/blur_1.png", f"{J}/scene001/gt/gt_1.png")
            ],
            "test": [
                (f"{J}/scene004/blur/blur_7", f"{J}/scene004/blur/blur_7.png", f"{J}/scene004/gt/gt_7.png")
            ],
        },
    ),
    "RSBlur": (
        [f"{RS}/000002/avg65_img/avg_blur.png"],
        {
            split: [
                (
                    f"{RS}/{n}/real_blur/real_blur",
                    f"{RS}/{n}/real_blur/real_blur.png",
                    f"{RS}/{n}/gt/gt_sharp.png",
                )
            ]
            for split, n in (("train", "000001"), ("valid", "000002"), ("test", "000003"))
        },
    ),
    "Su": (
        [],
        {
            split: [
                (f"{video}/00000", *many(f"quantitative_datasets/{video}/<s>/00000.jpg", s=("input", "GT")))
                for video in videos
            ]
            for split, videos in (
                ("train", ("IMG_0001", "IMG_0055")),
                ("test", ("720p_240fps_2", "IMG_0030")),
            )
        },
    ),
    "Lai": (
        ["ground_truth/text_05.png", "real_dataset/boy_statue.jpg"],
        {
            "test": [
                (
                    "nonuniform/manmade_01/07",
                    "nonuniform/manmade_01_gyro_07.png",
                    "ground_truth/manmade_01.png",
                ),
                ("uniform/manmade_01/02", "uniform/manmade_01_kernel_02.png", "ground_truth/manmade_01.png"),
            ]
        },
    ),
    "pairs": (
        [],
        {
            split: [(name, *many(f"{split}/<s>/{name}.png", s=("input", "target"))) for name in names]
            for split, names in (("train", ("a", "b")), ("test", ("a",)))
        },
    ),
}
SMALL["RealBlur-R"] = SMALL["RealBlur-J"]


def make(root, layout):
    others, splits = SMALL[layout]
    for split, pairs in splits.items():
        lay_out(root, *others, *(file for pair in pairs for file in pair[1:]))
        if split in LAYOUTS[layout].lists:
            lines = [f"{sharp} {blurred}\n" for _, blurred, sharp in pairs]
            (root / LAYOUTS[layout].lists[split]).write_text("".join(lines))
    return root


def test_every_layout_is_tested():
    assert SMALL.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("named", [True, False])
def test_a_layout_gives_its_pairs_whether_named_or_recognised(tmp_path, layout, named):
    make(tmp_path, layout)
    for split, pairs in SMALL[layout][1].items():
        found = find_pairs(tmp_path, layout.lower() if named else None, split)
        assert found == [(name, tmp_path / blurred, tmp_path / sharp) for name, blurred, sharp in pairs]


@pytest.mark.parametrize(("name", "meant"), [("T-GoPro", "GoPro"), ("DVD", "Su")])
def test_other_names_of_data_sets(tmp_path, name, meant):
    make(tmp_path, meant)
    assert find_pairs(tmp_path, name) == find_pairs(tmp_path, meant)


@pytest.mark.parametrize(
    "sides", [("blur", "sharp"), ("input", "target"), ("input", "GT"), ("blur", "gt"), ("lq", "gt")]
)
@pytest.mark.parametrize("top", ["", "scene1", "test", "test/scene1"])
def test_any_folder_of_pairs(tmp_path, sides, top):
    names = ("2", "a.b")
    lay_out(tmp_path / top, *many("<side>/<name>.jpg", side=sides, name=names), f"{sides[0]}/x.txt")
    found = find_pairs(tmp_path)
    assert [pair.blur for pair in found] == [tmp_path / top / sides[0] / f"{name}.jpg" for name in names]
    assert [pair.sharp for pair in found] == [tmp_path / top / sides[1] / f"{name}.jpg" for name in names]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_that_does_not_fit_is_shown_what_is_expected(tmp_path, layout):
    lay_out(tmp_path, "pictures/a.png")
    with pytest.raises(UserError) as error:
        find_pairs(tmp_path, layout)
    message = str(error.value)
    assert "\n" not in message
    assert layout in message
    assert "expected" in message
    assert any(name in message for name in ("NAME.png", "SCENE.png", "_list.txt", "RSBlur_real_test.txt"))


def test_a_split_that_a_data_set_does_not_have(tmp_path):
    with pytest.raises(UserError, match=r"Lai .* no train pictures"):
        find_pairs(make(tmp_path, "Lai"), "lai", "train")


def test_an_unknown_layout_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"layout 'goproo'; .*GoPro, REDS, HIDE"):
        find_pairs(tmp_path, "goproo")


def test_a_missing_ground_truth_is_named(tmp_path):
    root, faults = make(tmp_path, "HIDE"), []
    (root / "GT/2fromGOPR0855.png").unlink()
    assert [pair.name for pair in find_pairs(root, report=faults.extend)] == [
        "test-close-ups/107fromGOPR1089"
    ]
    (fault,) = faults
    assert "2fromGOPR0855.png has no partner: expected" in fault
    assert "GT/2fromGOPR0855 with" in fault
    (root / "GT/107fromGOPR1089.png").unlink()
    with pytest.raises(UserError, match=r"has no partner: .* \(and 1 more\)"):
        find_pairs(root)


def test_a_list_that_names_a_missing_picture(tmp_path):
    root = make(tmp_path, "RealBlur-J")
    (root / J / "scene004/gt/gt_7.png").unlink()
    with pytest.raises(UserError, match=r"RealBlur_J_test_list\.txt lists '.*gt_7\.png', but"):
        find_pairs(root)


# -- temporal data sets


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("GOPR0384_11_00", 11),
        ("GOPR0372_07_00", 7),
        ("GOPR0000_08_00", None),
        ("IMG_0030", None),
        ("clip", None),
    ],
)
def test_the_level_of_a_gopro_sequence_stands_in_its_name(name, level):
    assert gopro_level(name) == level


def test_ladders_hold_every_level_that_is_stored(tmp_path):
    lay_out(tmp_path, *many("train/clip/<f>/<n>.png", f=("blur", "sharp", "TL3", "TL5", "TL7"), n=("1", "2")))
    lay_out(tmp_path, *many("train/clip/<f>/2.png", f=("TL9", "TL11", "TLx")))
    lay_out(tmp_path, *many("test/clip/<f>/3.png", f=("blur", "sharp", "TL3")))
    (first, second), others = find_ladders(find_pairs(tmp_path, split="train"))
    home = tmp_path / "train/clip"
    assert list(first.folders) == [1, 3, 5, 7]
    assert list(second.folders) == [1, 3, 5, 7, 9, 11]
    assert first.path(1) == home / "sharp/1.png"
    assert second.path(11) == home / "TL11/2.png"
    assert others == []
    assert [list(ladder.folders) for ladder in find_ladders(find_pairs(tmp_path))[0]] == [[1, 3]]


@pytest.mark.parametrize("levels", [(3, 5, 7), (3, 5, 7, 9, 11, 13)])
def test_the_level_of_a_blurred_picture_is_the_one_that_its_exposure_lacks(tmp_path, levels):
    """As `mtdeblur augment` stores temporal data sets, and without their manifest."""
    for number, own in enumerate(levels):
        others = [f"TL{n}" for n in levels if n != own]
        lay_out(tmp_path, *many(f"train/clip/<f>/{number}.png", f=("blur", "sharp", *others)))
    ladders, others = find_ladders(find_pairs(tmp_path, split="train"))
    assert others == []
    for ladder, own in zip(ladders, levels, strict=True):
        assert list(ladder.folders) == [1, *levels]
        assert ladder.folders[own].name == "blur"
        assert ladder.goals(own) == list(range(1, own + 1, 2))


def test_a_lost_level_is_not_taken_for_the_blurred_pictures(tmp_path):
    """Where blurred pictures repeat a level, a picture that is missing says nothing of them."""
    lay_out(tmp_path, *many("train/clip/<f>/<n>.png", f=("blur", "sharp", "TL3", "TL7"), n=("1", "2")))
    lay_out(tmp_path, "train/clip/TL5/2.png")
    first, second = find_ladders(find_pairs(tmp_path, split="train"))[0]
    assert list(first.folders) == [1, 3, 7]
    assert first.goals(7) == [1]
    assert list(second.folders) == [1, 3, 5, 7]


@pytest.mark.parametrize("place", ["<f>/<n>.png", "clip/<f>/<n>.png"])
@pytest.mark.parametrize("count", [1, 9, 25])
def test_a_plain_folder_of_pairs_serves_every_purpose(tmp_path, place, count):
    names = [f"{number:02d}" for number in range(count)]
    lay_out(tmp_path, *many(place, f=("blur", "sharp"), n=names))
    splits = {split: find_pairs(tmp_path, split=split, optional=True) for split in ("train", "valid", "test")}
    assert [pair.blur.stem for pair in splits["test"]] == names
    assert [pair.blur.stem for pair in splits["valid"]] == names[9::10]
    assert [pair.blur.stem for pair in splits["train"]] == [n for n in names if n not in names[9::10]]


def test_pairs_for_validation_leave_a_plain_folder_to_training(tmp_path):
    lay_out(tmp_path, *many("<f>/<n>.png", f=("blur", "sharp"), n=[f"{n:02d}" for n in range(12)]))
    lay_out(tmp_path, *many("valid/<f>/9.png", f=("blur", "sharp")))
    assert len(find_pairs(tmp_path, split="train")) == 12
    assert [pair.blur.parent.parent.name for pair in find_pairs(tmp_path, split="valid")] == ["valid"]


def test_gopros_own_pairs_are_ladders_of_one_level(tmp_path):
    make(tmp_path, "GoPro")
    train, test = (find_ladders(find_pairs(tmp_path, split=split))[0] for split in ("train", "test"))
    assert [list(ladder.folders) for ladder in train + test] == [[1, 7], [1, 7], [1, 11], [1, 11]]
    assert train[0].path(7) == tmp_path / "train/GOPR0372_07_00/blur/000047.png"
    assert train[0].folders is train[1].folders  # the exposures of a sequence share memory


def test_pairs_without_known_levels_are_no_ladders(tmp_path):
    lay_out(
        tmp_path, *many("train/clip/<f>/<n>.png", f=("blur", "sharp"), n=("1", "2")), "train/clip/TL3/2.png"
    )
    pairs = find_pairs(tmp_path, split="train")
    ladders, others = find_ladders(pairs)
    assert [ladder.file for ladder in ladders] == ["2.png"]
    assert others == pairs[:1]


def test_a_split_may_be_optional(tmp_path):
    make(tmp_path, "GoPro")
    assert find_pairs(tmp_path, split="valid", optional=True) == []
    with pytest.raises(UserError, match=r"expected .* valid/SEQUENCE/"):
        find_pairs(tmp_path, split="valid")
