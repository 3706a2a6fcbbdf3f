"""How much time a network's inference form saves on a processor, step by step.

    python benchmarks/inference_form.py

The trained form and the inference form of MAXIM's stages take turns on one picture, so that other work on the
machine slows both. Processor seconds are those of all cores together; those of the system are mostly for new
memory. The share of the peak is the network's arithmetic a second of the clock, as a share of that of large
matrix products in the same run. All are medians. Where waiting threads burn the cores, set
OMP_WAIT_POLICY=passive.
"""

import os
import time
from collections.abc import Sequence
from statistics import median
from typing import Annotated, NamedTuple, cast

import torch
import typer
from torch import Tensor

import mtdeblur
from mtdeblur.evaluation.provenance import commit, device_name, processor_name
from mtdeblur.evaluation.runtime import matrix_product_peak
from mtdeblur.inference.engines.pytorch import DTYPES
from mtdeblur.networks.contract import ProgressiveNetwork, State, inference_form, members
from mtdeblur.networks.cost import costs_of_steps
from mtdeblur.networks.unroll import carry_out, default_steps
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import load_network

CPU = torch.device("cpu")


class Times(NamedTuple):
    """Seconds of one step: by the clock, of all cores together, and of them the system's."""

    clock: float
    processor: float
    system: float


def now() -> Times:
    """The present time."""
    spent = os.times()
    return Times(time.perf_counter(), spent.user + spent.system, spent.system)


def medians(rows: Sequence[Sequence[Times]]) -> list[Times]:
    """The median of each kind for each step; the rows are runs."""
    return [
        Times(*(median(kind) for kind in zip(*column, strict=True))) for column in zip(*rows, strict=True)
    ]


def main(
    height: Annotated[int, typer.Option(min=1, help="Of the picture, in pixels.")] = 720,
    width: Annotated[int, typer.Option(min=1, help="Of the picture, in pixels.")] = 1280,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "bfloat16",
    repeats: Annotated[int, typer.Option(min=1, help="Timings of each, after one to warm up.")] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    trained: Annotated[bool, typer.Option(help="Time the trained form as well.")] = True,
) -> None:
    """Time every step of both forms."""
    torch.set_num_threads(threads)
    model = load_network(find_weights("maxim-gopro"))
    dtype = DTYPES[precision]
    steps = default_steps(model)
    operations = [2 * cost[0] for cost in costs_of_steps(model, steps, (height, width))]
    forms = [cast("ProgressiveNetwork", inference_form(member, dtype)) for member in members(model)]
    ways = {"inference form": forms}
    if trained:
        ways["trained form"] = list(members(model.to(dtype)))
    blurred = torch.rand(1, 3, height, width).contiguous(memory_format=torch.channels_last)
    peak = matrix_product_peak(CPU, dtype)
    rows: dict[str, list[list[Times]]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, networks in ways.items():
            estimate: Tensor = blurred
            state: State = None
            taken: list[Times] = []
            for step in steps:
                started = now()
                with torch.inference_mode():
                    estimate, state = carry_out(networks[step.network], 1, blurred, estimate, state)
                taken.append(Times(*(b - a for a, b in zip(started, now(), strict=True))))
            if turn:
                rows[way].append(taken)
    print(f"{processor_name()}; {device_name(CPU)}; PyTorch {torch.__version__}")
    print(f"mtdeblur {mtdeblur.__version__}, commit {commit()}; {width}x{height}, {precision}")
    print(f"matrix products: {peak / 1e9:.0f} GFLOP/s with {threads} threads")
    print("| form | step | seconds by the clock | processor seconds | system | share of the peak |")
    print("| --- | --- | --- | --- | --- | --- |")
    found = {way: medians(times) for way, times in rows.items()}
    for way, times in found.items():
        in_all = [*times, Times(*(sum(kind) for kind in zip(*times, strict=True)))]
        labels = [*map(str, range(1, len(times) + 1)), "all"]
        for label, seconds, work in zip(labels, in_all, [*operations, sum(operations)], strict=True):
            columns = " | ".join(f"{value:.2f}" for value in seconds)
            print(f"| {way} | {label} | {columns} | {work / seconds.clock / peak:.2f} |")
    if trained:
        pairs = zip(found["inference form"], found["trained form"], strict=True)
        print("processor seconds, inference form to trained form, step by step:", end=" ")
        print(", ".join(f"{one.processor / other.processor:.2f}" for one, other in pairs))


if __name__ == "__main__":
    typer.run(main)
