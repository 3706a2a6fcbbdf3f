"""A training run: its folder, its checkpoints and its progress, on Lightning's trainer."""

import importlib.util
import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from mtdeblur.data.ladders import LadderBatch, LadderStream, validation_sets
from mtdeblur.data.pack import Pack, build_pack
from mtdeblur.errors import UserError
from mtdeblur.networks.registry import create_network
from mtdeblur.training.algorithm import IncrementalTemporalTraining
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.progress import Progress
from mtdeblur.weights.store import load_network, save_network


def train(
    config: TrainingConfig,
    folder: Path,
    *,
    resume: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    devices: int = 1,
    compiled: bool = False,
) -> Path:
    """Train until the configured number of batches is done, the time is up, or somebody interrupts.

    Args:
        config: of the run.
        folder: where everything of the run goes: `config.yaml`, `last.ckpt` (resumable), `best.safetensors` and
            `last.safetensors` (weights), and the curves.
        resume: go on from `last.ckpt` where there is one; the run is then the same as one never interrupted.
        max_minutes: stop cleanly, with a resumable checkpoint, when this much time has passed.
        device: "auto", "cpu" or "gpu".
        devices: how many processes or GPUs share each batch (distributed data parallel).
        compiled: let torch.compile fuse the network's operations.

    Returns:
        The best weights so far by validation.

    Raises:
        UserError: if the folder holds a run and `resume` was not asked for, or the data is missing.
    """
    checkpoint = folder / "last.ckpt"
    if checkpoint.exists() and not resume:
        raise UserError(f"{folder} holds a run already; add --resume to go on with it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    torch.set_float32_matmul_precision("high")
    pack = Pack(_pack_path(config, folder))
    network = build_network(config)
    if compiled:
        network.compile()
    levels, photos = config.approach.levels, config.validation.photos
    sets = list(validation_sets(pack, levels, limit=photos)) if photos or pack.valid_pairs else []
    module = IncrementalTemporalTraining(network, config, sets)
    # The average stands in the weights' place while validating, and the best are kept then: so before it is
    # undone; a checkpoint is written after the average has taken in the batch.
    average = [] if config.optimiser.ema is None else [EMAWeightAveraging(decay=config.optimiser.ema)]
    keeper = Keeper(folder, config.checkpoint_minutes, max_minutes)
    callbacks: list[Callback] = [Progress(), BestWeights(folder), *average, keeper]
    trainer = pl.Trainer(
        accelerator=device,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if config.optimiser.precision == "bfloat16" else "32-true",
        max_epochs=1,
        val_check_interval=min(config.validation.every, config.optimiser.batches),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=_logger(folder),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    found = str(checkpoint) if checkpoint.exists() else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*num_workers.*")  # batches are made on the device, not in workers
        warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before the epoch.*")
        trainer.fit(module, datamodule=_Data(config, pack, module), ckpt_path=found, weights_only=False)
    return folder / "best.safetensors"


class _Data(pl.LightningDataModule):
    """Hands the run's batches to the trainer, from the one that the run stands at."""

    def __init__(self, config: TrainingConfig, pack: Pack, module: IncrementalTemporalTraining) -> None:
        super().__init__()
        self.config, self.pack, self.module = config, pack, module

    def train_dataloader(self) -> "_Batches":
        """The batches still to come; each process makes its own part of them."""
        data = self.config.data
        assert self.trainer is not None
        stream = LadderStream(
            self.pack,
            data.exposures(),
            levels=self.config.approach.levels,
            patch=data.patch,
            batch=data.batch,
            reuse=data.reuse,
            pool=data.pool,
            seed=self.config.seed,
            device=self.module.device,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        return _Batches(stream, self.module, self.config.optimiser.batches)

    def val_dataloader(self) -> DataLoader[int]:
        """Numbers of the validation sets."""
        return DataLoader(range(len(self.module.sets)), batch_size=None)  # pyright: ignore[reportArgumentType]


class _Batches:
    """The run's batches in order, from the first that is not done; measures what making them takes."""

    def __init__(self, stream: LadderStream, module: IncrementalTemporalTraining, total: int) -> None:
        self.stream, self.module, self.total = stream, module, total

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[LadderBatch]:
        for number in range(self.module.batches_done, self.total):
            started = time.monotonic()
            batch = self.stream.batch(number)
            if batch.blurred.is_cuda:
                torch.cuda.synchronize()
            self.module.waited += time.monotonic() - started
            yield batch


def build_network(config: TrainingConfig) -> nn.Module:
    """The network that a run starts from.

    Raises:
        UserError: if the configured network or option does not exist, or the weights are another network's.
    """
    torch.manual_seed(config.seed)
    try:
        network = create_network(config.network.name, **config.network.options)
    except ValueError as error:
        raise UserError(f"network: {error}") from error
    if config.network.weights is not None:
        given = load_network(config.network.weights)
        try:
            network.load_state_dict(given.state_dict())
        except RuntimeError as error:
            raise UserError(
                f"network.weights: {config.network.weights} holds another network than {config.network.name} "
                f"with these options"
            ) from error
    elif config.optimiser.zero_last:
        last = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
        tail = getattr(network, "tail", last[-1])
        nn.init.zeros_(tail.weight)
        nn.init.zeros_(tail.bias)
    return network.to(memory_format=torch.channels_last)


class Keeper(Callback):
    """Keeps a run safe: regular checkpoints, the best weights, and a clean end when time is up.

    A checkpoint is written beside the old one and put in its place, so that a kill at any moment leaves one that
    resumes.

    Args:
        folder: of the run.
        every: minutes between two checkpoints.
        limit: minutes after which the run ends cleanly, or None.
    """

    def __init__(self, folder: Path, every: float, limit: float | None) -> None:
        self.folder, self.every, self.limit = folder, every, limit
        self.stopped = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining) -> None:
        """Start the clocks, and end cleanly on the usual signals."""
        self.started = self.saved = self.counted = time.monotonic()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        self.stopped = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint when it is time, and end the run when its time is up."""
        now = time.monotonic()
        late = self.limit is not None and now - self.started >= 60 * self.limit
        stop = trainer.strategy.reduce_boolean_decision(self.stopped or late, all=False)
        if stop or pl_module.finished or trainer.strategy.reduce_boolean_decision(now - self.saved >= 60 * self.every, all=False):
            self._save(trainer, pl_module)
        if stop:
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining) -> None:
        now = time.monotonic()
        pl_module.minutes += (now - self.counted) / 60
        self.counted = self.saved = now
        part = self.folder / "last.ckpt.part"
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            os.replace(part, self.folder / "last.ckpt")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining) -> None:
        """Keep the last validation as well when the run ends with it."""
        if trainer.should_stop or pl_module.finished:
            self._save(trainer, pl_module)


class BestWeights(Callback):
    """Keeps the weights of the last and of the best validation, and the history of all validations.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: IncrementalTemporalTraining) -> None:
        """Keep them; their moving average stands in their place now, where the run has one."""
        if not trainer.is_global_zero:
            return
        history = pl_module.history
        notes = {"batches": str(pl_module.batches_done), "gains": json.dumps(history[-1].gains)}
        save_network(self.folder / "last.safetensors", pl_module.network, notes=notes)
        if score(history[-1].gains) >= max(score(row.gains) for row in history):
            save_network(self.folder / "best.safetensors", pl_module.network, notes=notes)
        rows = [row._asdict() for row in history]
        (self.folder / "history.json").write_text(json.dumps(rows, indent=1))


def score(gains: dict[str, list[float]]) -> float:
    """How good weights are: gain in PSNR over the sets, on average, at the iteration where it is highest.

    Args:
        gains: validation set to gain in dB at each iteration; 0 where nothing was validated.
    """
    return max((sum(row) / len(row) for row in zip(*gains.values(), strict=True)), default=0.0)


def _pack_path(config: TrainingConfig, folder: Path) -> Path:
    """The pack of a run; made from the photographs in the run's folder where no pack is named."""
    if config.data.pack is not None:
        return config.data.pack
    pack = folder / "pack.zip"
    if not pack.exists():
        build_pack(pack, photos=config.data.photos)
    return pack


def _logger(folder: Path) -> Logger:
    """TensorBoard's curves and pictures, or a plain table where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return CSVLogger(folder, name="curves", version="")
    return TensorBoardLogger(folder, name="curves", version="", default_hp_metric=False)
