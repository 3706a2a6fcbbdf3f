"""The run's data as the trainer asks for it."""

import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from mtdeblur.data.contents import TrainingData
from mtdeblur.data.decoded import Decoded
from mtdeblur.data.ladders import LadderBatch, LadderStream
from mtdeblur.training.algorithm import IncrementalTemporalTraining
from mtdeblur.training.progress import say


class RunData(pl.LightningDataModule):
    """Hands the trainer the run's batches, from the one that the run stands at.

    Args:
        pack: what is trained on.
        module: whose run it is.
    """

    def __init__(self, pack: TrainingData, module: IncrementalTemporalTraining) -> None:
        super().__init__()
        self.pack, self.module = pack, module

    def train_dataloader(self) -> "Batches":
        """The batches still to come; each process makes its own part of them."""
        config, data = self.module.config, self.module.config.data
        assert self.trainer is not None
        stream = LadderStream(
            self.pack,
            data.exposures(),
            levels=config.approach.levels,
            patch=data.patch,
            batch=data.batch,
            reuse=data.reuse,
            pool=data.pool,
            seed=config.seed,
            device=self.module.device,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            decoded=Decoded(data.cache),
            report=say,
        )
        return Batches(stream, self.module, config.optimiser.batches)

    def val_dataloader(self) -> Any:
        """Numbers of the validation sets."""
        loader: Any = DataLoader  # which takes any sequence, though typed for datasets alone
        return loader(range(len(self.module.sets)), batch_size=None)


class Batches:
    """The run's batches in order, from the first that is not done; measures what making them takes.

    Args:
        stream: makes a batch of each number.
        module: knows how many are done, and sums up the seconds.
        total: length of the run.
    """

    def __init__(self, stream: LadderStream, module: IncrementalTemporalTraining, total: int) -> None:
        self.stream, self.module, self.total = stream, module, total

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[LadderBatch]:
        for number in range(self.module.batches_done, self.total):
            started = time.monotonic()
            batch = self.stream.batch(number)
            self.module.waited += time.monotonic() - started
            yield batch
