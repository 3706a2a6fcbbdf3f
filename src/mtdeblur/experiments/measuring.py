"""Measurements of runs or given weights, with a cache."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

import mtdeblur
from mtdeblur.evaluation.protocol import Figures, PairFigures, averages, measure_all
from mtdeblur.evaluation.provenance import commit, device_name
from mtdeblur.evaluation.runtime import RunTime, measure_run_time
from mtdeblur.experiments.catalogue import Timing
from mtdeblur.experiments.material import TestSet
from mtdeblur.files.atomic import write_atomically
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.devices import choose_device
from mtdeblur.networks.cost import costs_of_steps, parameters
from mtdeblur.networks.unroll import Step
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.network import build_network

Pixels = NDArray[Any]
Load = Callable[[], tuple[nn.Module, tuple[Step, ...]]]


class Subject:
    """A network with its test-time iterations.

    Args:
        folder: of the cached measurements.
        load: returns the network and its steps at test time.
        iterations: number of the steps, or the number requested.
        device: for measurements.

    Attributes:
        accounts: device, version and commit of the measurements used.
    """

    def __init__(self, folder: Path, load: Load, iterations: int, device: str) -> None:
        self.folder, self.iterations, self.device = folder, iterations, device
        self._load = load
        self.accounts: set[str] = set()
        self._loaded: Deblurrer | None = None

    @property
    def deblurrer(self) -> Deblurrer:
        """The deblurrer, in float32, loaded on first use."""
        if self._loaded is None:
            network, steps = self._load()
            self._loaded = Deblurrer(network, iterations=steps, device=self.device, precision="float32")
        return self._loaded

    def figures(self, parts: Sequence[TestSet]) -> tuple[Figures, ...]:
        """Means over a test set for each step; the first is the blurred picture's."""
        return averages([pair for part in parts for pair in self.pair_figures(part)])

    def pair_figures(self, part: TestSet) -> list[PairFigures]:
        """Figures of each pair."""

        def measured() -> list[Any]:
            return [asdict(figures) for figures in measure_all(part.pairs, self.deblurrer.progress)]

        return [_pair_figures(values) for values in self._kept(part.key, measured)]

    def run_time(self, timing: Timing) -> RunTime:
        """Seconds a picture, see `evaluation.runtime`; cached for each kind of device."""
        device = choose_device(self.device)
        place = re.sub(r"[^A-Za-z0-9]+", "-", device_name(device))

        def measured() -> list[Any]:
            return list(measure_run_time(self.deblurrer.estimates, device, **timing.model_dump()))

        return RunTime(*self._kept(f"time-{timing.height}x{timing.width}-{place}", measured))

    def _kept(self, what: str, measured: Callable[[], list[Any]]) -> list[Any]:
        """A measurement from the cache, or a new one, which is cached with device, version and commit."""
        file = self.folder / "measured" / f"{what}-{self.iterations}.json"
        if not file.exists():
            result = measured()
            place = f"{device_name(self.deblurrer.device)}, float32"
            account = f"{place}, mtdeblur {mtdeblur.__version__}, commit {commit() or 'unknown'}"
            write_atomically(file, json.dumps({"measured with": account, "found": result}).encode())
        kept = json.loads(file.read_text(encoding="utf-8"))
        self.accounts.add(kept["measured with"])
        return kept["found"]

    def costs(self) -> list[float]:
        """Thousands of multiply-accumulates a pixel up to each step, at 1280x720."""
        network, steps = self._load()
        counts = accumulate(cost for (cost,) in costs_of_steps(network, steps, (720, 1280)))
        return [count / (720 * 1280) / 1000 for count in counts]

    def pictures(self, blurred: Pixels) -> list[Pixels]:
        """The blurred picture and the estimate of every step, (H, W, 3) each."""
        return [blurred, *self.deblurrer.progress(blurred)]


def count_parameters(config: TrainingConfig) -> int:
    """Parameters of the configured model."""
    return parameters(build_network(config))


def _pair_figures(values: dict[str, Any]) -> PairFigures:
    return PairFigures(values["name"], tuple(Figures(**figures) for figures in values["iterations"]))
