"""What a run tells the person who watches it."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mtdeblur.training.algorithm import IncrementalTemporalTraining


class Progress(pl.Callback):
    """A bar on a terminal, a line every half minute elsewhere; after each validation a line on both.

    It shows patches a second, the share of the time spent waiting for data, and each iteration's L1 loss (times
    255, averaged over the lines' interval).
    """

    INTERVAL = 30.0

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining) -> None:
        """Show the bar."""
        self.total = pl_module.config.optimiser.batches
        self.task = self.bar.add_task("", total=self.total, completed=pl_module.batches_done, text="")
        if trainer.is_global_zero:
            self.bar.start()
        self._restart(pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: IncrementalTemporalTraining,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the batch."""
        losses = outputs["losses"].cpu()
        self.sums[: len(losses)] += losses
        self.counts[: len(losses)] += 1
        done, since = pl_module.batches_done, time.monotonic() - self.since
        if not trainer.is_global_zero or (since < self.INTERVAL and done < self.total):
            self.bar.update(self.task, completed=done)
            return
        batches = done - self.first
        rate = batches * pl_module.config.data.batch / since
        waited = (pl_module.waited - self.waited) / since
        means = " ".join(f"{255 * value:.2f}" for value in (self.sums / self.counts)[self.counts > 0].tolist())
        left = (self.total - done) * since / batches / 60
        text = f"{rate:.1f} patches/s, {100 * waited:.0f} % waiting for data, L1 x 255 per iteration: {means}"
        self.bar.update(self.task, completed=done, text=text)
        if not self.console.is_terminal:
            self.console.print(f"batch {done}/{self.total}, {left:.0f} min left, {text}", soft_wrap=True)
        self._restart(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining) -> None:
        """Say what the validation found."""
        if trainer.is_global_zero:
            for name, gains in pl_module.history[-1].gains.items():
                figures = " ".join(f"{gain:+.3f}" for gain in gains)
                self.console.print(
                    f"validation after batch {pl_module.batches_done}: gain in PSNR on {name} "
                    f"per iteration: {figures} dB",
                    soft_wrap=True,
                )

    def on_train_end(self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining) -> None:
        """Take the bar away."""
        self.bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining, exception: BaseException
    ) -> None:
        """Take the bar away."""
        self.bar.stop()

    def _restart(self, pl_module: IncrementalTemporalTraining) -> None:
        self.since, self.waited, self.first = time.monotonic(), pl_module.waited, pl_module.batches_done
        self.sums, self.counts = torch.zeros(64), torch.zeros(64)
