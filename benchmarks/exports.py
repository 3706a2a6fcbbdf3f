"""Time of a step of exports in their own runtimes, as ratios to PyTorch.

    python benchmarks/exports.py WEIGHTS FOLDER... [--size 720x1280] [--repeats 5]

Every folder is an export of WEIGHTS. Steps are the second one, if the network passes on a state; float32; one
picture of noise; medians. PyTorch is the network as it is, eager, NCHW.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from mtdeblur.networks.contract import State, members
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.exported.manifest import read_manifest
from mtdeblur.weights.store import load_model


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--size", default="720x1280")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    height, width = map(int, given.size.split("x"))
    models = {"PyTorch": load_model(find_weights(given.weights)).network}
    for folder in given.folders:
        manifest = read_manifest(folder)
        models[manifest.target] = load_model(folder, 2, or_fewer=True).network
        worst = max(manifest.measured, key=lambda one: one.max_abs)
        size = sum((folder / name).stat().st_size for name in manifest.files) / 1e6
        print(f"{manifest.target}: {size:.1f} MB, {worst.max_abs:.1e}, {worst.psnr} dB", flush=True)
    times: dict[str, list[float]] = {name: [] for name in models}
    blurred = torch.rand(1, 3, height, width)
    states: dict[str, State] = {}
    with torch.inference_mode():
        for repeat in range(given.repeats + 1):
            for name, model in models.items():  # in turns, so that a slow minute concerns all
                started = time.perf_counter()
                _, state = members(model)[0](blurred, blurred, states.get(name))
                if repeat:  # the first is a warm-up, and gives the state
                    times[name].append(time.perf_counter() - started)
                elif len(members(model)) == 1:
                    states[name] = state
    base = statistics.median(times["PyTorch"])
    print(f"{width}x{height}, {torch.get_num_threads()} threads, {given.weights}")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"| {name} | {median:.2f} s | {base / median:.2f} |")


if __name__ == "__main__":
    main()
