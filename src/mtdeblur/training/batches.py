"""Data loading for the trainer."""

import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.data.feeding.stream import LadderBatch, LadderStream
from mtdeblur.training.algorithm import IncrementalTemporalTraining
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.progress import say


def open_stream(
    config: TrainingConfig,
    pack: TrainingData,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
) -> LadderStream:
    """The configured stream of batches; unreadable pictures are reported on standard error.

    Args:
        config: of the run.
        pack: training data.
        device: device on which batches are made.
        rank: number of this process.
        world: number of processes that share a batch.

    Raises:
        UserError: as `LadderStream` does.
    """
    data = config.data
    return LadderStream(
        pack,
        data.exposures(),
        levels=config.approach.levels,
        patch=data.patch,
        batch=data.batch,
        reuse=data.reuse,
        pool=data.pool,
        seed=config.seed,
        device=device,
        rank=rank,
        world=world,
        decoded=Decoded(data.cache),
        report=say,
    )


class RunData(pl.LightningDataModule):
    """The run's training batches and validation sets, for Lightning.

    Args:
        pack: training data.
        module: the run's module.
    """

    def __init__(self, pack: TrainingData, module: IncrementalTemporalTraining) -> None:
        super().__init__()
        self.pack, self.module = pack, module

    def train_dataloader(self) -> "Batches":
        """The remaining batches; each process makes its own part of each."""
        config = self.module.config
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        stream = open_stream(config, self.pack, device=self.module.device, rank=rank, world=world)
        return Batches(stream, self.module, config.optimiser.batches)

    def val_dataloader(self) -> Any:
        """Numbers of the validation sets."""
        loader: Any = DataLoader  # accepts any sequence, although typed for datasets only
        return loader(range(len(self.module.sets)), batch_size=None)


class Batches:
    """The run's remaining batches in order; the time to make them is added to the module's `waited`.

    Args:
        stream: makes the batch of a given number.
        module: the run's module.
        total: length of the run in batches.
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
