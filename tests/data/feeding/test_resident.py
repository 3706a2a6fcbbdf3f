import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mtdeblur.data.feeding.resident as module
from mtdeblur.data.feeding.resident import Corners, Resident, Turn, detail, random_turn
from mtdeblur.errors import UserError
from mtdeblur.exposure.draws import BatchDraws

SIZES = [(20, 31), (9, 12), (40, 5), (1, 1)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files and samples of four pictures of different sizes."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    samples = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    for number, picture in enumerate(samples):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(len(SIZES))], samples


@given(
    st.integers(0, 3),
    st.integers(-50, 60),
    st.integers(-50, 60),
    st.integers(1, 24),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
@settings(max_examples=60, deadline=None)
def test_crops_are_those_of_the_mirrored_picture(pictures, index, top, left, side, turn):
    """Against numpy: pad symmetrically, cut, flip and transpose."""
    files, samples = pictures
    crop = Resident(files, "cpu").crops(
        torch.tensor([index]),
        Corners(torch.tensor([top]), torch.tensor([left])),
        side,
        Turn(*(torch.tensor([which]) for which in turn)),
    )[0]
    padded = np.pad(samples[index], ((60, 90), (60, 90), (0, 0)), mode="symmetric")
    expected = padded[60 + top : 60 + top + side, 60 + left : 60 + left + side]
    rows, columns, swapped = turn
    expected = expected[::-1] if rows else expected
    expected = expected[:, ::-1] if columns else expected
    expected = expected.transpose(1, 0, 2) if swapped else expected
    assert np.array_equal(crop.permute(1, 2, 0).numpy(), expected)


def test_corners_lie_inside_and_reach_every_place(pictures):
    resident = Resident(pictures[0], "cpu")
    draws = BatchDraws((3,), 2000)
    corners = resident.corners(draws, torch.zeros(2000, dtype=torch.int64), 18)
    assert sorted(set(corners.top.tolist())) == list(range(3))
    assert sorted(set(corners.left.tolist())) == list(range(14))
    small = resident.corners(draws, torch.full((2000,), 1), 16)  # 9 rows: 3 above, 4 below
    assert set(small.top.tolist()) == {-4}


def test_every_turn_is_drawn():
    turns = {
        tuple(bool(part[sample]) for part in random_turn(BatchDraws((1,), 200))) for sample in range(200)
    }
    assert len(turns) == 8


def test_detail_is_the_mean_difference_of_neighbours_inside():
    crops = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    crops[:, 1, :, 4:] = 100  # one step of 100 in each of 4 rows of 4 pixels
    assert float(detail(crops)) == pytest.approx(4 * 100 / 16)
    inside = torch.zeros(1, 8, 8, dtype=torch.bool)
    inside[:, :, :4] = True
    assert float(detail(crops, inside)) == 0


def test_a_picture_that_cannot_be_read_is_reported_and_left_empty(pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "cut.png").write_bytes(pictures[0][0].read_bytes()[:200])
    told = []
    files = [tmp_path / "broken.png", *pictures[0], tmp_path / "cut.png"]
    resident = Resident(files, "cpu", report=told.append)
    assert [resident.readable(number) for number in range(6)] == [False, True, True, True, True, False]
    assert len(told) == 2
    assert "broken.png" in told[0]
    assert "cut.png" in told[1]
    assert resident.shapes[1:5] == SIZES


def test_more_pictures_than_memory_lie_in_a_file(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_free_memory", lambda: 1000)
    mapped = Resident(pictures[0], "cpu", folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    draws, index = BatchDraws((1,), 40), torch.arange(40) % 4
    corners = mapped.corners(draws, index, 8)
    assert mapped.crops(index, corners, 8).equal(Resident(pictures[0], "cpu").crops(index, corners, 8))
    monkeypatch.setattr(module, "_free_memory", lambda: 1000)
    with pytest.raises(UserError, match="--cache"):
        Resident(pictures[0], "cpu", folder=tmp_path / "absent")


def test_no_pictures_are_none():
    assert Resident([], "cpu").shapes == []
