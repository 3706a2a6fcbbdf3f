"""Callbacks for checkpoints, the best weights, the history and a clean stop."""

import json
import pickle
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from torch import Tensor

from mtdeblur.errors import UserError, one_line
from mtdeblur.files.atomic import atomic_path, write_atomically
from mtdeblur.networks.unroll import Step
from mtdeblur.training.algorithm import IncrementalTemporalTraining, as_training
from mtdeblur.training.config_file import fingerprint
from mtdeblur.training.progress import say
from mtdeblur.weights.store import save_network

CHECKPOINT = "last.ckpt"
LAST_WEIGHTS = "last.safetensors"
BEST_WEIGHTS = "best.safetensors"


class Interruption:
    """Handles the first SIGINT or SIGTERM as a request to stop; a second one has its usual effect.

    As a context manager it restores the signal handlers. Outside the main thread, which alone may handle
    signals, it does nothing.

    Attributes:
        number: the signal received, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def watch(self) -> None:
        """Install the signal handlers."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()
        say("stopping after this batch; interrupt again to stop at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class DivergedError(UserError):
    """Training diverged: the weights are not finite."""


class CheckpointWriter(Callback):
    """Writes checkpoints regularly, and stops cleanly at the time limit or on an interruption.

    A checkpoint replaces the previous one atomically, so that a run killed at any moment can be resumed.
    If a validation follows the batch, the checkpoint is written after it; otherwise a resumed run would
    skip that validation. A run that reaches its time limit is validated before it ends; an interrupted
    one is not.

    Args:
        folder: of the run.
        every: minutes between two checkpoints.
        limit: minutes after which the run ends cleanly, or None.
        interruption: handles signals.

    Attributes:
        interrupted: whether a signal to this or another process of the run ended it.
    """

    def __init__(self, folder: Path, every: float, limit: float | None, interruption: Interruption) -> None:
        self.folder, self.every, self.limit, self.interruption = folder, every, limit, interruption
        self.interrupted = False
        self.saved_batches: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks, and replace Lightning's signal handlers."""
        self.started = self.saved = self.counted = time.monotonic()
        self.saved_batches = as_training(pl_module).batches_done
        self.interruption.watch()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a checkpoint when it is due, and stop the run when its time is up."""
        training = as_training(pl_module)
        now = time.monotonic()

        def any_process(condition: bool) -> bool:
            return trainer.strategy.reduce_boolean_decision(condition, all=False)

        due = any_process(now - self.saved >= 60 * self.every)
        expired = any_process(self.limit is not None and now - self.started >= 60 * self.limit)
        self.interrupted = any_process(self.interruption.number is not None)
        trainer.should_stop = expired or self.interrupted or training.finished
        regular = training.batches_done % training.config.validation.every == 0
        if self.interrupted and not training.finished and not regular:
            trainer.limit_val_batches = 0
        validates = trainer.enable_validation and (regular or trainer.should_stop)
        if not validates and (due or trainer.should_stop):
            self._save(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a checkpoint that includes the validation."""
        self._save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last weights, also as the best ones if there are no validation sets."""
        if not trainer.is_global_zero:
            return
        training = as_training(pl_module)
        notes, steps = _notes(training), training.own_steps
        if training.history:
            steps = training.steps[: score(training.history[-1].gains, training.steps)[1]]
        for name in (LAST_WEIGHTS,) if training.sets else (LAST_WEIGHTS, BEST_WEIGHTS):
            save_network(self.folder / name, training.network, notes=notes, iterations=steps)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save a checkpoint before a failed run ends."""
        training = as_training(pl_module)
        single = trainer.world_size == 1  # saving would wait for the other processes forever
        progressed = self.saved_batches is not None and self.saved_batches < training.batches_done
        failed = isinstance(exception, Exception) and not isinstance(exception, DivergedError)
        if single and progressed and failed:  # a second interruption ends the run at once
            self._save(trainer, pl_module)
            say(f"saved a checkpoint at batch {training.batches_done} in {self.folder}")

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now, training = time.monotonic(), as_training(pl_module)
        if not all(bool(part.isfinite().all()) for part in training.network.parameters()):
            raise DivergedError(
                f"the weights are not finite after batch {training.batches_done}: lower the learning rate; "
                f"the previous files are kept in {self.folder}"
            )
        training.minutes += (now - self.counted) / 60
        self.counted = self.saved = now
        self.saved_batches = training.batches_done
        target = self.folder / CHECKPOINT
        try:
            with atomic_path(target) if trainer.is_global_zero else nullcontext(target) as part:
                trainer.save_checkpoint(
                    part, weights_only=False
                )  # called by every process; the first one writes
        except RuntimeError as error:  # raised by PyTorch if the disk is full
            raise UserError(f"cannot write {target}: {one_line(error)}") from error


class TimedSchedule(Callback):
    """Fits the length of the learning-rate schedule to a time limit, from the measured speed.

    Args:
        minutes: until the end of the schedule.
    """

    EVERY = 5.0  # seconds between two estimates
    STARTING = 10  # first batches, not measured because they also compile

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.marked = time.monotonic()
        self.done = as_training(pl_module).batches_done

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the estimated length of the run."""
        now, training = time.monotonic(), as_training(pl_module)
        if batch_idx < self.STARTING:
            self.marked, self.done = now, training.batches_done
        if now - self.marked < self.EVERY:
            return
        rate = (training.batches_done - self.done) / (now - self.marked)
        left = max(0.0, self.started + 60 * self.minutes - now)
        training.length = min(training.batches_done + round(rate * left), training.config.optimiser.batches)
        self.marked, self.done = now, training.batches_done


class WeightAverage(EMAWeightAveraging):
    """Exponential moving average of the weights, stored on the device.

    Lightning's default is the CPU, which would copy all weights at every batch. The counter of batches
    stays on the CPU, so that no value is read back from the device.

    Args:
        decay: per batch.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the average."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()


class BestWeights(Callback):
    """Saves the weights of the best validation, and the history of all validations.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights, at this point their moving average if there is one, and the history."""
        if not trainer.is_global_zero:
            return
        training = as_training(pl_module)
        history = training.history
        notes = {**_notes(training), "gains": json.dumps(history[-1].gains)}
        gain, iterations = score(history[-1].gains, training.steps)
        steps = training.steps[:iterations]
        if gain >= max(score(row.gains, training.steps)[0] for row in history):
            save_network(self.folder / BEST_WEIGHTS, training.network, notes=notes, iterations=steps)
        save_network(self.folder / LAST_WEIGHTS, training.network, notes=notes, iterations=steps)
        rows = [row._asdict() for row in history]
        write_atomically(self.folder / "history.json", json.dumps(rows, indent=1).encode())


def _notes(training: IncrementalTemporalTraining) -> dict[str, str]:
    """Metadata of saved weights: the batch and the run's fingerprint."""
    return {"batches": str(training.batches_done), "run": fingerprint(training.config)}


def score(gains: dict[str, list[float]], steps: Sequence[Step]) -> tuple[float, int]:
    """Score of a validation: the highest gain in PSNR of any iteration, averaged over the sets.

    Args:
        gains: for each validation set the gain in dB at each iteration; at least one set.
        steps: the iterations; only those at full resolution count.

    Returns:
        The gain in dB, and its iteration, from 1.
    """
    means = [sum(row) / len(row) for row in zip(*gains.values(), strict=True)]
    full = [index for index, step in enumerate(steps) if step.scale == 1]
    best = max(full, key=means.__getitem__)
    return means[best], best + 1


def batches_done(checkpoint: Path) -> int:
    """Number of batches that a checkpoint's run was trained on.

    Raises:
        UserError: if the file is damaged, or not a checkpoint of a run.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return int(content["run"]["batches_done"])
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, pickle.UnpicklingError):
        raise UserError(
            f"{checkpoint} is damaged, or not a checkpoint of a run; remove it to train from the start"
        ) from None
