"""Train the paper's network on a machine with PyTorch and this working tree, in a given number of minutes.

    python tools/gpu_release.py packs/release runs/release-mtrnn --minutes 9

First one-stage, with several optimisers for some seconds each; the best one continues. Then multi-temporal
from these weights (Section 4.1). An iteration is one launch, see `mtdeblur.training.launches`; at 150 steps
a second Lightning would take longer than the step, so it is left out. Weights and a history go into the
output folder, in files of at most 16 MB. On a CPU the same command rehearses a GPU's run:
`--minutes 2 --small`.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from mtdeblur.data.feeding.pack import Pack
from mtdeblur.data.feeding.validation import ValidationSet, validation_sets
from mtdeblur.evaluation.runtime import matrix_product_peak, synchronise
from mtdeblur.metrics.quality import psnr
from mtdeblur.networks.blocks import repeated_blocks
from mtdeblur.networks.contract import members
from mtdeblur.networks.mtrnn import MTRNN
from mtdeblur.networks.unroll import Step, unroll
from mtdeblur.training.algorithm import plan_of, stored
from mtdeblur.training.batches import open_stream
from mtdeblur.training.checkpoints import score
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import find_config, read_config
from mtdeblur.training.flat import FlatNetwork, FlatOptimiser
from mtdeblur.training.launches import Feed, Iterations, train_batch
from mtdeblur.training.network import build_approach, build_network
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import read_header, save_network

PART = 8
"""Patches of a step: short training gains more from more steps than from larger ones."""
LATER = 0.2
"""Learning rate of the second stage, relative to the first: with 0.5 it lost two thirds of the first stage's
gain and regained it only as the rate fell below this share, see docs/experiments/gpu.md."""
FLOP = 3 * 736_374
"""Floating-point operations of a step per pixel: a backward pass costs two forward passes."""
SMALL: dict[str, object] = {"data.patch": 64, "data.batch": 4, "data.reuse": 4, "validation.photos": 2}


class Trial(NamedTuple):
    """An optimiser: its name, the learning rate, and whether residual blocks are changed by Muon."""

    name: str
    rate: float
    muon: bool = False


TRIALS = (Trial("Adam 3e-4", 3e-4), Trial("Muon 5e-4", 5e-4, muon=True), Trial("Muon 2e-3", 2e-3, muon=True))


def main() -> None:
    """Check, try, train, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pack", type=Path, help="training pack")
    parser.add_argument("output", type=Path, help="folder for weights and history")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything together")
    parser.add_argument("--trial", type=float, default=20.0, help="seconds for each optimiser")
    parser.add_argument("--one-stage", type=float, default=0.4, help="share of the time")
    parser.add_argument("--weights", type=Path, help="continue these, multi-temporal only")
    parser.add_argument("--small", action="store_true", help="small patches and batches, for a rehearsal")
    parser.add_argument("--check", action="store_true", help="stop after the checks")
    given = parser.parse_args()
    release = Release(given.pack, given.output, time.monotonic() + 60 * given.minutes, small=given.small)
    release.check()
    if given.check:
        return
    best = (
        continued(release, given.weights) if given.weights else begun(release, given.trial, given.one_stage)
    )
    release.stage = "release-mtrnn"
    best.rate *= LATER
    release.train(best, release.end - 5, final=0.005)
    release.save("mtrnn", best, 6)
    say("done")


def continued(release: "Release", weights: Path) -> "Learner":
    """A learner with the weights of an earlier run, by name or file, and batches that it has not seen."""
    weights = find_weights(str(weights))
    release.overrides["network.weights"] = weights
    learner = release.learner(next(trial for trial in TRIALS if trial.muon))
    learner.batches = int(read_header(weights).notes.get("batches", 0))
    return learner


def begun(release: "Release", trial_seconds: float, share: float) -> "Learner":
    """The best of several learners after a share of the time one-stage, ready for the second stage."""
    learners = [release.learner(trial) for trial in TRIALS]
    scores = [release.train(learner, time.monotonic() + trial_seconds, hold=True) for learner in learners]
    best = learners[scores.index(max(scores))]
    say(f"continuing with {best.trial.name}")
    left = release.end - time.monotonic()
    release.train(best, time.monotonic() + share * left, final=0.2)
    release.save("mtrnn-one-stage", best, 1)
    fuse_anew(best)
    best.started = best.steps
    return best


@dataclass
class Learner:
    """A network in training.

    Attributes:
        trial: its optimiser.
        iterations: its launches.
        rate: highest learning rate.
        started: optimiser steps before this stage.
        batches: number of the next batch.
        steps: optimiser steps made.
    """

    trial: Trial
    iterations: Iterations
    rate: float
    started: int = 0
    batches: int = 0
    steps: int = 0


