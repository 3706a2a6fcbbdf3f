"""A training run on Lightning's trainer."""

import importlib
import signal
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import nn

from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.data.feeding.pack import Pack, build_pack
from mtdeblur.data.feeding.stored import Dataset
from mtdeblur.data.feeding.validation import validation_sets
from mtdeblur.errors import UserError
from mtdeblur.files.atomic import remove_parts, write_atomically
from mtdeblur.files.journal import lock_folder
from mtdeblur.networks.contract import members
from mtdeblur.training.algorithm import IncrementalTemporalTraining, rebuilding
from mtdeblur.training.batches import RunData
from mtdeblur.training.checkpoints import (
    BEST_WEIGHTS,
    CHECKPOINT,
    LAST_WEIGHTS,
    BestWeights,
    CheckpointWriter,
    Interruption,
    TimedSchedule,
    WeightAverage,
    batches_done,
)
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import fingerprint, first_difference, read_config, write_config
from mtdeblur.training.network import build_network
from mtdeblur.training.progress import Progress, is_first_process, quiet, say
from mtdeblur.weights.foreign import is_foreign
from mtdeblur.weights.store import read_header

CONFIG = "config.yaml"


class Outcome(NamedTuple):
    """Result of a run.

    Attributes:
        weights: file of the best weights by validation, or of the last ones before the first validation.
        finished: whether the run has reached its configured number of batches.
        interrupted: the signal that ended the run, or None.
    """

    weights: Path
    finished: bool
    interrupted: int | None = None


