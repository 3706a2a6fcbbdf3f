"""Incremental temporal training, Section 4.1 of the paper."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from mtdeblur.approaches import at_level_one
from mtdeblur.data.feeding.stream import LadderBatch
from mtdeblur.data.feeding.validation import ValidationSet
from mtdeblur.metrics.arrays import psnr
from mtdeblur.networks.blocks import repeated_blocks
from mtdeblur.networks.contract import ProgressiveNetwork, State, members, same_state
from mtdeblur.networks.unroll import Step, carry_out, resize, unroll
from mtdeblur.training.adversarial import build_adversarial
from mtdeblur.training.config import OptimiserConfig, TrainingConfig
from mtdeblur.training.losses import l1, objective
from mtdeblur.training.network import build_approach

LOGGED = 50
"""Batches from one point of the curves to the next: a value that is logged waits for the device."""

SAMPLE = 256  # height and width of the sample pictures beside the curves, at most


class Validation(NamedTuple):
    """One validation.

    Attributes:
        batches: how many batches had been trained on.
        minutes: how long the run had trained at its last checkpoint.
        gains: validation set to gain in PSNR over the blurred input, in dB, after each iteration.
    """

    batches: int
    minutes: float
    gains: dict[str, list[float]]


class IncrementalTemporalTraining(pl.LightningModule):
    """Trains a progressive network one iteration at a time, over the goals of any approach.

    Every iteration has its own L1 loss, backward pass and optimiser step; the estimate and the state that it
    hands on are detached. So memory does not grow with the number of iterations. Where an approach differs
    from this, the goals of its plan say so, see `mtdeblur.approaches.Goal`.

    Attributes:
        batches_done: how many batches the network has been trained on.
        length: of the schedule in batches: the configured one, or what fits into the minutes given.
        minutes: how long the run had trained at its last checkpoint.
        waited: seconds spent waiting for data since the process began.
        history: all validations so far.
        rebuilt_at: the batch at which the run went on without its optimiser's state, which is built up again
            while the learning rate rises from zero; None where it always had it.

    Args:
        network: what is trained, one of the registry.
        config: of the run.
        sets: what is validated on.
        compiled: let torch.compile fuse the operations of the network's repeated blocks, for training.
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
        self.rebuilt_at: int | None = None
        self._compiled = compiled

    @property
    def members(self) -> Sequence[ProgressiveNetwork]:
        """The networks that goals name by number."""
        return members(self.network)

    def on_train_start(self) -> None:
        """Compile the network's repeated blocks where that is wanted."""
        for block in repeated_blocks(self.network) if self._compiled else ():
            block.compile(dynamic=False)  # pyright: ignore[reportUnknownMemberType]

    def on_validation_start(self) -> None:
        """Validate without compiled blocks: its pictures have many sizes."""
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self) -> None:
        """Train with them again."""
        torch.compiler.set_stance("default")

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that validation carries out."""
        return self.approach.steps(self.config.validation.iterations)

    @property
    def own_steps(self) -> tuple[Step, ...]:
        """Those of them that the approach trains for."""
        return self.approach.trained_steps(self.config.validation.iterations)

    @property
    def finished(self) -> bool:
        """Whether the configured number of batches is done."""
        return self.batches_done >= self.config.optimiser.batches

    def training_step(self, batch: LadderBatch, batch_idx: int) -> dict[str, Tensor]:
        """Section 4.1: carry out the plan of one batch, with an optimiser step an iteration.

        Returns:
            `losses`: (iterations,) float, each iteration's L1 loss; nan for those that are not trained.
        """
        optimiser = cast("LightningOptimizer", self.optimizers())
        phase, rate = self.schedule(batch.number)
        for group in optimiser.param_groups:
            group["lr"] = rate
        random = np.random.default_rng((self.config.seed, batch.number, 19))
        plan = self.approach.plan(batch.level, lambda n: int(random.integers(n)), phase)
        plan = at_level_one(plan) if batch.has_pairs else plan
        estimate: Tensor = batch.blurred
        state: State = None
        losses: dict[int, Tensor] = {}
        objectives: list[Tensor] = []
        for iteration, goal in enumerate(plan):
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
                    self._learn(optimiser, torch.stack(objectives).sum())
                objectives = []
                estimate, state = detach(estimate, state)
        self.batches_done = batch.number + 1
        self._log(batch.number, rate, losses)
        missing = torch.full_like(estimate[0, 0, 0, 0], torch.nan, dtype=torch.float32)
        return {"losses": torch.stack([losses.get(iteration, missing) for iteration in range(len(plan))])}

    def schedule(self, batch: int) -> tuple[int, float]:
        """The phase of the approach in which a batch is, and its learning rate.

        Args:
            batch: its number, from 0.
        """
        begins = [math.ceil(start * self.length) for start in self.approach.starts]
        phase = bisect_right(begins, batch) - 1
        first, end = 0, self.length
        if self.approach.restarts:
            first, end = begins[phase], (*begins, self.length)[phase + 1]
        rate = learning_rate(self.config.optimiser, batch - first, end - first)
        return phase, rate * self._warmth(batch)

    def _objective(self, estimate: Tensor, sharp: Tensor, rate: float) -> Tensor:
        if self.adversarial is None:
            return objective(estimate, sharp, self.config.optimiser)
        return self.adversarial(estimate, sharp, rate)

    def _log(self, batch: int, rate: float, losses: Mapping[int, Tensor]) -> None:
        if batch % LOGGED == 0:
            curves = {f"loss/iteration{number + 1}": float(loss) for number, loss in losses.items()}
            for logger in self.loggers:
                logger.log_metrics({"learning_rate": rate, **curves}, step=batch)

    def _learn(self, optimiser: LightningOptimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        self.manual_backward(loss)
        if self.config.optimiser.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.clip)
        optimiser.step()

    def _warmth(self, batch: int) -> float:
        """From 0 to 1, a share of the learning rate, while the optimiser's state is built up again."""
        if self.rebuilt_at is None:
            return 1.0
        return min(1.0, (batch + 1 - self.rebuilt_at) / rebuilding(self.config.optimiser))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW in its fused form, which reads the weights once; the rate is set batch by batch."""
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
        """Begin a new row of the history."""
        self.history.append(Validation(self.batches_done, self.minutes, {}))

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Measure the network on the validation set of that number, iteration by iteration."""
        chosen = self.sets[batch]
        totals = np.zeros(len(self.steps) + 1)
        for number, (blurred, sharp) in enumerate(chosen.pairs):
            blurred, sharp = blurred.to(self.device), sharp.to(self.device)
            estimates = unroll(self.members, blurred, self.steps)
            size, corners = blurred.shape[-2:], self.members[0].contract.corners
            images = [blurred, *(resize(estimate, *size, corners=corners) for estimate in estimates)]
            totals += [psnr(_pixels(image), _pixels(sharp)) for image in images]
            if number == 0:
                self._show(chosen.name, images)
        means = [float(total) / len(chosen.pairs) for total in totals]
        self.history[-1].gains[chosen.name] = [value - means[0] for value in means[1:]]

    def on_validation_epoch_end(self) -> None:
        """Log the gains, which all processes have found alike."""
        for name, gains in self.history[-1].gains.items():
            curves = {f"gain/{name}/iteration{iteration}": gain for iteration, gain in enumerate(gains, 1)}
            for logger in self.loggers:
                logger.log_metrics(curves, step=self.batches_done)

    def _show(self, name: str, images: list[Tensor]) -> None:
        """Put a picture's upper left corner beside the curves, blurred and after every iteration."""
        if not isinstance(self.logger, TensorBoardLogger) or self.global_rank != 0:
            return
        corners = [image[0, :, :SAMPLE, :SAMPLE].float().clamp(0, 1) for image in images]
        board = cast("Any", self.logger).experiment
        board.add_image(f"iterations/{name}", torch.cat(corners, dim=-1), self.batches_done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what Lightning does not know: where in the data the run is, and its history."""
        rows = [tuple(row) for row in self.history]
        checkpoint["run"] = {
            "batches_done": self.batches_done,
            "minutes": self.minutes,
            "history": rows,
            "rebuilt_at": self.rebuilt_at,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        run = checkpoint["run"]
        self.batches_done, self.minutes = run["batches_done"], run["minutes"]
        self.history = [Validation(*row) for row in run["history"]]
        self.rebuilt_at = run.get("rebuilt_at")
        # What was the last batch need not be it any more: a finished run can be lengthened.
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


def as_training(module: pl.LightningModule) -> IncrementalTemporalTraining:
    """The module that a callback is called with, as what it is."""
    assert isinstance(module, IncrementalTemporalTraining)
    return module


def detach(estimate: Tensor, state: State) -> tuple[Tensor, State]:
    """Cut the graph between two iterations, so that each is trained independently (Section 4.1)."""
    return estimate.detach(), same_state(state, (part.detach() for part in state or ()))


def learning_rate(settings: OptimiserConfig, batch: int, batches: int) -> float:
    """The learning rate of a batch: a linear rise over the warm-up, times the schedule.

    With rate r, final rate f, warm-up w and length T in batches, `halve` has
    r / 2^floor(batch / halve_every), and `cosine` after the warm-up
    f + (r - f) (1 + cos(pi (batch - w) / (T - w))) / 2.

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
    """Batches in which the optimiser's state is built up again: 1 / (1 - beta2), its longest memory."""
    return round(1 / (1 - settings.betas[1]))


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W) in [0, 1] to (H, W, 3) uint8, as a picture is stored."""
    stored = image[0].float().clamp(0, 1).mul(255).round().byte()
    return stored.permute(1, 2, 0).cpu().numpy()
