"""Progress messages of a run."""

import logging
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

from mtdeblur.approaches import plans
from mtdeblur.training.algorithm import as_training


def is_first_process() -> bool:
    """Whether this process prints and writes files for all processes of the run."""
    return getattr(rank_zero_only, "rank", 0) == 0


def say(line: str, console: Console | None = None) -> None:
    """Print one line on standard error, from the first process only."""
    if is_first_process():
        (console or Console(stderr=True)).print(line, soft_wrap=True, markup=False, highlight=False)


class Progress(pl.Callback):
    """Progress bar on a terminal, a line every 30 s elsewhere; after each validation a line on both.

    Shows patches per second, the share of time spent waiting for data, and each iteration's L1 loss
    (times 255, averaged since the last update).
    """

    INTERVAL = 30.0  # seconds

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        training = as_training(pl_module)
        self.total = training.config.optimiser.batches
        self.task = self.bar.add_task("", total=self.total, completed=training.batches_done, text="")
        if trainer.is_global_zero:
            self.bar.start()
        self._restart(pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the sums, and show them every `INTERVAL`."""
        training = as_training(pl_module)
        assert isinstance(outputs, Mapping)
        losses: Tensor = outputs["losses"]
        self.sums[: len(losses)] += losses.nan_to_num()
        self.counts[: len(losses)] += ~losses.isnan()
        done, since = training.batches_done, time.monotonic() - self.since
        self.bar.update(self.task, completed=done, total=training.length)
        if not trainer.is_global_zero or (since < self.INTERVAL and done < self.total):
            return
        batches = done - self.first
        rate = batches * training.config.data.batch / since
        waited = (training.waited - self.waited) / since
        shown = self.counts > 0
        means = " ".join(f"{255 * float(mean):.2f}" for mean in self.sums[shown] / self.counts[shown])
        left = (training.length - done) * since / batches / 60
        text = f"{rate:.1f} patches/s, {100 * waited:.0f} % waiting for data, L1 x 255 per iteration: {means}"
        self.bar.update(self.task, text=text)
        if not self.console.is_terminal:
            say(f"batch {done}/{training.length}, {left:.0f} min left, {text}", self.console)
        self._restart(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the validation's gains."""
        training = as_training(pl_module)
        for name, gains in training.history[-1].gains.items():
            figures = " ".join(f"{gain:+.3f}" for gain in gains)
            say(
                f"validation after batch {training.batches_done}: gain in PSNR on {name} per iteration: "
                f"{figures} dB",
                self.console,
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self.bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Remove the bar."""
        self.bar.stop()

    def _restart(self, pl_module: pl.LightningModule) -> None:
        training = as_training(pl_module)
        self.since, self.waited, self.first = time.monotonic(), training.waited, training.batches_done
        levels = training.config.approach.levels
        longest = max(len(plan) for plan, _ in plans(training.approach, levels))
        self.sums = torch.zeros(longest, device=training.device)
        self.counts = torch.zeros_like(self.sums)


@contextmanager
def quiet() -> Generator[None]:
    """Suppress Lightning's notes, tips and inapplicable warnings inside the block."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _INAPPLICABLE:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


_INAPPLICABLE = (
    ".*does not have many workers.*",  # batches are made on the device, not in workers
    ".*resuming from a checkpoint that ended before the epoch.*",  # `RunData` starts at the right batch
    ".*is smaller than the logging interval.*",  # a short run
    "Grad strides do not match bucket view",  # depthwise weights: both layouts are the same in memory
    ".*isinstance\\(treespec, LeafSpec\\).* is deprecated",  # Lightning's use of PyTorch
)
