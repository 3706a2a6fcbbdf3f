"""What is trained and measured on: made once, stamped as what it is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.feeding.pack import Pack
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.plan import Recipe
from mtdeblur.errors import UserError
from mtdeblur.experiments.catalogue import StandIn, TestMaking, base
from mtdeblur.experiments.material import prepare

MAKING = TestMaking(exposures=2, longest=60, length=4.0)
T_GOPRO = StandIn(title="T-GoPro", levels=(3, 13))
GOPRO = StandIn(title="GoPro", levels=(13,))


@pytest.fixture
def pairs(tmp_path):
    random = np.random.default_rng(1)
    for side in ("blur", "sharp"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        for name in "ab":
            pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pairs" / side / f"{name}.png")
    return tmp_path / "pairs"


@pytest.fixture
def temporal(tmp_path):
    """A temporal data set of levels 1, 3, 5 and 7, made of two clips of noise."""
    random = np.random.default_rng(2)
    for clip in ("before", "after"):
        (tmp_path / "frames" / clip).mkdir(parents=True)
        for number in range(14):
            pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "frames" / clip / f"{number:06d}.png")
    how = Recipe(inputs=(5, 7), goals=(3, 5, 7), keep_faulty=True)
    splits = {"train": ["before"], "test": ["after"]}
    augment([tmp_path / "frames"], tmp_path / "T-GOPRO", how, splits=splits, workers=1)
    return tmp_path / "T-GOPRO"


def read(path):
    return np.asarray(Image.open(path)).astype(np.float64)


def test_photographs_are_trained_on_and_the_held_out_one_is_measured(photographs, tmp_path):
    made = prepare([str(photographs)], {"t-gopro": T_GOPRO, "gopro": GOPRO}, MAKING, tmp_path)
    pack = Pack(Path(made.data["pack"]))
    assert (len(pack.photos), len(pack.valid_photos)) == (9, 1)
    assert [len(part.pairs) for part in made.sets["t-gopro"]] == [2, 2]
    assert made.sets["gopro"][0] == made.sets["t-gopro"][1]  # made, and measured, once
    assert made.stamps == {"t-gopro": "simulated", "gopro": "simulated"}
    held_out = pack.valid_photos[0].name.removesuffix(".jpg")
    assert {pair.name for pair in made.sets["gopro"][0].pairs} == {f"{held_out}-0", f"{held_out}-1"}


def test_what_is_there_is_used_again(photographs, tmp_path):
    def files():
        made = prepare([str(photographs)], {"gopro": GOPRO}, MAKING, tmp_path)
        found = [
            Path(made.data["pack"]),
            *(file for pair in made.sets["gopro"][0].pairs for file in pair[1:]),
        ]
        return made.key, {file: file.stat().st_mtime_ns for file in found}

    assert files() == files()


def test_levels_share_their_sharp_pictures_and_seeds_do_not(photographs, tmp_path):
    other = GOPRO.model_copy(update={"seed": 1})
    made = prepare([str(photographs)], {"a": T_GOPRO, "b": other}, MAKING, tmp_path)
    low, high = (part.pairs[0] for part in made.sets["a"])
    assert np.array_equal(read(low.sharp), read(high.sharp))
    assert not np.array_equal(read(low.blur), read(high.blur))
    assert not np.array_equal(read(high.blur), read(made.sets["b"][0].pairs[0].blur))


def test_real_pairs_take_the_place_of_a_stand_in(photographs, pairs, tmp_path):
    given = [str(photographs), f"gopro={pairs}"]
    made = prepare(given, {"t-gopro": T_GOPRO, "gopro": GOPRO}, MAKING, tmp_path)
    assert made.stamps == {"t-gopro": "simulated", "gopro": ""}
    assert [pair.name for pair in made.sets["gopro"][0].pairs] == ["a", "b"]


def test_a_temporal_data_set_is_trained_on_and_its_test_split_measured(temporal, tmp_path):
    wanted = {
        "t-gopro": T_GOPRO,
        "tl7": StandIn(title="TL7", levels=(7,)),
        "easier": StandIn(title="TL7 to TL5", levels=(7,), goal=5),
    }
    made = prepare([str(temporal)], wanted, MAKING, tmp_path / "made")
    assert made.data == {"dataset": str(temporal)}
    assert set(made.stamps.values()) == {"test split of T-GOPRO"}
    assert [pair.blur.parts[-4:-1] for pair in made.sets["t-gopro"][0].pairs] == [
        ("test", "after", "blur")
    ] * 2
    frames = [read(file) for file in sorted((tmp_path / "frames" / "after").iterdir())]
    for name, goal in (("tl7", 1), ("easier", 5)):
        (part,) = made.sets[name]
        assert len(part.pairs) == 2
        for pair, start in zip(part.pairs, (0, 7), strict=True):
            middle = frames[start + 3 - goal // 2 : start + 4 + goal // 2]
            assert np.abs(read(pair.blur) - np.mean(frames[start : start + 7], axis=0)).max() <= 0.51
            assert np.abs(read(pair.sharp) - np.mean(middle, axis=0)).max() <= 0.51
    with pytest.raises(UserError, match="stores no TL13 to test on; give --data tl13=FOLDER"):
        prepare([str(temporal)], {"tl13": StandIn(title="TL13", levels=(13,))}, MAKING, tmp_path / "made")


def test_frames_have_to_be_made_a_data_set_first(tmp_path):
    (tmp_path / "train" / "CLIP").mkdir(parents=True)
    with pytest.raises(UserError, match="mtdeblur augment"):
        prepare([str(tmp_path)], {"gopro": GOPRO}, MAKING, tmp_path / "made")


def test_without_data_photographs_that_come_with_the_program_serve(tmp_path):
    made = prepare([], {"gopro": GOPRO}, MAKING, tmp_path)
    pack = Pack(Path(made.data["pack"]))
    assert [entry.name for entry in pack.photos] == ["astronaut.png", "chelsea.png", "rocket.png"]
    assert {pair.name for pair in made.sets["gopro"][0].pairs} == {"coffee-0", "coffee-1"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["lai=somewhere"], "the test sets needed are gopro"),
        (["gopro=nowhere"], "no folder nowhere"),
        (["one", "two"], "not one and two"),
    ],
)
def test_what_cannot_be_used_is_said(given, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        prepare(given, {"gopro": GOPRO}, MAKING, tmp_path)


def test_a_pack_without_held_out_photographs_asks_for_pairs(tmp_path, photographs):
    (tmp_path / "pack" / "train").mkdir(parents=True)
    (tmp_path / "pack" / "train" / "photos").symlink_to(photographs)
    with pytest.raises(UserError, match="--data gopro=FOLDER"):
        prepare([str(tmp_path / "pack")], {"gopro": GOPRO}, MAKING, tmp_path)


def test_the_stand_ins_are_spread_over_the_papers_levels():
    assert base().test_sets["t-gopro"].levels == (3, 5, 7, 9, 11, 13)
    assert base().test_sets["gopro"].levels == (7, 9, 11, 13)
