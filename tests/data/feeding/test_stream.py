import numpy as np
import pytest
import torch
from PIL import Image

from mtdeblur.data.feeding.pack import Pack, decode
from mtdeblur.data.feeding.stream import Exposures, LadderStream
from mtdeblur.data.feeding.validation import validation_sets
from mtdeblur.errors import UserError
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import FRAMES, Motion

CLEAN = Sensor(noise=0, noisy=0, compressed=0)
STILL = Motion(length=0, still=0, rotation=0, zoom=0, depth=0, layers=0)


def stream(pack, *, motion=None, sensor=None, clips=0.3, gamma=0.5, pairs=0.0, **options):
    exposures = Exposures(motion or Motion(length=10), sensor or Sensor(), clips, gamma, pairs=pairs)
    settings = {"levels": (7, 9, 11, 13), "patch": 16, "batch": 4, "reuse": 3, "pool": 2, **options}
    return LadderStream(Pack(pack), exposures, **settings)


def assert_same(one, other):
    assert (one.number, one.level, list(one.ladder)) == (other.number, other.level, list(other.ladder))
    assert one.blurred.equal(other.blurred)
    for n, image in one.ladder.items():
        assert image.equal(other.ladder[n])


def turned(crop):
    """All eight ways to flip and turn an array (..., H, W)."""
    for flipped in (crop, crop[..., ::-1]):
        for quarter in range(4):
            yield np.rot90(flipped, quarter, (-2, -1))


# -- what a batch is


def test_a_batch_holds_the_whole_ladder_of_its_level(folder):
    made = stream(folder)
    levels = set()
    for number in range(12):
        batch = made.batch(number)
        levels.add(batch.level)
        assert batch.number == number
        assert list(batch.ladder) == list(range(1, batch.level + 1, 2))
        for image in (batch.blurred, *batch.ladder.values()):
            assert image.shape == (4, 3, 16, 16)
            assert image.dtype == torch.float32
            assert image.min() >= 0
            assert image.max() <= 1
            np.testing.assert_allclose(image * 255, (image * 255).round(), rtol=0, atol=1e-4)
    assert levels == {7, 9, 11, 13}


def test_a_clean_sensor_gives_the_level_itself(folder):
    batch = stream(folder, sensor=CLEAN).batch(5)
    np.testing.assert_allclose(batch.blurred, batch.ladder[batch.level], rtol=0, atol=1e-6)
    noisy = stream(folder, sensor=Sensor(noise=0.1, noisy=1)).batch(5)
    assert not noisy.blurred.equal(noisy.ladder[noisy.level])
    for n, image in noisy.ladder.items():  # the goals are never noisy
        assert image.equal(batch.ladder[n])


def test_batches_depend_on_seed_and_number_alone(folder):
    numbers = [0, 1, 5, 6, 7, 13, 6, 0]
    going = stream(folder)
    for number in numbers:
        assert_same(going.batch(number), stream(folder).batch(number))
    assert not stream(folder, seed=1).batch(0).blurred.equal(stream(folder).batch(0).blurred)
    assert not going.batch(1).blurred.equal(going.batch(0).blurred)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_one_batch(folder, world):
    whole = stream(folder)
    parts = [stream(folder, rank=rank, world=world) for rank in range(world)]
    for number in (0, 3, 6, 11):
        batch, shares = whole.batch(number), [part.batch(number) for part in parts]
        assert {share.level for share in shares} == {batch.level}
        assert torch.cat([share.blurred for share in shares]).equal(batch.blurred)
        for n, image in batch.ladder.items():
            assert torch.cat([share.ladder[n] for share in shares]).equal(image)


def test_a_batch_that_cannot_be_shared_is_refused(folder):
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared evenly by 3"):
        stream(folder, world=3)


# -- ladders of real frames, exactly


