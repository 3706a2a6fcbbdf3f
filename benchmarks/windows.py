"""Which windows suit a network that takes in the whole picture: quality, time and memory, on pairs.

    python benchmarks/windows.py DATASET... --window 256 --window 512 --window off

Each size runs in a process of its own, so that its peak memory is its own. Quality is the mean PSNR over the
pictures of each data set after each step. Time is that of the processor's cores together, over all pictures,
for a megapixel and all steps.
"""

import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, NamedTuple

import torch
import typer

import mtdeblur
from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.evaluation.provenance import commit, device_name, processor_name
from mtdeblur.inference.memory import peak_memory
from mtdeblur.media.pictures import read_pixels
from mtdeblur.metrics.arrays import psnr


class Row(NamedTuple):
    """What was measured of one size.

    Attributes:
        quality: for each data set, the mean PSNR of the blurred pictures and after each step, in dB.
        seconds: of the processor, a megapixel.
        memory: peak of the process, in MiB.
    """

    quality: list[list[float]]
    seconds: float
    memory: int


class Work(NamedTuple):
    """What one process does."""

    datasets: Sequence[Path]
    weights: str | None
    iterations: int | None
    precision: str
    window: str
    threads: int


def measure(work: Work) -> Row:
    """Run over every pair of the data sets."""
    torch.set_num_threads(work.threads)
    deblurrer = mtdeblur.load(
        work.weights,
        iterations=work.iterations,
        device="cpu",
        precision=work.precision,
        tile=work.window,
    )
    quality: list[list[float]] = []
    seconds = pixels = 0.0
    for dataset in work.datasets:
        rows: list[list[float]] = []
        for pair in find_pairs(dataset):
            blurred, sharp = read_pixels(pair.blur), read_pixels(pair.sharp)
            started = time.process_time()
            estimates = list(deblurrer.progress(blurred))
            seconds += time.process_time() - started
            pixels += blurred.shape[0] * blurred.shape[1]
            rows.append([psnr(image, sharp) for image in (blurred, *estimates)])
        quality.append([fmean(column) for column in zip(*rows, strict=True)])
    memory = (peak_memory() or 0) // 2**20
    return Row(quality, seconds / pixels * 1e6, memory)


def main(
    datasets: Annotated[list[Path], typer.Argument(help="Folders of pairs.")],
    window: Annotated[list[str] | None, typer.Option(help="Side in pixels, or off; again for more.")] = None,
    weights: Annotated[str | None, typer.Option(help="The default weights if not given.")] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="What the weights advise if not given.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Of each process.")] = 2,
) -> None:
    """Print a line for each size."""
    print(f"{processor_name()}; {device_name(torch.device('cpu'))}; commit {commit()}; {threads} threads")
    names = " | ".join(dataset.name for dataset in datasets)
    print(f"| window | {names} | seconds a megapixel | MiB |\n|{' --- |' * (len(datasets) + 3)}")
    context = multiprocessing.get_context("spawn")
    for number, size in enumerate(window or ["auto", "off"]):
        work = Work(datasets, weights, iterations, precision, size, threads)
        with context.Pool(1) as pool:
            row = pool.apply(measure, (work,))
        if number == 0:
            blurred = " | ".join(f"{figures[0]:.2f}" for figures in row.quality)
            print(f"| blurred | {blurred} | | |")
        quality = " | ".join(" / ".join(f"{value:.2f}" for value in figures[1:]) for figures in row.quality)
        print(f"| {size} | {quality} | {row.seconds:.1f} | {row.memory} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
