"""What is measured of a trained run; everything measured is kept beside the run and used again."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from mtdeblur.evaluation.protocol import Figures, PairFigures, averages, measure
from mtdeblur.evaluation.provenance import device_name
from mtdeblur.evaluation.runtime import RunTime, measure_run_time
from mtdeblur.experiments.catalogue import Timing
from mtdeblur.experiments.material import TestSet
from mtdeblur.experiments.runs import Run
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.media.files import write_atomically
from mtdeblur.media.pictures import read_picture
from mtdeblur.networks.contract import members
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.network import build_network
from mtdeblur.weights.store import load_network

Pixels = NDArray[Any]


class Subject:
    """A trained run with its test-time iterations.

    Args:
        run: finished.
        iterations: at test time.
        device: where to measure.
    """

    def __init__(self, run: Run, iterations: int, device: str) -> None:
        self.run, self.iterations, self.device = run, iterations, device
        self._loaded: Deblurrer | None = None

    @property
    def deblurrer(self) -> Deblurrer:
        """In float32, loaded when it is first needed."""
        if self._loaded is None:
            network = load_network(self.run.weights)
            steps = self.run.config.approach.steps(self.iterations, len(members(network)))
            self._loaded = Deblurrer(network, iterations=steps, device=self.device, precision="float32")
        return self._loaded

    def figures(self, parts: Sequence[TestSet]) -> tuple[Figures, ...]:
        """Means over a test set for each step; the first is the blurred picture's."""
        return averages([pair for part in parts for pair in self._measure(part)])

    def _measure(self, part: TestSet) -> list[PairFigures]:
        kept = self._kept(part.key)
        if kept.exists():
            return [_pair_figures(values) for values in json.loads(kept.read_text(encoding="utf-8"))]
        measured = [measure(pair, self.deblurrer.progress, read_pixels) for pair in part.pairs]
        write_atomically(kept, json.dumps([asdict(pair) for pair in measured]).encode())
        return measured

    def run_time(self, timing: Timing) -> RunTime:
        """Seconds a picture, see `evaluation.runtime`."""
        device = self.deblurrer.device
        place = f"{device_name(device)}-{torch.get_num_threads()}".replace("/", "-").replace(" ", "-")
        kept = self._kept(f"time-{timing.height}x{timing.width}-{place}")
        if kept.exists():
            return RunTime(*json.loads(kept.read_text(encoding="utf-8")))
        taken = measure_run_time(self.deblurrer.estimates, device, **timing.model_dump())
        write_atomically(kept, json.dumps(taken).encode())
        return taken

    def pictures(self, blurred: Pixels) -> list[Pixels]:
        """The blurred picture and the estimate of every step, (H, W, 3) each."""
        return [blurred, *self.deblurrer.progress(blurred)]

    def _kept(self, what: str) -> Path:
        return self.run.folder / "measured" / f"{what}-{self.iterations}.json"


def read_pixels(path: Path) -> Pixels:
    """A picture as the protocol reads it, (H, W, 3)."""
    return read_picture(path).upright().pixels


def count_parameters(config: TrainingConfig) -> int:
    """Parameters of the configured model."""
    return sum(parameter.numel() for parameter in build_network(config).parameters())


def _pair_figures(values: dict[str, Any]) -> PairFigures:
    return PairFigures(values["name"], tuple(Figures(**figures) for figures in values["iterations"]))
