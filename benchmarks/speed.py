"""How much faster the efficient cell deblurs than the paper's network in the plain way, in one run.

    python benchmarks/speed.py

Both run the same number of iterations on the same picture: `mtnaf` as `mtdeblur deblur --quality fast` runs
it (its weights, the default precision, from pixels to pixels), `mtrnn` in float32, NCHW and eager, with fresh
weights, since the time does not depend on what weights hold. They take turns, so that other work on the
machine slows both; figures are medians. On a busy machine, processor seconds say more than the clock's.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer

import mtdeblur
from mtdeblur.evaluation.provenance import commit, device_name, processor_name
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import unroll


class Taken(NamedTuple):
    """Seconds by the clock, and by all processor cores together."""

    clock: float
    processor: float


def taken_by(work: Callable[[], object], device: torch.device) -> Taken:
    """How long it takes until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Taken(time.perf_counter() - clock, time.process_time() - processor)


def median(values: list[Taken]) -> Taken:
    """Of each of the two."""
    return Taken(*(statistics.median(column) for column in zip(*values, strict=True)))


def main(
    height: Annotated[int, typer.Option(min=16, help="Of the picture, in pixels.")] = 720,
    width: Annotated[int, typer.Option(min=16, help="Of the picture, in pixels.")] = 1280,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="What the weights advise if not given.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timings of each, after one to warm up.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Time both and print the ratio."""
    cell = mtdeblur.load(quality="fast", iterations=iterations, device=device)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    plain = create_network("mtrnn").eval().to(cell.device)
    blurred = torch.rand(1, 3, height, width, device=cell.device)

    def run_plain() -> None:
        with torch.inference_mode():
            deque(unroll(plain, blurred, cell.iterations), maxlen=0)

    times: dict[str, list[Taken]] = {"mtnaf": [], "mtrnn": []}
    for turn in range(repeats + 1):
        for name, work in (("mtnaf", lambda: cell(picture)), ("mtrnn", run_plain)):
            taken = taken_by(work, cell.device)
            if turn:
                times[name].append(taken)
    fast, slow = median(times["mtnaf"]), median(times["mtrnn"])
    print(f"{processor_name()}; {device_name(cell.device)}; PyTorch {torch.__version__}; commit {commit()}")
    print(
        f"{width}x{height}, iterations: {cell.iterations}; medians of {repeats} after a warm-up, synchronised"
    )
    ways = {
        f"mtnaf, {cell.name}, {cell.precision}, channels-last, from pixels to pixels": fast,
        "mtrnn, float32, NCHW, eager, from tensor to tensor": slow,
    }
    for way, taken in ways.items():
        print(f"{way}: {taken.clock:.2f} s by the clock, {taken.processor:.2f} s of the processor")
    clock, cores = slow.clock / fast.clock, slow.processor / fast.processor
    print(f"ratio: {clock:.1f} by the clock, {cores:.1f} by the processor")


if __name__ == "__main__":
    typer.run(main)
