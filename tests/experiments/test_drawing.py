"""What figures choose to show."""

import numpy as np
import pytest

from mtdeblur.data.disk.pairs import Pair
from mtdeblur.evaluation.protocol import Figures, PairFigures
from mtdeblur.experiments.drawing import PAIRS, SIDE, furthest_part, most_blurred
from mtdeblur.experiments.material import TestSet


@pytest.mark.parametrize(("height", "width", "side"), [(60, 90, 30), (41, 30, 15), (400, 700, SIDE)])
def test_the_part_shown_is_where_blurred_and_sharp_differ_most(height, width, side):
    random = np.random.default_rng(height)
    sharp = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    blurred = sharp.copy()
    blurred[:: height // 8] = 128  # a little everywhere
    rows, columns = slice(height - side - 3, height - 3), slice(2, 2 + side)
    blurred[rows, columns] = 255 - sharp[rows, columns]  # and everything here
    sums = {
        (top, left): np.square(
            blurred[top : top + side, left : left + side] * 1.0 - sharp[top : top + side, left : left + side]
        ).sum()
        for top in range(max(0, rows.start - 3), height - side + 1)
        for left in range(6)
    }
    top, left = max(sums, key=lambda place: sums[place])
    assert furthest_part(blurred, sharp) == (slice(top, top + side), slice(left, left + side))


class Measured:
    """A subject whose blurred pictures have the PSNR that their pair's name in the part says."""

    def __init__(self, psnr):
        self.psnr = psnr

    def pair_figures(self, part):
        return [
            PairFigures(pair.name, (Figures(0, self.psnr[part.key, pair.name], {}),)) for pair in part.pairs
        ]


def test_the_most_blurred_pairs_of_a_test_set_are_shown_each_scene_once():
    names = [f"scene-{number}" for number in range(3 * PAIRS)]
    parts = [
        TestSet(level, tuple(Pair(name, f"{level}-{name}", "sharp") for name in names))
        for level in ("a", "b")
    ]
    psnr = {(level, name): 30.0 for level in "ab" for name in names}
    worst = [("b", "scene-1"), ("a", "scene-3"), ("b", "scene-8")]
    psnr |= dict(zip(worst, (20.0, 25.0, 22.0), strict=True))
    assert len(worst) == PAIRS
    shown = most_blurred(parts, Measured(psnr))
    assert [pair.blur for pair in shown] == [f"{level}-{name}" for level, name in worst]
    few = [TestSet("a", parts[0].pairs[:2])]
    assert [pair.name for pair in most_blurred(few, Measured(psnr))] == ["scene-0", "scene-1"]
