"""Training runs that tables and figures share: the same settings are the same run, trained once."""

import gc
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

import mtdeblur
from mtdeblur.errors import UserError, require
from mtdeblur.evaluation.provenance import commit, device_name
from mtdeblur.files.atomic import write_atomically
from mtdeblur.inference.devices import choose_device
from mtdeblur.networks.unroll import Step
from mtdeblur.training.checkpoints import LAST_WEIGHTS
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import fingerprint, write_config
from mtdeblur.training.network import build_approach
from mtdeblur.training.progress import say
from mtdeblur.training.run import train
from mtdeblur.weights.store import load_network

FINISHED = "finished.json"


class InterruptionError(Exception):
    """A run was interrupted; the same command resumes it.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Run(NamedTuple):
    """One training run.

    Attributes:
        title: what its row is called, for the person who waits for it.
        config: all its settings.
        folder: its own, named by its approach and a hash of its settings.
    """

    title: str
    config: TrainingConfig
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether it has been trained to its end."""
        return (self.folder / FINISHED).exists()

    @property
    def weights(self) -> Path:
        """The weights after the last batch."""
        return self.folder / LAST_WEIGHTS

    def load(self, iterations: int) -> tuple[nn.Module, tuple[Step, ...]]:
        """The trained network, and its steps at test time.

        Args:
            iterations: how many, where the approach leaves it open.
        """
        network = load_network(self.weights)
        return network, build_approach(self.config, network).steps(iterations)

    def account(self) -> dict[str, Any]:
        """How it was trained: program version, commit and device."""
        return json.loads((self.folder / FINISHED).read_text(encoding="utf-8"))


def as_run(title: str, config: TrainingConfig, material: str, folder: Path) -> Run:
    """The run of a configuration.

    Args:
        title: for the person who waits.
        config: of the training.
        material: key of what is trained on; where that lies makes no difference.
        folder: of all runs.
    """
    told = f"{fingerprint(config)} {config.optimiser.batches} {material}"
    key = hashlib.sha256(told.encode()).hexdigest()[:10]
    name = re.sub(r"[^a-z0-9]+", "-", f"{config.network.name}-{config.approach.name}")
    return Run(title, config, folder / f"{name}-{key}")


def carry_out_all(
    runs: Sequence[Run], *, device: str = "auto", devices: int = 1, parallel: str = "local"
) -> None:
    """Train what is not trained yet: one run after the other, or many at once through Ray.

    Args:
        runs: in the order in which they are carried out.
        device: as for `train`.
        devices: processes or GPUs that share each run's batches.
        parallel: "local" or "ray".

    Raises:
        UserError: as `train` does, or if Ray is wanted and missing.
        InterruptionError: if somebody interrupts.
    """
    missing: list[Run] = []
    for run in {run.folder: run for run in runs}.values():
        if run.finished:
            say(f"{run.title} is trained already")
        else:
            missing.append(run)
    if parallel == "ray":
        _through_ray(missing, device, devices)
        return
    for number, run in enumerate(missing, 1):
        say(f"training {run.title} ({number} of {len(missing)}): {run.config.optimiser.batches} batches")
        carry_out(run, device, devices)


def carry_out(run: Run, device: str, devices: int) -> None:
    """Train one run to its end, resuming it if it has begun.

    Raises:
        UserError: as `train` does.
        InterruptionError: if somebody interrupts.
    """
    if devices > 1:
        _in_a_process(run, device, devices)
    else:
        outcome = train(run.config, run.folder, resume=True, device=device)
        if outcome.interrupted is not None:
            raise InterruptionError(outcome.interrupted)
        gc.collect()  # free the reference cycles that hold the run's images
    chosen = choose_device("cuda" if device == "gpu" else device)
    account = {"version": mtdeblur.__version__, "commit": commit(), "device": device_name(chosen)}
    account["devices"] = str(devices)
    write_atomically(run.folder / FINISHED, json.dumps(account, indent=1).encode())


def _in_a_process(run: Run, device: str, devices: int) -> None:
    """Train in a process of its own: Lightning runs its command again for each further device."""
    write_atomically(run.folder / "wanted.yaml", write_config(run.config).encode())
    command = [sys.executable, "-m", "mtdeblur", "train", str(run.folder / "wanted.yaml"), "--resume"]
    command += ["--run", str(run.folder), "--device", device, "--devices", str(devices)]
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the process got the signal too, and ends cleanly
        code = process.wait()
    if code > 128:
        raise InterruptionError(code - 128)
    if code:
        raise UserError(f"training {run.title} failed: see above")


def _through_ray(runs: Sequence[Run], device: str, devices: int) -> None:
    """Each run a task, with a GPU for each of its devices where the cluster has any, else a processor."""
    api = require("ray", "ray", "--parallel ray")
    api.init(ignore_reinit_error=True, include_dashboard=False)
    try:
        gpus = device != "cpu" and api.cluster_resources().get("GPU", 0) > 0
        need = {"num_gpus": devices} if gpus else {"num_gpus": 0, "num_cpus": devices}
        task: Callable[..., Any] = api.remote(**need)(carry_out).remote
        api.get([task(run, device, devices) for run in runs])
    except api.exceptions.RayTaskError as error:
        raise UserError(f"a run failed: {error.cause}") from error
    finally:
        api.shutdown()