@pytest.mark.parametrize("gamma", [0, 1])
def test_levels_of_real_frames_are_averages_around_one_mid_frame(folder, gamma):
    """Every crop is found again, flipped or turned alike at every level, in one place of one clip."""
    made = stream(folder, clips=1, gamma=gamma, sensor=CLEAN, reuse=1, batch=2)
    power = 2.2 if gamma else 1.0
    clips = [
        np.stack([decode(entry) for entry in clip]).transpose(0, 3, 1, 2) / 255 for clip in Pack(folder).clips
    ]
    for number in range(3):
        batch = made.batch(number)
        for sample in range(2):
            ladder = np.stack([image[sample].double().numpy() for image in batch.ladder.values()])
            clip, middle, place, turn = find(ladder[0], clips)
            for seen, n in zip(ladder, batch.ladder, strict=True):
                around = clips[clip][middle - n // 2 : middle + n // 2 + 1][..., place[0], place[1]]
                level = (around**power).mean(axis=0) ** (1 / power)
                expected = list(turned(level))[turn]
                np.testing.assert_allclose(seen, expected, rtol=0, atol=0.5 / 255 + 1e-5)


def find(crop, clips):
    """Where a crop of a frame comes from: clip, frame, rows and columns, and how it was turned."""
    side = crop.shape[-1]
    for turn, back in enumerate([0, 3, 2, 1, 0, 1, 2, 3]):  # undoes turned()'s ways
        straight = np.rot90(crop, back if turn < 4 else 4 - turn % 4, (-2, -1))
        straight = straight if turn < 4 else straight[..., ::-1]
        for index, clip in enumerate(clips):
            for middle, top, left in np.argwhere(np.abs(clip[:, 0] - straight[0, 0, 0]) < 1e-6):
                place = slice(top, top + side), slice(left, left + side)
                window = clip[middle][..., place[0], place[1]]
                if window.shape == straight.shape and np.abs(window - straight).max() < 1e-6:
                    return index, middle, place, turn
    raise AssertionError("the crop stands in no frame")


def test_a_pack_without_photographs_serves(folder):
    for file in (folder / "train/photos").iterdir():
        file.unlink()
    assert stream(folder, clips=0).batch(0).blurred.shape == (4, 3, 16, 16)


def test_a_pack_without_clips_serves(folder):
    for file in (folder / "train/clips").rglob("*.png"):
        file.unlink()
    for clip in (folder / "train/clips").iterdir():
        clip.rmdir()
    assert stream(folder, clips=1).batch(0).blurred.shape == (4, 3, 16, 16)


def test_frames_of_different_sizes_are_refused(folder, save):
    for clip in range(2):
        save(folder / f"train/clips/clip{clip}/7.png", 0, 41, 44)
    with pytest.raises(UserError, match="differ in size"):
        stream(folder, clips=1).batch(0)


# -- real pairs


@pytest.fixture
def paired(folder, save):
    """The pack with 3 pairs to train on."""
    for index in range(3):
        save(folder / f"train/pairs/blur/{index}.png", 600 + index, 40, 44)
        save(folder / f"train/pairs/sharp/{index}.png", 700 + index, 40, 44)
    return folder


def test_pairs_are_the_same_crop_of_both_pictures_as_they_are(paired):
    """No noise, no compression, flipped and turned alike, from every pair and in every way."""
    made = stream(paired, pairs=1, sensor=Sensor(noisy=1, compressed=1))
    pictures = {
        side: [decode(entry).transpose(2, 0, 1)[None] / 255 for entry in entries]
        for side, entries in zip(("blur", "sharp"), zip(*Pack(paired).pairs, strict=True), strict=True)
    }
    found = []
    for number in range(8):
        batch = made.batch(number)
        assert batch.has_pairs
        assert list(batch.ladder) == [1]
        assert batch.level in (7, 9, 11, 13)
        assert batch.blurred.shape == batch.ladder[1].shape == (4, 3, 16, 16)
        for blurred, sharp in zip(
            batch.blurred.double().numpy(), batch.ladder[1].double().numpy(), strict=True
        ):
            place = find(sharp, pictures["sharp"])
            assert find(blurred, pictures["blur"]) == place
            found.append(place)
    assert {index for index, *_ in found} == {0, 1, 2}
    assert {turn for *_, turn in found} == set(range(8))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1 / 3])
