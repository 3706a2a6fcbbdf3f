"""Data sets on disk as training reads them: their ladders or pairs, and the order in which they are seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtdeblur.data.disk.manifest import MANIFEST
from mtdeblur.data.disk.pairs import Ladder, find_ladders, find_pairs, manifest_ladders
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.errors import UserError


class Dataset(TrainingData):
    """A data set opened for training; its pictures are used as they are, nothing is simulated or added.

    Args:
        folder: the data set, in one of the layouts of `mtdeblur.data.disk.pairs`.
        valid: how many pairs of its validation split to use, spread evenly.

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
    """The order in which exposures are seen: each once an epoch, in batches of one input level.

    Which exposures a batch holds is a pure function of the seed and its number. The wanted input levels occur
    as evenly as the stored levels allow; which exposure serves at which level is drawn anew in every epoch.
    Where exposures do not fill the last batch of their level, some stand in it twice.

    Args:
        ladders: the exposures.
        levels: input levels wanted.
        batch: exposures in a batch.
        seed: 0 or more.

    Raises:
        UserError: if no exposure has any of the levels.
    """

    def __init__(self, ladders: Sequence[Ladder], levels: Sequence[int], batch: int, seed: int) -> None:
        self.size, self.seed = batch, seed
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, ladder in enumerate(ladders):
            alike.setdefault(tuple(ladder.folders), []).append(index)
        counts = dict.fromkeys(levels, 0)
        self._groups: list[tuple[NDArray[np.int64], dict[int, int]]] = []  # and how many serve at which level
        for stored in sorted(alike, key=len):  # those with the least choice first
            inputs = [level for level in counts if level in stored]
            shares = dict.fromkeys(inputs, 0)
            for _ in alike[stored] if inputs else ():
                level = min(inputs, key=counts.__getitem__)
                counts[level] += 1
                shares[level] += 1
            self._groups.append((np.array(alike[stored]), shares))
        if not any(counts.values()):
            there = sorted({level for stored in alike for level in stored if level > 1})
            raise UserError(f"approach.levels: no exposure has the levels {list(levels)}; there are {there}")
        self._epoch: int = 0
        self._batches = self._shuffle(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._batches)

    def batch(self, number: int) -> tuple[int, NDArray[np.int64]]:
        """Input level, and which exposures the batch with that number holds."""
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
