"""Choose the pictures and crops of a figure, from the inputs and ground truth alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.data.disk.pairs import Pair
from mtdeblur.experiments.material import TestSet
from mtdeblur.experiments.measuring import Subject

Part = tuple[slice, slice]
"""Rows and columns."""
SIDE = 160  # of an enlarged part in pixels, at most
PAIRS = 3  # from each test set, at most


def most_blurred(parts: Sequence[TestSet], subject: Subject) -> list[Pair]:
    """Of each of a few stretches of a test set the pair whose blurred picture has the lowest PSNR.

    Args:
        parts: of the test set; pairs of one name in several of them count as one.
        subject: what has been measured on them.
    """
    found: dict[str, tuple[float, Pair]] = {}
    for part in parts:
        for pair, figures in zip(part.pairs, subject.pair_figures(part), strict=True):
            one = (figures.iterations[0].psnr, pair)
            found[pair.name] = min(one, found.get(pair.name, one))
    pairs = list(found.values())
    stretch = -(-len(pairs) // PAIRS)
    return [min(pairs[start : start + stretch])[1] for start in range(0, len(pairs), stretch)]


def furthest_part(blurred: NDArray[Any], sharp: NDArray[Any]) -> Part:
    """The square part where a blurred picture differs most from the sharp one, in squares summed.

    Args:
        blurred: (H, W, 3).
        sharp: likewise.

    Returns:
        Its rows and columns.
    """
    error: NDArray[np.float64] = np.square(blurred.astype(np.float64) - sharp).sum(axis=2)
    height, width = blurred.shape[:2]
    side = min(SIDE, height // 2, width // 2)
    above = np.pad(error, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)  # sums above and left of a corner
    sums = above[side:, side:] - above[:-side, side:] - above[side:, :-side] + above[:-side, :-side]
    top, left = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + side), slice(left, left + side)