def test_a_share_of_the_batches_holds_pairs(paired, share):
    made, without = stream(paired, pairs=share), stream(paired)
    others = 0
    for number in range(24):
        batch = made.batch(number)
        assert batch.level == without.batch(number).level
        others += not batch.has_pairs
        if not share:
            assert_same(batch, without.batch(number))
    assert others == round(24 * (1 - share))


def test_batches_with_pairs_in_between_depend_on_seed_and_number_alone(paired):
    going = stream(paired, pairs=0.4)
    for number in (0, 1, 2, 3, 9, 14, 3, 2):
        assert_same(going.batch(number), stream(paired, pairs=0.4).batch(number))
        shares = [stream(paired, pairs=0.4, rank=rank, world=2).batch(number) for rank in range(2)]
        assert torch.cat([share.blurred for share in shares]).equal(going.batch(number).blurred)
    assert (
        not stream(paired, pairs=1, seed=1).batch(0).blurred.equal(stream(paired, pairs=1).batch(0).blurred)
    )


def grey_photographs(folder, count=250):
    """Each with a grey level of its own, so that a patch tells which photograph it shows."""
    (folder / "train/photos").mkdir(parents=True)
    for level in range(count):
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(folder / f"train/photos/{level}.png")


def greys(batch):
    return [int((image.mean() * 255).round()) for image in batch.ladder[1]]


GREY = {"motion": STILL, "sensor": CLEAN, "gamma": 0, "patch": 8}


def test_pairs_do_not_use_up_exposures(tmp_path, save):
    grey_photographs(tmp_path)
    settings = {**GREY, "batch": 2, "reuse": 2, "pool": 1}
    alone = stream(tmp_path, **settings)
    for side in ("blur", "sharp"):
        Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(tmp_path / "same.png")
        (tmp_path / f"train/pairs/{side}").mkdir(parents=True)
        (tmp_path / "same.png").rename(tmp_path / f"train/pairs/{side}/0.png")
    made = stream(tmp_path, pairs=0.5, **settings)
    made.photos = made.photos[:-1]  # without the sharp picture of the pair
    batches = [made.batch(number) for number in range(16)]
    others = [greys(one) for one in batches if not one.has_pairs]
    assert others == [greys(alone.batch(number)) for number in range(8)]


def test_a_pack_of_pairs_alone_serves(paired):
    for place in ("photos", "clips"):
        (paired / "train" / place).rename(paired / place)
    assert all(stream(paired).batch(number).has_pairs for number in range(3))


def test_pairs_to_train_on_of_different_sizes_are_refused(paired, save):
    for index in range(3):
        save(paired / f"train/pairs/sharp/{index}.png", index, 41, 44)
    with pytest.raises(UserError, match=r"blur/\d.png and its sharp picture differ in size"):
        stream(paired, pairs=1).batch(0)


# -- simulated exposures


def test_the_crop_without_motion_is_the_photographs(folder):
    """Augmentations are joint: without motion all levels are the same crop, found in one photograph."""
    photos = [decode(entry).transpose(2, 0, 1)[None] / 255 for entry in Pack(folder).photos]
    made = stream(folder, clips=0, motion=STILL, sensor=CLEAN)
    for number in range(4):
        batch = made.batch(number)
        for image in batch.ladder.values():
            np.testing.assert_allclose(image, batch.ladder[1], rtol=0, atol=1e-6)
        for sample in batch.ladder[1].double().numpy():
            find(sample, photos)


