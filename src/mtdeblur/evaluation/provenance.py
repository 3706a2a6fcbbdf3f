"""Provenance of figures: weights, the program's version and commit, and the device."""

import hashlib
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import mtdeblur
from mtdeblur.weights.catalogue import find_weights, offered
from mtdeblur.weights.foreign import checkpoint_files

if TYPE_CHECKING:
    from mtdeblur.inference.deblurrer import Deblurrer


@dataclass(frozen=True)
class Subject:
    """The subject of a measurement, attached to every figure of a report.

    Attributes:
        dataset: the folder of pairs.
        weights: name or path of the weights.
        weights_sha256: of the weights, see `identify_weights`.
        version: of the program.
        commit: of the program, None outside a checkout.
        device: such as `cpu, 2 threads, AVX512`.
        precision: such as `float32`.
        iterations: number of iterations.
        tile: side of tiles or windows in pixels, "off" or "auto", see `mtdeblur.inference.deblurrer.load`.
        engine: that ran the network.
        early_stopping: whether steps end early, see `mtdeblur.inference.stopping`.
    """

    dataset: str
    weights: str
    weights_sha256: str
    version: str
    commit: str | None
    device: str
    precision: str
    iterations: int
    tile: str = "auto"
    engine: str = "pytorch"
    early_stopping: bool = False


def describe(dataset: str, weights: str | None, deblurrer: "Deblurrer") -> Subject:
    """The subject of measurements on a data set.

    Args:
        dataset: the folder of pairs.
        weights: what the deblurrer was loaded from, as given to `load`.
        deblurrer: the measured deblurrer.

    Raises:
        UserError: as `find_weights` does.
    """
    name, sha256 = identify_weights(weights)
    return Subject(
        dataset=dataset,
        weights=name,
        weights_sha256=sha256,
        version=mtdeblur.__version__,
        commit=commit(),
        device=device_name(deblurrer.device),
        precision=deblurrer.precision,
        iterations=deblurrer.iterations,
        tile=str(deblurrer.tile),
        engine=deblurrer.engine,
        early_stopping=deblurrer.stopping is not None,
    )


def commit() -> str | None:
    """The program's git commit, with `-dirty` if files have changed; None outside a checkout."""
    package = Path(mtdeblur.__file__).parent
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    if not tracked:  # installed inside the checkout of another project
        return None
    return _git(package, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40")


def identify_weights(source: str | None) -> tuple[str, str]:
    """Name and SHA-256 of the weights of a name, a path or None (the default weights).

    For weights in several files, it is the SHA-256 of their concatenated contents, sorted by name.

    Raises:
        UserError: as `find_weights` does.
    """
    name = source or offered()[0]
    digest = hashlib.sha256()
    for file in checkpoint_files(find_weights(source)):
        digest.update(file.read_bytes())
    return name, digest.hexdigest()


def device_name(device: torch.device) -> str:
    """Name of a device in reports, such as `cpu, 2 threads, AVX512` or `cuda, NVIDIA H100`."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return device.type


def processor_name() -> str:
    """The system's name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
