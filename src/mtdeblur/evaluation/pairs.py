"""Folders of blurred pictures and their ground truth, as an evaluation wants them."""

from pathlib import Path

from mtdeblur.data import datasets
from mtdeblur.data.datasets import Pair

__all__ = ["Pair", "find_pairs"]


def find_pairs(dataset: Path, maximum: int | None = None, layout: str | None = None) -> list[Pair]:
    """List the test pairs of a data set, sorted by name.

    Args:
        dataset: the folder, in one of the layouts of `mtdeblur.data.datasets`.
        maximum: take no more than this many, spread evenly over the data set.
        layout: name of the layout; recognised where it is not given.

    Raises:
        UserError: if the folder does not fit the layout, a picture has no partner, or two share a stem.
    """
    pairs = datasets.find_pairs(dataset, layout)
    return pairs if maximum is None else datasets.spread(pairs, maximum)