def test_photographs_are_enlarged_before_they_are_exposed(tmp_path):
    """Stripes 4 pixels wide become stripes 8 pixels wide when enlarged twice."""
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, np.arange(120) % 8 < 4] = 255
    (tmp_path / "train/photos").mkdir(parents=True)
    Image.fromarray(stripes).save(tmp_path / "train/photos/a.png")

    def crossings(enlarge):
        exposures = Exposures(STILL, CLEAN, 0, 0, enlarge)
        made = LadderStream(Pack(tmp_path), exposures, levels=(3,), patch=48, batch=4, reuse=1, pool=1)
        sharp = made.batch(0).ladder[1].mean(1) > 0.5  # (4, 48, 48)
        changes = (sharp.diff(dim=-1).sum((1, 2)) + sharp.diff(dim=-2).sum((1, 2))).numpy()
        return changes / 48

    np.testing.assert_allclose(crossings((1.0, 1.0)), 12, atol=1)
    np.testing.assert_allclose(crossings((2.0, 2.0)), 6, atol=1)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_the_photographs_has_highlights_brighter_than_white(tmp_path, share):
    """Lamps on a regular grid: blur keeps their mean light, and that of brighter lamps is more."""
    lamps = np.zeros((160, 160, 3), np.uint8)
    lamps[::8, ::8] = 255
    (tmp_path / "train/photos").mkdir(parents=True)
    Image.fromarray(lamps).save(tmp_path / "train/photos/a.png")
    motion = Motion(length=24, still=0, rotation=0, zoom=0, depth=0, layers=0)
    exposures = Exposures(motion, CLEAN, 0, 0, highlights=share)
    made = LadderStream(Pack(tmp_path), exposures, levels=(13,), patch=48, batch=50, reuse=1, pool=1)
    batch = made.batch(0)
    light, sharp = (batch.ladder[level].mean(dim=(1, 2, 3)) for level in (13, 1))
    assert ((sharp - 1 / 64).abs() < 0.004).all()
    brighter = float((light > 1.3 * sharp).double().mean())
    assert 0.6 * share <= brighter <= 1.2 * share


def test_moving_layers_show_other_photographs(tmp_path):
    """A dark and a bright photograph: where a layer moves, both are seen in one patch."""
    (tmp_path / "train/photos").mkdir(parents=True)
    for level in (50, 200):
        Image.fromarray(np.full((60, 60, 3), level, np.uint8)).save(tmp_path / f"train/photos/{level}.png")
    layered = Motion(length=0, still=0, rotation=0, zoom=0, depth=0, layers=1)

    def mixed(motion):
        made = stream(tmp_path, motion=motion, sensor=CLEAN, patch=48, batch=16, reuse=1, pool=1)
        return float((made.batch(0).ladder[1].std(dim=(1, 2, 3)) > 0.05).double().mean())

    assert mixed(STILL) == 0
    assert 0.15 < mixed(layered) < 0.85  # half of the photographs have the other one before them


def test_all_flips_and_turns_occur(folder):
    photos = [decode(entry).transpose(2, 0, 1)[None] / 255 for entry in Pack(folder).photos]
    made = stream(folder, clips=0, motion=STILL, sensor=CLEAN, batch=8, reuse=8)
    turns = {
        find(sample, photos)[3]
        for number in range(6)
        for sample in made.batch(number).ladder[1].double().numpy()
    }
    assert turns == set(range(8))


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (1, 1), (30, 31)])
def test_small_photographs_and_frames_are_mirrored(tmp_path, save, height, width):
    save(tmp_path / "train/photos/0.png", 0, height, width)
    for frame in range(13):
        save(tmp_path / f"train/clips/0/{frame}.png", frame, height, width)
    for clips in (0, 1):
        batch = stream(tmp_path, clips=clips, patch=32, motion=STILL, sensor=CLEAN).batch(0)
        assert batch.blurred.shape == (4, 3, 32, 32)
        assert batch.ladder[1].std() > 0.1 or (height, width) == (1, 1)


def test_crops_with_more_detail_are_preferred(tmp_path):
    half = np.full((80, 160, 3), 128, np.uint8)
    half[:, 80:] = np.random.default_rng(0).integers(0, 256, (80, 80, 3))
    (tmp_path / "train/photos").mkdir(parents=True)
    Image.fromarray(half).save(tmp_path / "train/photos/0.png")
    made = stream(tmp_path, motion=STILL, sensor=CLEAN, reuse=1, batch=16, pool=8)
    detailed = np.mean(
        [(made.batch(n).ladder[1].std(dim=(1, 2, 3)) > 0.05).double().mean() for n in range(8)]
    )
    assert detailed > 0.6  # the better of two: about 3 in 4


