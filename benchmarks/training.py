"""How fast training is: patches and FLOP a second, waiting for data, memory and operations a batch.

    python benchmarks/training.py                      # every release configuration, on a GPU
    python benchmarks/training.py release-small --patch 96 --batch 4

`mtdeblur train`'s own loop runs for a few batches to warm up, and then for `--seconds`. FLOP are those of
forward and backward passes (`mtdeblur.training.cost`); the peak is that of large matrix products in the same
process, in bfloat16 and float32. Without a pack, scikit-image's public-domain photographs are trained on.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
import typer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtdeblur.data.disk.photographs import public_domain_photographs
from mtdeblur.evaluation.provenance import commit, device_name, processor_name
from mtdeblur.evaluation.runtime import matrix_product_peak, synchronise
from mtdeblur.inference.devices import choose_device
from mtdeblur.inference.memory import peak_memory
from mtdeblur.media.pictures import Picture, write_picture
from mtdeblur.training.algorithm import as_training
from mtdeblur.training.config_file import find_config, read_config
from mtdeblur.training.cost import batch_cost
from mtdeblur.training.run import train

RELEASE = ["release-small", "release-base", "release-mtrnn-start", "release-mtrnn"]


class Operations(TorchDispatchMode):
    """Counts the operations that the program asks PyTorch for; on a GPU each is about one launch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and carry out."""
        self.count += 1
        return func(*args, **(kwargs or {}))


class Meter(pl.Callback):
    """Times the batches of a run and ends it.

    Args:
        seconds: of the measured part.
        warm_up: batches before it; the operations of the last of them are counted.
    """

    def __init__(self, seconds: float, warm_up: int) -> None:
        self.seconds, self.warm_up = seconds, warm_up
        self.operations = Operations()
        self.started = self.waited = self.elapsed = 0.0
        self.batches = 0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Start or stop counting and timing."""
        training = as_training(pl_module)
        if training.batches_done == self.warm_up - 1:
            self.operations.__enter__()
        elif training.batches_done == self.warm_up:
            self.operations.__exit__(None, None, None)
            synchronise(training.device)
            self.started, self.waited = time.perf_counter(), training.waited
        elif self.started and time.perf_counter() - self.started >= self.seconds:
            synchronise(training.device)
            self.elapsed = time.perf_counter() - self.started
            self.waited = training.waited - self.waited
            self.batches = training.batches_done - self.warm_up
            trainer.should_stop = True


def public_domain(folder: Path) -> Path:
    """A folder pack of scikit-image's photographs."""
    for photograph in public_domain_photographs():
        path = folder / "train" / "photos" / f"{photograph.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, Picture(photograph.read()))
    return folder


def main(
    configs: Annotated[list[str] | None, typer.Argument(help="Names or files.")] = None,
    pack: Annotated[Path | None, typer.Option(help="Training pack.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of measurement for each.")] = 8.0,
    warm_up: Annotated[int, typer.Option(min=3, help="Batches before it.")] = 5,
    patch: Annotated[int | None, typer.Option(min=16, help="In place of the configuration's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="In place of the configuration's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="As of mtdeblur train.")] = False,
) -> None:
    """Measure and print a table in Markdown."""
    where = choose_device(device)
    peaks = [matrix_product_peak(where, dtype) / 1e12 for dtype in (torch.bfloat16, torch.float32)]
    print(f"{processor_name()}; {device_name(where)}; PyTorch {torch.__version__}; commit {commit()}")
    print("matrix products: {:.2f} TFLOP/s in bfloat16, {:.2f} in float32".format(*peaks), end="\n\n")
    print("| configuration | batch | patches/s | TFLOP/s | waiting | peak memory | operations a batch |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = pack or public_domain(folder / "pack")
        for config_name in configs or RELEASE:
            overrides: dict[str, Any] = {
                "data.pack": data.resolve(),
                "network.weights": None,
                "validation.photos": 0,
                "validation.every": 10**9,
                **({"data.patch": patch} if patch else {}),
                **({"data.batch": batch} if batch else {}),
            }
            config = read_config(find_config(config_name), overrides)
            meter = Meter(seconds, warm_up)
            if where.type == "cuda":
                torch.cuda.reset_peak_memory_stats(where)
            train(config, folder / config_name, device=where.type, compiled=compiled, callbacks=[meter])
            size, rate = config.data.batch, meter.batches / meter.elapsed
            memory = peak_memory() or 0
            if where.type == "cuda":
                memory = torch.cuda.max_memory_allocated(where)
            print(
                f"| {config_name} | {size}x{config.data.patch}² | {size * rate:.1f} "
                f"| {2 * batch_cost(config) * rate / 1e12:.3f} | {100 * meter.waited / meter.elapsed:.0f} % "
                f"| {memory / 2**20:.0f} MiB | {meter.operations.count} |"
            )


if __name__ == "__main__":
    typer.run(main)
