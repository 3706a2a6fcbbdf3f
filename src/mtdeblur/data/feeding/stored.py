"""Data sets on disk as training data, and the order of their exposures in training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtdeblur.data.disk.manifest import MANIFEST
from mtdeblur.data.disk.pairs import Ladder, find_ladders, find_pairs, manifest_ladders
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.errors import UserError


class Dataset(TrainingData):
    """A data set opened for training; its pictures are used unchanged.

    Args:
        folder: the data set, in one of the layouts of `mtdeblur.data.disk.layouts`.
        valid: maximum number of validation pairs, spread evenly over the validation split.

    Raises:
        UserError: as `find_pairs` does.
    """

    def __init__(self, folder: Path, valid: int = 12) -> None:
        if (folder / MANIFEST).is_file():
            self.ladders = manifest_ladders(folder)
        else:
            self.ladders, others = find_ladders(find_pairs(folder, split="train"))
            self.pairs = [(pair.blur, pair.sharp) for pair in others]
        held_out = find_pairs(folder, split="valid", maximum=valid, optional=True)
        self.valid_pairs = [(pair.blur, pair.sharp) for pair in held_out]


class Order:
    """The order of exposures: each once an epoch, in batches of one input level.

    The exposures of a batch are a pure function of the seed and its number. The input levels occur as evenly
    as the stored levels allow, and are assigned to the exposures at random in every epoch. The last batch of
    a level is filled by repeating exposures.

    Args:
        ladders: the exposures.
        levels: input levels.
        batch: exposures in a batch.
        seed: 0 or more.

    Raises:
        UserError: if no exposure has any of the levels.
    """

    def __init__(self, ladders: Sequence[Ladder], levels: Sequence[int], batch: int, seed: int) -> None:
        self.size, self.seed = batch, seed
        by_levels: dict[tuple[int, ...], list[int]] = {}
        for index, ladder in enumerate(ladders):
            by_levels.setdefault(tuple(ladder.folders), []).append(index)
        counts = dict.fromkeys(levels, 0)
        self._groups: list[
            tuple[NDArray[np.int64], dict[int, int]]
        ] = []  # exposures, and count by input level
        for stored in sorted(by_levels, key=len):  # those with the fewest levels first
            inputs = [level for level in counts if level in stored]
            shares = dict.fromkeys(inputs, 0)
            for _ in by_levels[stored] if inputs else ():
                level = min(inputs, key=counts.__getitem__)
                counts[level] += 1
                shares[level] += 1
            self._groups.append((np.array(by_levels[stored]), shares))
        if not any(counts.values()):
            known = sorted({level for stored in by_levels for level in stored if level > 1})
            raise UserError(f"approach.levels: no exposure has the levels {list(levels)}; there are {known}")
        self._epoch: int = 0
        self._batches = self._shuffle(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._batches)

    def batch(self, number: int) -> tuple[int, NDArray[np.int64]]:
        """Input level and exposures of the batch with that number."""
        epoch, index = divmod(number, len(self))
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        return self._batches[index]

    def _shuffle(self, epoch: int) -> list[tuple[int, NDArray[np.int64]]]:
        rng = np.random.default_rng((self.seed, epoch))
        batches: list[tuple[int, NDArray[np.int64]]] = []
        for indices, shares in self._groups:
            shuffled = rng.permutation(indices)
            for level, share in shares.items():
                part, shuffled = shuffled[:share], shuffled[share:]
                whole = np.resize(part, -(-share // self.size) * self.size)
                batches += [(level, chosen) for chosen in whole.reshape(-1, self.size)]
        return [batches[index] for index in rng.permutation(len(batches))]