@pytest.mark.parametrize("reuse", [1, 2, 3])
@pytest.mark.parametrize("pool", [1, 4])
def test_exposures_are_used_as_often_as_asked_on_average_and_then_replaced(tmp_path, reuse, pool):
    grey_photographs(tmp_path)
    made = stream(tmp_path, **GREY, batch=2, reuse=reuse, pool=pool, seed=5)
    numbers = 30 * reuse
    used = np.array([greys(made.batch(number)) for number in range(numbers)])  # (numbers, 2)
    for place in used.T:
        assert 15 <= len(set(place)) <= 30 + pool  # some are replaced before they are drawn
        if pool == 1:
            assert all(len(set(uses)) == 1 for uses in place.reshape(30, reuse))
    assert len(set(used[:, 0]) & set(used[:, 1])) < 10  # places have exposures of their own


# -- validation


def test_validation_sets_are_the_held_out_photographs_and_pairs(folder):
    sets = {one.name: one.pairs for one in validation_sets(Pack(folder), size=32)}
    assert list(sets) == ["simulated", "pairs"]
    for index, (blurred, sharp) in enumerate(sets["simulated"]):
        assert blurred.shape == sharp.shape == (1, 3, 32, 32)
        photo = decode(folder / f"valid/photos/{index}.png") / 255
        assert not blurred.equal(sharp)
        middle = photo.transpose(2, 0, 1)[:, 14:46, 19:51]
        unlayered = np.abs(sharp[0].numpy() - middle).max(axis=0) < 1e-4
        assert unlayered.mean() > 0.1  # a layer may cover the rest
    for index, (blurred, sharp) in enumerate(sets["pairs"]):
        for side, image in (("blur", blurred), ("sharp", sharp)):
            expected = decode(folder / f"valid/pairs/{side}/{index}.png").transpose(2, 0, 1)[None] / 255
            np.testing.assert_allclose(image, expected, rtol=0, atol=1e-6)


def test_validation_sets_are_the_same_every_time(folder):
    one, other = (list(validation_sets(Pack(folder))) for _ in range(2))
    for (name, pairs), (same_name, same_pairs) in zip(one, other, strict=True):
        assert name == same_name
        for pair, same in zip(pairs, same_pairs, strict=True):
            assert all(a.equal(b) for a, b in zip(pair, same, strict=True))


def test_validation_can_be_limited_and_may_be_absent(folder):
    pack = Pack(folder)
    assert [len(one.pairs) for one in validation_sets(pack, limit=1)] == [1, 2]
    assert [one.name for one in validation_sets(pack, limit=0)] == ["pairs"]
    for file in (folder / "valid").rglob("*.png"):
        file.unlink()
    assert list(validation_sets(Pack(folder))) == []


def test_pairs_of_different_sizes_are_refused(folder, save):
    save(folder / "valid/pairs/sharp/1.png", 0, 20, 25)
    with pytest.raises(UserError, match="differ in size"):
        list(validation_sets(Pack(folder)))


def test_training_never_sees_what_is_held_out(paired):
    made = stream(paired)
    seen = set(made.pictures.entries)
    assert len(seen) == 5 + 2 * (FRAMES + 2) + 2 * 3
    assert all("valid" not in entry.parts for entry in seen)


# -- what a run is told


def test_pictures_smaller_than_the_patches_are_reported(folder):
    told: list[str] = []
    stream(folder, report=told.append)
    assert told == []
    made = stream(folder, patch=200, batch=1, pool=1, report=told.append)
    count = len(made.pictures.shapes)
    assert len(told) == 1
    assert f"{count} of {count}" in told[0]
    assert "data.patch" in told[0]
