"""Folders of blurred pictures and their ground truth, as an evaluation wants them."""

from pathlib import Path

from mtdeblur.data.disk import pairs as datasets
from mtdeblur.data.disk.leftovers import Tell, tell
from mtdeblur.data.disk.pairs import Pair

__all__ = ["Pair", "find_pairs"]


def find_pairs(
    dataset: Path, maximum: int | None = None, layout: str | None = None, report: Tell = tell
) -> list[Pair]:
    """List the test pairs of a data set, sorted by name.

    Args:
        dataset: the folder, in one of the layouts of `mtdeblur.data.disk.pairs`.
        maximum: take no more than this many, spread evenly over the data set.
        layout: name of the layout; recognised where it is not given.
        report: is told of the pictures that are left out, because they have no partner.

    Raises:
        UserError: if the folder does not fit the layout, or no picture in it has a partner.
    """
    pairs = datasets.find_pairs(dataset, layout, report=report)
    return pairs if maximum is None else datasets.spread(pairs, maximum)
