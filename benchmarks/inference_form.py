"""How much time a network's inference form saves on a processor, step by step.

    python benchmarks/inference_form.py

The trained form and the inference form of MAXIM's stages take turns on one picture, so that other work on the
machine slows both. Times are processor seconds of all cores together, medians. Where waiting threads burn the
cores, set OMP_WAIT_POLICY=passive.
"""

import statistics
import time
from typing import Annotated, cast

import torch
import typer
from torch import Tensor

import mtdeblur
from mtdeblur.evaluation.provenance import commit, device_name, processor_name
from mtdeblur.inference.devices import DTYPES
from mtdeblur.networks.contract import ProgressiveNetwork, State, inference_form, members
from mtdeblur.networks.unroll import carry_out, default_steps
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import load_network


def main(
    height: Annotated[int, typer.Option(min=1, help="Of the picture, in pixels.")] = 720,
    width: Annotated[int, typer.Option(min=1, help="Of the picture, in pixels.")] = 1280,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "bfloat16",
    repeats: Annotated[int, typer.Option(min=1, help="Timings of each, after one to warm up.")] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Time every step of both forms."""
    torch.set_num_threads(threads)
    model = load_network(find_weights("maxim-gopro"))
    dtype = DTYPES[precision]
    forms = [cast("ProgressiveNetwork", inference_form(member, dtype)) for member in members(model)]
    ways = {"trained form": list(members(model.to(dtype))), "inference form": forms}
    blurred = torch.rand(1, 3, height, width).contiguous(memory_format=torch.channels_last)
    steps = default_steps(model)
    times: dict[str, list[list[float]]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, networks in ways.items():
            estimate: Tensor = blurred
            state: State = None
            taken: list[float] = []
            for step in steps:
                started = time.process_time()
                with torch.inference_mode():
                    estimate, state = carry_out(networks[step.network], 1, blurred, estimate, state)
                taken.append(time.process_time() - started)
            if turn:
                times[way].append(taken)
    print(f"{processor_name()}; {device_name(torch.device('cpu'))}; PyTorch {torch.__version__}")
    print(f"mtdeblur {mtdeblur.__version__}, commit {commit()}; {width}x{height}, {precision}")
    medians = {
        way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in times.items()
    }
    for way, seconds in medians.items():
        each = ", ".join(f"{value:.1f}" for value in seconds)
        print(f"{way}: {each} processor seconds a step, {sum(seconds):.1f} in all")
    trained, inference = medians.values()
    ratios = ", ".join(f"{one / other:.2f}" for one, other in zip(inference, trained, strict=True))
    print(f"inference form to trained form: {ratios}; {sum(inference) / sum(trained):.2f} in all")


if __name__ == "__main__":
    typer.run(main)
