"""Train release weights on a machine that has PyTorch and this working tree, in a given number of minutes.

    python tools/gpu_release.py packs/release runs/release-mtrnn --minutes 9

Checks the device first (20 seconds), then trains the stages of the release one after the other, each from
the weights of the one before. Weights and histories go into the output folder, in files of at most 16 MB. On
a CPU the same command rehearses a GPU's run: `--minutes 2 --small`.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from mtdeblur.approaches import plans
from mtdeblur.data.feeding.pack import Pack
from mtdeblur.evaluation.runtime import matrix_product_peak, synchronise
from mtdeblur.networks.blocks import repeated_blocks
from mtdeblur.networks.contract import members
from mtdeblur.networks.unroll import unroll
from mtdeblur.training.batches import open_stream
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import find_config, read_config
from mtdeblur.training.network import build_approach, build_network
from mtdeblur.training.run import train

STAGES = {"release-mtrnn-start": 0.42, "release-mtrnn": 0.58}
"""Packaged configuration of each stage and its share of the time."""
SMALL = {"data.patch": 64, "data.batch": 2, "data.reuse": 4, "validation.every": 20, "validation.photos": 2}


def main() -> None:
    """Check, train, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pack", type=Path, help="training pack")
    parser.add_argument("output", type=Path, help="folder for weights, history and state")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all stages together")
    parser.add_argument("--small", action="store_true", help="small patches and batches, for a rehearsal")
    parser.add_argument("--no-compile", action="store_true", help="run operations one by one")
    given = parser.parse_args()
    begun = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given.output.mkdir(parents=True, exist_ok=True)
    peak = matrix_product_peak(torch.device(device)) / 1e12
    say(f"{name_of(device)}, PyTorch {torch.__version__}, {peak:.1f} TFLOP/s in bfloat16 products")
    overrides: dict[str, object] = {"data.pack": given.pack, **(SMALL if given.small else {})}
    first = find_config(next(iter(STAGES)))
    check(first, overrides, device)
    compiled = not given.no_compile and fastest(first, overrides, device)
    say(f"checks took {time.monotonic() - begun:.0f} s")
    weights: Path | None = None
    for stage, share in STAGES.items():
        more: dict[str, object] = {} if weights is None else {"network.weights": weights}
        more |= fitting(find_config(stage), {**overrides, **more}, device, compiled)
        left = 60 * given.minutes - (time.monotonic() - begun)
        last = stage == list(STAGES)[-1]
        minutes = max(0.5, (left if last else 60 * given.minutes * share) / 60)
        config = read_config(find_config(stage), {**overrides, **more})
        run = given.output / f"run-{stage}"
        outcome = train(config, run, minutes=minutes, compiled=compiled)
        weights = Path(given.output / f"{stage}.safetensors")
        shutil.copyfile(outcome.weights, weights)
        shutil.copyfile(run / "last.safetensors", given.output / f"{stage}-last.safetensors")
        shutil.copyfile(run / "history.json", given.output / f"{stage}.json")
        shutil.copyfile(run / "config.yaml", given.output / f"{stage}.yaml")  # to resume with --resume auto
        best = json.loads((run / "history.json").read_text())[-1]
        say(f"{stage}: {best['batches']} batches, gains {best['gains']}")
    say(f"done after {(time.monotonic() - begun) / 60:.1f} minutes")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def name_of(device: str) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"


def check(path: Path, overrides: dict[str, object], device: str) -> None:
    """Exit unless batches are sound and the device computes what float64 on the CPU does."""
    config = read_config(path, overrides)
    data = config.data
    started = time.monotonic()
    stream = open_stream(config, Pack(Path(str(data.pack))), device=device)
    synchronise(torch.device(device))
    say(f"data on the device after {time.monotonic() - started:.1f} s")
    for number in range(2 * data.reuse):
        stream.batch(number)
    synchronise(torch.device(device))
    started = time.monotonic()
    for number in range(2 * data.reuse, 6 * data.reuse):
        stream.batch(number)
    asked = time.monotonic() - started
    synchronise(torch.device(device))
    each = (time.monotonic() - started) / (4 * data.reuse)
    asking = 250 * asked / data.reuse
    say(f"a batch of {data.batch} is made in {1000 * each:.1f} ms, {asking:.1f} of them asking")
    batch = stream.batch(0)
    for number in range(100, 100 + data.reuse):
        batch = stream.batch(number)
        for image in (batch.blurred, *batch.ladder.values()):
            if not (bool(image.isfinite().all()) and float(image.min()) >= 0 and float(image.max()) <= 1):
                raise SystemExit(f"batch {number} is not sound")
    network = build_network(config)
    crop = batch.blurred[:1, :, :64, :64].contiguous()
    exact = last(network.double(), crop.cpu().double())
    single = last(network.float().to(device), crop).cpu().double()
    difference = float((single - exact).square().sum().sqrt() / exact.square().sum().sqrt())
    say(f"float32 differs from float64 on the CPU by {difference:.1e}")
    if not difference < 1e-2:
        raise SystemExit("the device computes something else")


