"""Incremental temporal training, Section 4.1 of the paper."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from mtdeblur.approaches import Approach, Plan, at_level_one
from mtdeblur.data.feeding.stream import LadderBatch
from mtdeblur.data.feeding.validation import ValidationSet
from mtdeblur.metrics.quality import psnr
from mtdeblur.networks.blocks import repeated_blocks
from mtdeblur.networks.contract import ProgressiveNetwork, State, members, same_state
from mtdeblur.networks.unroll import Step, carry_out, resize, unroll
from mtdeblur.training.adversarial import build_adversarial
from mtdeblur.training.config import OptimiserConfig, TrainingConfig
from mtdeblur.training.losses import l1, objective
from mtdeblur.training.network import build_approach

LOGGED = 50
"""Batches between two points of the logged curves; reading a value waits for the device."""

SAMPLE = 256  # maximum height and width of the logged sample pictures


class Validation(NamedTuple):
    """Result of one validation.

    Attributes:
        batches: number of batches trained on.
        minutes: training time up to the last checkpoint.
        gains: validation set to gain in PSNR over the blurred input, in dB, after each iteration.
    """

    batches: int
    minutes: float
    gains: dict[str, list[float]]


class IncrementalTemporalTraining(pl.LightningModule):
    """Trains a progressive network one iteration at a time, for the goals of any approach.

    By default each iteration has its own L1 loss, backward pass and optimiser step, and the estimate and
    the state are detached between iterations: memory does not grow with their number. The goals of a
    plan can change this, see `mtdeblur.approaches.Goal`.

    Attributes:
        batches_done: number of batches trained on.
        length: of the schedule in batches: as configured, or as many as fit into the given minutes.
        minutes: training time up to the last checkpoint.
        waited: seconds spent waiting for data since the process started.
        history: all validations so far.
        warm_restart_at: the batch at which training continued without the optimiser's state, with a warm-up
            of the learning rate; None if the state was never lost.

    Args:
        network: the network to train, from the registry.
        config: of the run.
        sets: validation sets.
        compiled: compile the network's repeated blocks with torch.compile, for training only.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        sets: list[ValidationSet],
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.adversarial = build_adversarial(config)
        self.config = config
        self.approach = build_approach(config, network)
        self.sets = sets
        self.batches_done = 0
        self.length = config.optimiser.batches
        self.minutes = 0.0
        self.waited = 0.0
        self.history: list[Validation] = []
        self.warm_restart_at: int | None = None
        self._compiled = compiled

    @property
    def members(self) -> Sequence[ProgressiveNetwork]:
        """The networks that goals refer to by number."""
        return members(self.network)

    def on_train_start(self) -> None:
        """Compile the network's repeated blocks if `compiled`."""
        for block in repeated_blocks(self.network) if self._compiled else ():
            block.compile(dynamic=False)  # pyright: ignore[reportUnknownMemberType]

    def on_validation_start(self) -> None:
        """Disable the compiled blocks: validation pictures have many sizes."""
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self) -> None:
        """Enable the compiled blocks for training."""
        torch.compiler.set_stance("default")

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of a validation."""
        return self.approach.steps(self.config.validation.iterations)

    @property
    def own_steps(self) -> tuple[Step, ...]:
        """The steps of a validation that the approach trains."""
        return self.approach.trained_steps(self.config.validation.iterations)

    @property
    def finished(self) -> bool:
        """Whether training has reached the configured number of batches."""
        return self.batches_done >= self.config.optimiser.batches

    def training_step(self, batch: LadderBatch, batch_idx: int) -> dict[str, Tensor]:
        """Train on one batch as in Section 4.1: run its plan, with an optimiser step at each cut.

        Returns:
            `losses`: (iterations,) float, each iteration's L1 loss; nan for untrained iterations.
        """
        optimiser = cast("LightningOptimizer", self.optimizers())
        phase, rate = self.schedule(batch.number)
        for group in optimiser.param_groups:
            group["lr"] = rate
        plan = plan_of(self.approach, self.config.seed, batch, phase)
        estimate: Tensor = batch.blurred
        state: State = None
        losses: dict[int, Tensor] = {}
        objectives: list[Tensor] = []
        for iteration, goal in enumerate(plan):  # Section 4.1: each iteration is trained on its own
            network = self.members[goal.network]
            with torch.set_grad_enabled(goal.has_gradient):
                estimate, state = carry_out(network, goal.scale, batch.blurred, estimate, state)
            if goal.trained:
                size, corners = estimate.shape[-2:], network.contract.corners
                sharp = resize(batch.ladder[goal.level], *size, corners=corners)
                losses[iteration] = l1(estimate, sharp).detach().mean()
                objectives.append(self._objective(estimate, sharp, rate))
            if goal.cut:
                if objectives:
                    self._optimise(optimiser, torch.stack(objectives).sum())
                objectives = []
                estimate, state = detach(estimate, state)
        self.batches_done = batch.number + 1
        self._log(batch.number, rate, losses)
        missing = torch.full_like(estimate[0, 0, 0, 0], torch.nan, dtype=torch.float32)
        return {"losses": torch.stack([losses.get(iteration, missing) for iteration in range(len(plan))])}

    def schedule(self, batch: int) -> tuple[int, float]:
        """The approach's phase and the learning rate at a batch.

        Args:
            batch: its number, from 0.
        """
        starts = [math.ceil(start * self.length) for start in self.approach.starts]
        phase = bisect_right(starts, batch) - 1
        first, end = 0, self.length
        if self.approach.restarts:
            first, end = starts[phase], (*starts, self.length)[phase + 1]
        rate = learning_rate(self.config.optimiser, batch - first, end - first)
        return phase, rate * self._warmup_factor(batch)

    def _objective(self, estimate: Tensor, sharp: Tensor, rate: float) -> Tensor:
        if self.adversarial is None:
            return objective(estimate, sharp, self.config.optimiser)
        return self.adversarial(estimate, sharp, rate)

    def _log(self, batch: int, rate: float, losses: Mapping[int, Tensor]) -> None:
        if batch % LOGGED == 0:
            curves = {f"loss/iteration{number + 1}": float(loss) for number, loss in losses.items()}
            for logger in self.loggers:
                logger.log_metrics({"learning_rate": rate, **curves}, step=batch)

    def _optimise(self, optimiser: LightningOptimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        self.manual_backward(loss)
        if self.config.optimiser.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.clip)
        optimiser.step()

    def _warmup_factor(self, batch: int) -> float:
        """Factor of the learning rate, rising to 1 while a lost optimiser state is rebuilt."""
        if self.warm_restart_at is None:
            return 1.0
        return min(1.0, (batch + 1 - self.warm_restart_at) / rebuilding(self.config.optimiser))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Fused Adam or AdamW; `training_step` sets the learning rate."""
        settings = self.config.optimiser
        kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
        return kind(
            self.network.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def on_validation_epoch_start(self) -> None:
        """Start a new row of the history."""
        self.history.append(Validation(self.batches_done, self.minutes, {}))

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Measure the gain in PSNR after each iteration on the validation set numbered `batch`."""
        validation_set = self.sets[batch]
        totals = np.zeros(len(self.steps) + 1)
        for number, (blurred, sharp) in enumerate(validation_set.pairs):
            blurred, sharp = blurred.to(self.device), sharp.to(self.device)
            estimates = unroll(self.members, blurred, self.steps)
            size, corners = blurred.shape[-2:], self.members[0].contract.corners
            images = [blurred, *(resize(estimate, *size, corners=corners) for estimate in estimates)]
            totals += [float(psnr(stored(image), stored(sharp))) for image in images]
            if number == 0:
                self._log_images(validation_set.name, images)
        means = [float(total) / len(validation_set.pairs) for total in totals]
        self.history[-1].gains[validation_set.name] = [value - means[0] for value in means[1:]]

    def on_validation_epoch_end(self) -> None:
        """Log the gains; every process has computed the same ones."""
        for name, gains in self.history[-1].gains.items():
            curves = {f"gain/{name}/iteration{iteration}": gain for iteration, gain in enumerate(gains, 1)}
            for logger in self.loggers:
                logger.log_metrics(curves, step=self.batches_done)

    def _log_images(self, name: str, images: list[Tensor]) -> None:
        """Log the upper left corner of a picture, blurred and after each iteration."""
        if not isinstance(self.logger, TensorBoardLogger) or self.global_rank != 0:
            return
        corners = [image[0, :, :SAMPLE, :SAMPLE].float().clamp(0, 1) for image in images]
        board = cast("Any", self.logger).experiment
        board.add_image(f"iterations/{name}", torch.cat(corners, dim=-1), self.batches_done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the position in the data and the history, which Lightning does not save."""
        rows = [tuple(row) for row in self.history]
        checkpoint["run"] = {
            "batches_done": self.batches_done,
            "minutes": self.minutes,
            "history": rows,
            "warm_restart_at": self.warm_restart_at,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` added."""
        run = checkpoint["run"]
        self.batches_done, self.minutes = run["batches_done"], run["minutes"]
        self.history = [Validation(*row) for row in run["history"]]
        self.warm_restart_at = run.get("warm_restart_at")
        # A finished run can be lengthened: its last batch is then no longer the last.
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


def as_training(module: pl.LightningModule) -> IncrementalTemporalTraining:
    """A callback's module with its actual type."""
    assert isinstance(module, IncrementalTemporalTraining)
    return module


class Numbered(Protocol):
    """What a batch's plan depends on, see `LadderBatch`."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def level(self) -> int: ...  # noqa: D102
    @property
    def has_pairs(self) -> bool: ...  # noqa: D102


def plan_of(approach: Approach, seed: int, batch: Numbered, phase: int = 0) -> Plan:
    """The goals of a batch; pairs have no levels between, so all their goals are TL1."""
    random = np.random.default_rng((seed, batch.number, 19))
    plan = approach.plan(batch.level, lambda n: int(random.integers(n)), phase)
    return at_level_one(plan) if batch.has_pairs else plan


def detach(estimate: Tensor, state: State) -> tuple[Tensor, State]:
    """Cut the graph between two iterations: each is trained independently (Section 4.1)."""
    return estimate.detach(), same_state(state, (part.detach() for part in state or ()))


def learning_rate(settings: OptimiserConfig, batch: int, batches: int) -> float:
    """Learning-rate schedule with a linear warm-up.

    With rate r, final rate f, warm-up w and length T in batches, `halve` gives r / 2^floor(batch /
    halve_every), and `cosine` after the warm-up f + (r - f) (1 + cos(pi (batch - w) / (T - w))) / 2.

    Args:
        settings: of the optimiser.
        batch: number of the batch, from 0.
        batches: T.
    """
    rise = min(1.0, (batch + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "halve":
        return settings.learning_rate * rise * 0.5 ** (batch // settings.halve_every)
    done = max(0, batch - settings.warmup) / max(1, batches - settings.warmup)
    fall = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return rise * (settings.final + (settings.learning_rate - settings.final) * fall)


def rebuilding(settings: OptimiserConfig) -> int:
    """Warm-up batches after the optimiser's state was lost: 1 / (1 - beta2), its longest memory."""
    return round(1 / (1 - settings.betas[1]))


def stored(image: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1] to uint8, as a picture is stored."""
    return image.float().clamp(0, 1).mul(255).round().byte()