def train(
    config: TrainingConfig,
    folder: Path,
    *,
    resume: bool = False,
    rebuild: bool = False,
    max_minutes: float | None = None,
    minutes: float | None = None,
    device: str = "auto",
    devices: int = 1,
    compiled: bool = False,
    callbacks: Iterable[Callback] = (),
) -> Outcome:
    """Train up to the configured number of batches, the time limit or an interruption.

    Args:
        config: of the run.
        folder: the run's folder: `config.yaml`, `last.ckpt` (checkpoint), `best.safetensors` and
            `last.safetensors` (weights), `history.json` (validations) and the curves.
        resume: resume from `last.ckpt` if it exists; the result is as if the run had not been
            interrupted.
        rebuild: without a `last.ckpt`, continue from `network.weights`: at the batch at which this run
            saved them, or at batch 0 if they are another run's. A learning-rate warm-up rebuilds the
            optimiser's state.
        max_minutes: time limit; the run is then validated and writes a checkpoint to resume from.
        minutes: time limit as well; also fits the learning-rate schedule to it, with at most
            `optimiser.batches` batches.
        device: "auto", "cpu", "gpu", "cuda" or "mps".
        devices: number of processes or GPUs that share each batch (distributed data parallel). With
            `data.photos`, let this function start the other processes: it builds the pack before.
        compiled: compile the network's blocks with torch.compile.
        callbacks: Lightning callbacks, in addition to the run's own.

    Raises:
        UserError: if the folder contains a run and `resume` is false, the configuration differs from
            that run's, another process works in the folder, the data is missing, or the device does not
            exist.
    """
    _check_devices(config, device, devices)
    with lock_folder(folder) if is_first_process() else nullcontext(), ExitStack() as opened:
        checkpoint = folder / CHECKPOINT
        resuming = checkpoint.exists()
        if resuming and not resume:
            raise UserError(
                f"{folder} already contains a run; add --resume to continue it, or use another --run folder"
            )
        if resuming:
            _check_unchanged(config, folder)
            if (done := batches_done(checkpoint)) >= config.optimiser.batches:
                say(f"{folder} is finished: {done} of {config.optimiser.batches} batches are done")
                return _outcome(folder, finished=True)
        network = build_network(config)
        if not resuming:
            _report_missing_weights(config, network)
        data = opened.enter_context(closing(_open_data(config, folder, resuming)))
        if is_first_process():
            remove_parts(folder)
            write_atomically(folder / CONFIG, write_config(config).encode())
        sets = list(validation_sets(data, limit=config.validation.photos))
        module = IncrementalTemporalTraining(network, config, sets, compiled=compiled)
        if rebuild and not resuming:
            _continue_from_weights(module)
        with Interruption() as interruption, quiet(), _matrix_precision("high"):
            limits = [limit for limit in (minutes, max_minutes) if limit is not None]
            writer = CheckpointWriter(
                folder, config.checkpoint_minutes, min(limits, default=None), interruption
            )
            # The order matters: BestWeights saves before WeightAverage, which validates the average, restores
            # the weights; CheckpointWriter writes a checkpoint after the average is updated.
            decay = config.optimiser.ema
            average = [] if decay is None else [WeightAverage(decay)]
            schedule = [] if minutes is None else [TimedSchedule(minutes)]
            own: list[Callback] = [Progress(), BestWeights(folder), *average, *schedule, writer]
            trainer = pl.Trainer(
                accelerator=device,
                devices=devices,
                strategy=_strategy(devices, len(module.members)),
                precision="bf16-mixed" if _in_bfloat16(config, module) else "32-true",
                max_epochs=1,
                val_check_interval=config.validation.every,
                check_val_every_n_epoch=None,
                limit_val_batches=1.0 if sets else 0,
                num_sanity_val_steps=0,
                callbacks=[*own, *callbacks],
                logger=_logger(folder),
                benchmark=torch.backends.cudnn.benchmark,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                default_root_dir=folder,
            )
            ckpt_path = checkpoint if resuming else None
            try:
                trainer.fit(module, datamodule=RunData(data, module), ckpt_path=ckpt_path, weights_only=True)
            except SystemExit as error:  # raised by Lightning after a second Ctrl-C
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise KeyboardInterrupt from None
                raise
        if module.finished:
            return _outcome(folder, finished=True)
        if minutes is not None and writer.limit == minutes and not writer.interrupted:
            say(f"trained for {minutes:g} minutes: {module.batches_done} batches")
        else:
            why = "interrupted" if writer.interrupted else "time is up"
            done = f"{module.batches_done} of {config.optimiser.batches} batches are done"
            say(f"{why}: {done}; continue with the same command and --resume")
        number = interruption.number or int(signal.SIGTERM)  # another process may have received it
        return _outcome(folder, finished=False, interrupted=number if writer.interrupted else None)


def _in_bfloat16(config: TrainingConfig, module: IncrementalTemporalTraining) -> bool:
    """Whether to train in bfloat16: if configured, and without visible loss for the network."""
    if config.optimiser.precision != "bfloat16":
        return False
    if all("bfloat16" in member.contract.precisions for member in module.members):
        return True
    say(f"{config.network.name} loses precision in bfloat16: training in float32")
    return False


def _continue_from_weights(module: IncrementalTemporalTraining) -> None:
    """Continue at the batch at which this run saved `network.weights`, with a new optimiser state."""
    config, weights = module.config, module.config.network.weights
    if weights is None:
        say("no checkpoint found and network.weights is not set: starting with random weights")
        return
    notes = {} if is_foreign(weights) else read_header(weights).notes
    same_run, every = notes.get("run") == fingerprint(config), config.validation.every
    # Lightning counts from its first batch: a multiple of `every` keeps the validations in step.
    module.batches_done = int(notes["batches"]) // every * every if same_run else 0
    if module.finished:
        raise UserError(f"{weights} has all batches of this run; raise optimiser.batches to continue")
    module.warm_restart_at = module.batches_done
    say(
        f"no checkpoint found: continuing from {weights} at batch {module.batches_done} of "
        f"{config.optimiser.batches}; learning-rate warm-up over {rebuilding(config.optimiser)} batches"
    )