def fastest(path: Path, overrides: dict[str, object], device: str) -> bool:
    """Set cudnn's choice by timing where it pays, and say whether compiled blocks do."""
    config = read_config(path, overrides)
    best, choice = float("inf"), (False, False)
    for benchmark, compiled in ((False, False), (True, False), (False, True), (True, True)):
        torch.backends.cudnn.benchmark = benchmark
        started = time.monotonic()
        seconds = seconds_a_step(trained(config, device, compiled), config, config.data.batch)
        took = time.monotonic() - started
        variant = f"cudnn.benchmark {benchmark}, compiled {compiled}"
        say(f"{variant}: {1000 * seconds:.1f} ms, {took:.1f} s with the start")
        if seconds < 0.97 * best:
            best, choice = seconds, (benchmark, compiled)
    torch.backends.cudnn.benchmark = choice[0]
    return choice[1]


def fitting(path: Path, overrides: dict[str, object], device: str, compiled: bool) -> dict[str, object]:
    """The batch size with the most patches a second, and batches from one validation to the next: a minute.

    A larger batch must be faster by 5 %, since a smaller one makes more optimiser steps of the same patches.
    """
    config = read_config(path, overrides)
    network = trained(config, device, compiled)
    size, best, seconds = config.data.batch, 0.0, 1.0
    for batch in (max(1, config.data.batch * part // 4) for part in (2, 4, 8, 16)):
        try:
            each = seconds_a_step(network, config, batch)
        except torch.OutOfMemoryError:
            say(f"{path.stem}: {batch} patches do not fit in memory")
            break
        say(f"{path.stem}: {batch} patches of {config.data.patch}: {batch / each:.0f} patches/s an iteration")
        if batch / each > 1.05 * best:
            size, best, seconds = batch, batch / each, each
    plan = plans(build_approach(config, network), config.approach.levels)
    iterations = sum(probability * len(goals) for goals, probability in plan)
    every = max(1, round(60 / (seconds * iterations)))
    say(f"{path.stem}: batches of {size}, a validation every {every} batches")
    return {"data.batch": size, "validation.every": every}


def trained(config: TrainingConfig, device: str, compiled: bool) -> torch.nn.Module:
    """The network of a configuration as it is trained."""
    network = build_network(config).to(device)
    for block in repeated_blocks(network) if compiled else ():
        block.compile(dynamic=False)  # pyright: ignore[reportUnknownMemberType]
    return network


def seconds_a_step(network: torch.nn.Module, config: TrainingConfig, batch: int) -> float:
    """Time of one iteration with its backward pass and optimiser step, after two to warm up."""
    device = next(network.parameters()).device
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    shape = (batch, 3, config.data.patch, config.data.patch)
    blurred = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    repeats, begun = 20 if device.type == "cuda" else 2, 0.0
    for number in range(2 + repeats):
        if number == 2:
            synchronise(device)
            begun = time.monotonic()
        step(network, blurred, optimiser)
    synchronise(device)
    return (time.monotonic() - begun) / repeats


def step(network: torch.nn.Module, blurred: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One iteration, its backward pass and optimiser step."""
    with torch.autocast(blurred.device.type, torch.bfloat16):
        estimate, _ = members(network)[0](blurred, blurred, None)
    optimiser.zero_grad()
    (estimate - blurred).abs().mean().backward()  # pyright: ignore[reportUnknownMemberType]
    optimiser.step()


@torch.no_grad()
def last(network: torch.nn.Module, blurred: Tensor) -> Tensor:
    """The estimate after three iterations."""
    return list(unroll(members(network), blurred, 3))[-1]


if __name__ == "__main__":
    main()
