"""Training from data sets on disk: the order of exposures, and the batches that come of them."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from mtdeblur.data.disk.manifest import Row, picture_path, write_manifest
from mtdeblur.data.disk.pairs import Ladder
from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.data.feeding.stored import Dataset, Order
from mtdeblur.data.feeding.stream import Exposures, LadderStream
from mtdeblur.data.feeding.validation import validation_sets
from mtdeblur.errors import UserError
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import Motion

EXPOSURES = Exposures(Motion(), Sensor(noisy=1, compressed=1), clips=0.5, gamma=0.5, pairs=0.0)


@pytest.fixture
def dataset(tmp_path, save):
    """6 exposures of two clips, with TL3 to TL9; blur/ repeats TL9. One validation pair."""
    root = tmp_path / "dataset"
    for number in range(6):
        home = root / f"train/clip{number % 2}"
        for n, side in enumerate(("sharp", "TL3", "TL5", "TL7", "TL9")):
            save(home / f"{side}/{number:03d}.png", 100 * number + n, 40, 44)
        (home / "blur").mkdir(exist_ok=True)
        (home / f"blur/{number:03d}.png").write_bytes((home / f"TL9/{number:03d}.png").read_bytes())
    for index, side in enumerate(("blur", "sharp")):
        save(root / f"valid/clip9/{side}/000.png", 900 + index, 20, 24)
    return root


def stream(root, **options):
    settings = {"levels": (7, 9), "patch": 16, "batch": 2, **options}
    return LadderStream(Dataset(root), EXPOSURES, **settings)


def assert_same(one, other):
    assert (one.number, one.level, list(one.ladder)) == (other.number, other.level, list(other.ladder))
    assert one.blurred.equal(other.blurred)
    assert all(image.equal(other.ladder[n]) for n, image in one.ladder.items())


def place_of(patch, picture):
    """Corner and turn by which a patch (3, P, P) in [0, 1] was cut from a picture (H, W, 3), or None."""
    side = patch.shape[-1]
    bytes_ = np.rint(patch.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
    for turn in range(8):
        straight = np.rot90(bytes_, -(turn % 4))
        straight = straight[:, ::-1] if turn > 3 else straight
        for top, left in np.argwhere((picture == straight[0, 0]).all(-1)):
            if np.array_equal(picture[top : top + side, left : left + side], straight):
                return int(top), int(left), turn
    return None


# -- batches


def test_a_batch_is_one_crop_of_every_level_just_as_stored(dataset):
    made = stream(dataset)
    stored = {
        (ladder.path(1).parent.parent.name, ladder.file): {
            n: np.asarray(Image.open(ladder.path(n))) for n in ladder.folders
        }
        for ladder in made.stored
    }
    turns = set()
    for number in range(16):
        batch = made.batch(number)
        assert list(batch.ladder) == list(range(1, batch.level + 1, 2))
        assert batch.blurred.equal(batch.ladder[batch.level])  # no noise, no compression
        for sample in range(2):
            for pictures in stored.values():
                if place := place_of(batch.ladder[1][sample], pictures[1]):
                    break
            assert place
            turns.add(place[2])
            for n, image in batch.ladder.items():
                assert place_of(image[sample], pictures[n]) == place
    assert turns == set(range(8))


def test_batches_depend_on_seed_and_number_alone_so_that_a_run_resumes_within_an_epoch(dataset):
    going = stream(dataset)
    for number in (0, 1, 2, 3, 4, 9, 100, 3, 0):
        assert_same(going.batch(number), stream(dataset).batch(number))
    assert not going.batch(0).blurred.equal(stream(dataset, seed=1).batch(0).blurred)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_see_disjoint_exposures_that_make_up_the_batch(dataset, world):
    whole = stream(dataset, batch=6, levels=(9,))
    parts = [stream(dataset, batch=6, levels=(9,), rank=rank, world=world) for rank in range(world)]
    for number in range(3):
        batch, shares = whole.batch(number), [part.batch(number) for part in parts]
        assert torch.cat([share.blurred for share in shares]).equal(batch.blurred)
        assert len({image.numpy().tobytes() for image in batch.ladder[1]}) == 6


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
def test_workers_see_disjoint_batches_in_order(dataset):
    made = stream(dataset)
    loader = DataLoader(range(6), batch_size=None, collate_fn=made.batch, num_workers=2)  # type: ignore[arg-type]
    for number, batch in enumerate(loader):
        assert_same(batch, stream(dataset).batch(number))


def test_the_cache_changes_nothing(dataset, tmp_path):
    for number in range(4):
        one = stream(dataset, decoded=Decoded(tmp_path / "cache")).batch(number)
        assert_same(one, stream(dataset).batch(number))


def test_levels_of_different_sizes_are_refused(dataset, save):
    for number in range(6):
        save(dataset / f"train/clip{number % 2}/TL3/{number:03d}.png", 0, 41, 44)
    with pytest.raises(UserError, match=r"levels of .*\.png differ in size"):
        stream(dataset).batch(0)


def test_levels_that_are_not_stored_are_refused(dataset):
    with pytest.raises(UserError, match=r"approach\.levels: .* \[11, 13\]; there are \[3, 5, 7, 9\]"):
        stream(dataset, levels=(11, 13))


def test_gopros_own_pairs_aim_at_the_sharp_picture_alone(tmp_path, save):
    for clip in ("GOPR0372_07_00", "GOPR0374_11_00"):
        for side in ("blur", "sharp"):
            save(tmp_path / f"train/{clip}/{side}/000001.png", hash((clip, side)) % 1000, 40, 44)
    made = stream(tmp_path, levels=(7, 9, 11, 13), batch=1)
    batches = [made.batch(number) for number in range(4)]
    assert {batch.level for batch in batches} == {7, 11}
    assert all(batch.has_pairs and list(batch.ladder) == [1] for batch in batches)


def test_a_folder_of_pairs_is_trained_on_as_pairs(tmp_path, save):
    for number in range(3):
        for index, side in enumerate(("input", "target")):
            save(tmp_path / f"train/{side}/{number}.png", 10 * number + index, 40, 44)
    data = Dataset(tmp_path)
    assert (len(data.ladders), len(data.pairs)) == (0, 3)
    assert all(stream(tmp_path).batch(number).has_pairs for number in range(3))


def test_the_validation_split_is_held_out(dataset):
    data = Dataset(dataset)
    (held_out,) = validation_sets(data)
    assert held_out.name == "pairs"
    assert held_out.pairs[0][0].shape == (1, 3, 20, 24)
    assert all("valid" not in picture.parts for picture in data.pictures())
    assert len(set(data.pictures())) == 6 * 5


# -- data sets with a manifest


def test_the_manifest_says_what_level_blur_has(tmp_path, save):
    """As mtdeblur augment lays them out: the level in blur/ differs and stands in no folder of its own."""
    rows = []
    for number, own in enumerate((3, 5, 7)):
        for level in (1, 3, 5, 7):
            path = picture_path("train", "clip", f"{number:06d}", level, own)
            save(tmp_path / path, 10 * number + level)
            rows.append(row(path, f"{number:06d}", level, own))
    rows.append(row("test/other/blur/000000.png", "000000", 7, 7, split="test", clip="other"))
    write_manifest(tmp_path, rows, {})
    data = Dataset(tmp_path)
    assert [ladder.file for ladder in data.ladders] == ["000000.png", "000001.png", "000002.png"]
    for ladder, own in zip(data.ladders, (3, 5, 7), strict=True):
        sides = {level: ladder.path(level).parent.name for level in (1, 3, 5, 7)}
        assert sides == {1: "sharp", 3: "TL3", 5: "TL5", 7: "TL7"} | {own: "blur"}
        assert all(ladder.path(level).is_file() for level in sides)
    assert stream(tmp_path, levels=(5, 7)).batch(0).level in (5, 7)


def row(path, name, level, own, split="train", clip="clip"):
    return Row(split, clip, name, level, own, path, "", 0, 0, "gamma 2.2", 50, 40, 8, 0, "")


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(b"no manifest")
    with pytest.raises(UserError, match=r"manifest\.parquet is no manifest"):
        Dataset(tmp_path)


# -- the order of exposures


def ladders(*stored):
    return [Ladder(f"{number}.png", dict.fromkeys(levels)) for number, levels in enumerate(stored)]


@given(
    st.lists(st.sampled_from([(1, 3, 7), (1, 9), (1, 7, 9, 13)]), min_size=1, max_size=40),
    st.integers(1, 7),
    st.integers(0, 3),
)
def test_every_exposure_is_seen_in_every_epoch_at_a_level_it_has(stored, batch, seed):
    order = Order(ladders(*stored), (7, 9, 13), batch, seed)
    for epoch in range(3):
        seen = Counter()
        for number in range(epoch * len(order), (epoch + 1) * len(order)):
            level, chosen = order.batch(number)
            assert len(chosen) == batch
            assert all(level in stored[index] for index in chosen)
            assert len({stored[index] for index in chosen}) == 1  # the same goals for all
            seen.update(set(map(int, chosen)))
        assert set(seen) == set(range(len(stored)))
        assert set(seen.values()) <= {1, 2}  # a few fill up their level's last batch


@pytest.mark.parametrize(
    "stored",
    [
        [range(1, 14, 2)] * 40,  # every level of every exposure
        [range(1, top + 1, 2) for top in (7, 9, 11, 13) for _ in range(10)],  # nothing above the own level
    ],
)
def test_input_levels_are_spread_evenly(stored):
    order = Order(ladders(*map(tuple, stored)), (7, 9, 11, 13), batch=5, seed=0)
    assert Counter(order.batch(number)[0] for number in range(len(order))) == {7: 2, 9: 2, 11: 2, 13: 2}


def test_epochs_differ_and_an_exposure_serves_at_several_levels():
    order = Order(ladders(*[tuple(range(1, 14, 2))] * 8), (7, 9, 11, 13), batch=2, seed=0)
    served = {order.batch(number)[0] for number in range(20 * len(order)) if 0 in order.batch(number)[1]}
    assert served == {7, 9, 11, 13}
    first, second = ([order.batch(n)[1].tolist() for n in range(e * 4, e * 4 + 4)] for e in (0, 1))
    assert first != second