def _check_devices(config: TrainingConfig, device: str, devices: int) -> None:
    """Raise UserError unless the devices exist and can share a batch."""
    gpus = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    gpus["gpu"] = sum(gpus.values())
    if device not in ("auto", "cpu", *gpus):
        raise UserError(f"--device must be auto, cpu, gpu, cuda or mps, not {device!r}")
    if device in gpus and not gpus[device]:
        raise UserError(f"--device {device}: PyTorch finds none on this machine; use --device cpu")
    if device != "cpu" and gpus["gpu"] and devices > gpus["gpu"]:
        raise UserError(f"--devices {devices}: PyTorch finds only {gpus['gpu']} on this machine")
    if devices > 1 and config.optimiser.adversarial:
        raise UserError("optimiser.adversarial works on one device only: use --devices 1")
    if config.data.batch % devices:
        raise UserError(
            f"data.batch: a batch of {config.data.batch} cannot be split evenly over {devices} devices"
        )


def _report_missing_weights(config: TrainingConfig, network: nn.Module) -> None:
    """Print a line for each file of ImageNet weights that could be used but is not configured."""
    settings = config.network
    backbone = members(network)[0].contract.backbone
    if backbone is not None and settings.backbone is None and settings.weights is None:
        say("the backbone starts with random weights: set network.backbone to use ImageNet weights")
    adversarial = config.optimiser.adversarial
    if adversarial and adversarial.vgg19 is None:
        say("no perceptual loss: set optimiser.adversarial.vgg19 to a file of ImageNet weights to use it")


def _check_unchanged(config: TrainingConfig, folder: Path) -> None:
    """Raise UserError if the configuration differs from that of the run in the folder."""
    key = first_difference(read_config(folder / CONFIG), config)
    if key is not None:
        raise UserError(
            f"{key} differs from the run's {folder / CONFIG}; restore it or use another --run folder"
        )


def _open_data(config: TrainingConfig, folder: Path, resuming: bool) -> TrainingData:
    """Open the training data, and fill the cache of decoded pictures if there is one."""
    if config.data.dataset is not None:
        data = Dataset(config.data.dataset, config.validation.photos)
        lone, exposures = data.without_levels()
        if lone and config.approach.temporal:
            say(
                f"{config.data.dataset}: {lone} of {exposures} exposures have no temporal levels between the "
                "blurred and the sharp picture; all iterations on them aim at TL1"
            )
    else:
        data = Pack(config.data.pack or _pack_photos(config, folder, resuming))
    if is_first_process():
        reported = 0.0
        for missing in Decoded(config.data.cache).store(data):
            if time.monotonic() - reported > Progress.INTERVAL:
                say(f"decoding into {config.data.cache}: {missing} pictures are left")
                reported = time.monotonic()
    return data


def _pack_photos(config: TrainingConfig, folder: Path, resuming: bool) -> Path:
    """The run's pack, built from its photographs at the start of the run."""
    pack = folder / "pack.zip"
    if is_first_process() and not resuming:
        build_pack(pack, photos=config.data.photos)
    return pack


def _strategy(devices: int, members: int) -> str:
    """Lightning's strategy: DDP on several devices; a step may leave some of several members unused."""
    if devices == 1:
        return "auto"
    return "ddp" if members == 1 else "ddp_find_unused_parameters_true"


def _outcome(folder: Path, finished: bool, interrupted: int | None = None) -> Outcome:
    best = folder / BEST_WEIGHTS
    return Outcome(best if best.exists() else folder / LAST_WEIGHTS, finished, interrupted)


def _logger(folder: Path) -> Logger:
    """TensorBoard's curves and pictures, or a CSV file if TensorBoard is not installed."""
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return CSVLogger(folder, name="curves", version="")
    return TensorBoardLogger(folder, name="curves", version="", default_hp_metric=False)


@contextmanager
def _matrix_precision(name: str) -> Generator[None]:
    """Allow TF32 for float32 matrix products inside the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