class Release:
    """Data, time and files of the whole run."""

    def __init__(self, pack: Path, output: Path, end: float, *, small: bool) -> None:
        self.output, self.end, self.begun = output, end, time.monotonic()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.overrides: dict[str, Any] = {"data.pack": pack, **(SMALL if small else {})}
        self.part = 2 if small else PART
        self.stage = "release-mtrnn-start"
        self.history: list[dict[str, Any]] = []
        output.mkdir(parents=True, exist_ok=True)
        torch.backends.cudnn.benchmark = True
        data = Pack(pack)
        self.stream = open_stream(self.config, data, device=self.device)
        self.feed = Feed(self.stream)
        sets = validation_sets(data, limit=self.config.validation.photos)
        self.sets = [
            ValidationSet(
                name, [(blurred.to(self.device), sharp.to(self.device)) for blurred, sharp in pairs]
            )
            for name, pairs in sets
        ]
        self.compiled = False
        self.say(f"{self.device_name()}, PyTorch {torch.__version__}; data on the device")

    @property
    def config(self) -> TrainingConfig:
        """Of the stage."""
        return read_config(find_config(self.stage), self.overrides)

    def device_name(self) -> str:
        """What the device calls itself."""
        on_cuda = self.device.type == "cuda"
        return torch.cuda.get_device_name() if on_cuda else f"{torch.get_num_threads()} threads"

    def say(self, line: str) -> None:
        """Print a line with the time."""
        say(f"{time.monotonic() - self.begun:6.1f} s: {line}")

    def learner(self, trial: Trial) -> Learner:
        """The network with its initial weights, recorded."""
        config = self.config
        network = build_network(config).to(self.device)
        for block in repeated_blocks(network) if self.compiled else ():
            block.compile(dynamic=False)  # pyright: ignore[reportUnknownMemberType]
        flat = FlatNetwork(network, torch.bfloat16)
        optimiser = FlatOptimiser(flat, config.optimiser, muon=trial.muon)
        iterations = Iterations(flat, optimiser, (self.part, 3, config.data.patch, config.data.patch))
        return Learner(trial, iterations, trial.rate)

    def check(self) -> None:
        """Exit unless batches and losses are sound; choose compiled blocks if they are faster."""
        peak = matrix_product_peak(self.device) / 1e12
        self.say(f"{peak:.1f} TFLOP/s in bfloat16 products")
        repeats = 100 if self.device.type == "cuda" else 2
        times: dict[bool, float] = {}
        for compiled in (False, True) if self.device.type == "cuda" else (False,):
            self.compiled = compiled
            learner = self.learner(TRIALS[-1])
            self.say(f"recorded, blocks {'compiled' if self.compiled else 'as they are'}")
            images = torch.rand_like(learner.iterations.inputs.blurred)
            totals = torch.zeros(1, device=self.device)
            begun = time.monotonic()
            for number in range(2 * repeats):
                if number == repeats:
                    synchronise(self.device)
                    begun = time.monotonic()
                learner.iterations.train(images, [images], totals)
            synchronise(self.device)
            times[compiled] = (time.monotonic() - begun) / repeats
            speed = FLOP * images[:, 0].numel() / times[compiled] / 1e12
            self.say(f"a step of {self.part} patches: {1000 * times[compiled]:.2f} ms, {speed:.1f} TFLOP/s")
        self.compiled = min(times, key=times.__getitem__)
        for number in range(8):
            batch = self.feed.take(number)
            for image in (batch.blurred, batch.goal(1)):
                if not (bool(image.isfinite().all()) and float(image.min()) >= 0 and float(image.max()) <= 1):
                    raise SystemExit(f"batch {number} is not sound")
            self.feed.release(number)
        begun = time.monotonic()
        for number in range(8, 32):
            self.feed.take(number)
            self.feed.release(number)
        asked = time.monotonic() - begun
        synchronise(self.device)
        made = time.monotonic() - begun
        size = self.config.data.batch
        self.say(f"a batch of {size} is made in {made / 0.024:.1f} ms, {asked / 0.024:.1f} of them asking")
        self.feed = Feed(self.stream)

    def train(self, learner: Learner, until: float, *, hold: bool = False, final: float = 0.0) -> float:
        """Train to a moment; return the gain of the last validation.

        Args:
            learner: what is trained.
            until: time of `time.monotonic`.
            hold: keep the learning rate, instead of a cosine down to a share of it.
            final: that share.
        """
        config, begun = self.config, time.monotonic()
        approach = build_approach(config, learner.iterations.flat.network)
        warmup, every = config.optimiser.warmup, max(10.0, (until - begun) / 12)
        totals, distance = (torch.zeros(length, device=self.device) for length in (8, 1))
        seen = torch.zeros(8)
        following, gain = begun + every, -math.inf
        first_steps = learner.steps
        for number in count(learner.batches):
            now = time.monotonic()
            if now >= min(until, following) or now >= until:
                synchronise(self.device)
                gain = self.report(learner, totals, seen, distance, learner.steps - first_steps, now - begun)
                following = time.monotonic() + every
                for total in (totals, distance, seen):
                    total.zero_()
                if now >= until:
                    return gain
            done = 0.0 if hold else min(1.0, (now - begun) / (until - begun))
            rise = min(1.0, (learner.steps - learner.started + 1) / warmup)
            rate = learner.rate * rise * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
            learner.iterations.optimiser.rate.fill_(rate)
            batch = self.feed.take(number)
            plan = plan_of(approach, config.seed, batch)
            learner.steps += train_batch(learner.iterations, batch, plan, totals)
            distance += batch.distance
            seen[: len(plan)] += len(batch.blurred) / self.part
            self.feed.release(number)
            learner.batches = number + 1
            self.feed.prepare(number + 1)
        raise AssertionError

    def report(
        self, learner: Learner, totals: Tensor, seen: Tensor, distance: Tensor, steps: int, seconds: float
    ) -> float:
        """Validate, and print and keep a row of the history; returns the mean gain of the best iteration."""
        iterations = 1 if self.stage.endswith("start") else 7
        gains = dict(self.validate(learner, iterations))
        losses = [255 * float(total) / float(n) for total, n in zip(totals, seen, strict=True) if n]
        before = 255 * float(distance) * self.config.data.batch / self.part / max(1.0, float(seen[0]))
        optimiser = learner.iterations.optimiser
        entry = {
            "seconds": time.monotonic() - self.begun,
            "stage": self.stage,
            "optimiser": learner.trial.name,
            "batches": learner.batches,
            "steps": learner.steps,
            "rate": float(optimiser.rate),
            "norm": float(optimiser.norm),
            "blurred": before,
            "losses": losses,
            "gains": gains,
        }
        self.history.append(entry)
        (self.output / "history.json").write_text(json.dumps(self.history, indent=1))
        shown = "; ".join(f"{name} {signed(row)}" for name, row in gains.items())
        self.say(
            f"{learner.trial.name}, batch {learner.batches}, {steps / max(seconds, 1e-9):.0f} steps/s, "
            f"loss {' '.join(f'{loss:.2f}' for loss in losses)} of {before:.2f}; {shown}"
        )
        return score(gains, [Step()] * iterations)[0] if all(map(math.isfinite, losses)) else -math.inf

    @torch.no_grad()
    def validate(self, learner: Learner, iterations: int) -> Iterator[tuple[str, list[float]]]:
        """Gains in PSNR of the averaged weights after each iteration, in dB, for each set."""
        flat = learner.iterations.flat
        with computing_with(flat), torch.autocast(self.device.type, torch.bfloat16):
            for name, pairs in self.sets:
                totals = np.zeros(iterations + 1)
                shown = pairs[: 1 if self.device.type == "cpu" else None]
                for blurred, sharp in shown:
                    images = [blurred, *unroll(members(flat.network), blurred, iterations)]
                    totals += [float(psnr(stored(image), stored(sharp))) for image in images]
                means = totals / len(shown)
                yield name, [float(value - means[0]) for value in means[1:]]

    def save(self, name: str, learner: Learner, iterations: int) -> None:
        """Write the averaged weights."""
        network: nn.Module = build_network(self.config)
        learner.iterations.flat.copy_to(network, learner.iterations.flat.average.cpu())
        notes = {"batches": str(learner.batches), "gains": json.dumps(self.history[-1]["gains"])}
        save_network(self.output / f"{name}.safetensors", network, notes=notes, iterations=iterations)


@contextmanager
def computing_with(flat: FlatNetwork) -> Generator[None]:
    """Compute with the averaged weights, operation by operation."""
    flat.use(flat.average)
    torch.compiler.set_stance("force_eager")
    try:
        yield
    finally:
        torch.compiler.set_stance("default")
        flat.use(flat.values)


def fuse_anew(learner: Learner) -> None:
    """Let the fusion of recurrent feature maps ignore the state at first.

    Without a state both halves of its input are the same (Eq. 4), so the sum of their weights on the first
    half gives the same first iteration, and maps of any size cannot disturb the following ones.
    """
    flat = learner.iterations.flat
    network = members(flat.network)[0]
    assert isinstance(network, MTRNN)
    for values in (flat.values, flat.average):
        for fuse in (network.fuse1, network.fuse2):
            assert fuse is not None
            weight = flat.view_of(fuse.weight, values)
            half = weight.shape[1] // 2
            weight[:, :half] += weight[:, half:]
            weight[:, half:] = 0
    flat.use(flat.values)


def signed(gains: list[float]) -> str:
    """Gains in dB with their signs."""
    return " ".join(f"{gain:+.2f}" for gain in gains)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
