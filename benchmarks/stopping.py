"""Early stopping: what it saves, what it costs and what it spares, as a curve over its thresholds.

    python benchmarks/stopping.py DATASET... --weights maxim-gopro --iterations 3 --sharp -o curve.png

All steps run once over every picture. Each setting of the thresholds is then replayed on the estimates, so
that many cost little more than one. Work is counted in steps, weighted by pixels, and in processor seconds
of the steps that a setting runs and of its decisions. With --sharp, the sharp pictures go in as well, as
they are; PSNR says how far they come out from what went in, at most 60 dB.

Networks that tile exactly are run anew for each threshold.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from torch import Tensor

import mtdeblur
from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.evaluation.provenance import commit, device_name, processor_name
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.reblur import explained
from mtdeblur.inference.stopping import settled
from mtdeblur.inference.windows import unroll_windows
from mtdeblur.media.pictures import read_pixels
from mtdeblur.networks.contract import ProgressiveNetwork, State
from mtdeblur.networks.unroll import unroll
from mtdeblur.weights.catalogue import Stopping

CEILING = 60.0  # dB, for pictures that come out as they went in


@dataclass
class Window:
    """The estimates of one window, with processor seconds and the explained share of each step."""

    estimates: list[Tensor] = field(default_factory=list[Tensor])
    seconds: list[float] = field(default_factory=list[float])
    shares: list[float] = field(default_factory=list[float])


@dataclass(frozen=True)
class Figures:
    """What one setting did to one picture: PSNR in dB, work as shares of all steps."""

    psnr: float
    steps: float
    seconds: float


class Counted:
    """A network that counts the pixels it runs over."""

    def __init__(self, network: ProgressiveNetwork) -> None:
        self.network, self.contract, self.pixels = network, network.contract, 0

    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration."""
        self.pixels += blurred.shape[-2] * blurred.shape[-1]
        return self.network(blurred, estimate, state)


def tensor(path: Path) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    pixels = read_pixels(path)
    values: Tensor = torch.tensor(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)
    return values.permute(2, 0, 1)[None]


def psnr(estimate: Tensor, sharp: Tensor) -> float:
    """Of an estimate rounded to 8 bits."""
    error = (estimate.clamp(0, 1) * 255).round() / 255 - sharp
    return min(CEILING, float(-10 * error.square().mean().clamp(min=1e-9).log10()))


def blend(deblurrer: Deblurrer, blurred: Tensor, settle: Any) -> Tensor:
    """The last estimate of a picture, whose windows' estimates come from `settle` alone."""
    side = deblurrer.window(*blurred.shape[-2:])
    if side is None:
        runs = settle(unroll(deblurrer.networks, blurred, deblurrer.steps), blurred)
    else:
        runs = unroll_windows(deblurrer.networks, blurred, deblurrer.steps, side, settle=settle)
    *_, last = runs
    return last


def record(deblurrer: Deblurrer, blurred: Tensor, kept: Path | None) -> list[Window]:
    """Run all steps over all windows, or read them from an earlier run."""
    windows: list[Window] = []
    stored = np.load(kept) if kept is not None and kept.exists() else None

    def run(estimates: Iterator[Tensor], part: Tensor) -> Iterator[Tensor]:
        window, number = Window(), len(windows)
        windows.append(window)
        return watched(estimates, part, window, number)

    def watched(estimates: Iterator[Tensor], part: Tensor, window: Window, number: int) -> Iterator[Tensor]:
        for step in range(len(deblurrer.steps)):
            started = time.process_time()
            if stored is None:
                window.estimates.append(next(estimates))
                window.seconds.append(time.process_time() - started)
            else:
                window.estimates.append(torch.tensor(stored["est"][step, number][None]).float())
                window.seconds.append(float(stored["seconds"][step, number]) if "seconds" in stored else 0)
            window.shares.append(explained(part[0], window.estimates[-1][0].clamp(0, 1)))
            yield window.estimates[-1]

    blend(deblurrer, blurred, run)
    if kept is not None and stored is None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        whole = [
            [w.estimates[step][0].half().numpy() for w in windows] for step in range(len(deblurrer.steps))
        ]
        seconds = [[w.seconds[step] for w in windows] for step in range(len(deblurrer.steps))]
        np.savez(kept, est=np.array(whole), seconds=np.array(seconds))
    return windows


def replay(
    deblurrer: Deblurrer, windows: list[Window], blurred: Tensor, sharp: Tensor, stopping: Stopping
) -> Figures:
    """What a setting does to a picture with recorded windows."""
    drawn = [0] * len(windows)
    waiting = iter(range(len(windows)))

    def settle(_: Iterator[Tensor], part: Tensor) -> Iterator[Tensor]:
        number = next(waiting)
        window = windows[number]

        def estimates() -> Iterator[Tensor]:
            for estimate in window.estimates:
                drawn[number] += 1
                yield estimate

        def share(_: Tensor, __: Tensor) -> float:
            return window.shares[drawn[number] - 1]

        rule = partial(settled, stopping=stopping, number=len(deblurrer.steps), explain=share)
        return rule(estimates(), part)

    quality = psnr(blend(deblurrer, blurred, settle), sharp)
    sizes = [window.estimates[0].numel() for window in windows]
    steps = sum(size * number for size, number in zip(sizes, drawn, strict=True))
    seconds = sum(sum(w.seconds[:number]) for w, number in zip(windows, drawn, strict=True))
    everything = sum(sum(w.seconds) for w in windows)
    return Figures(
        quality,
        steps / sum(sizes) / len(deblurrer.steps),
        seconds / everything if everything else float("nan"),
    )


def run_tiles(
    deblurrer: Deblurrer, blurred: Tensor, sharp: Tensor, settings: Sequence[Stopping]
) -> list[Figures]:
    """Run a network that tiles exactly with each setting; work relative to the first, which never stops."""
    networks, rows = deblurrer.networks, list[tuple[float, int, float]]()
    for stopping in settings:
        counted = [Counted(network) for network in networks]
        deblurrer.networks, deblurrer.stopping = cast("Any", counted), stopping
        started = time.process_time()
        *_, last = deblurrer.estimates(blurred)
        seconds = time.process_time() - started
        rows.append((psnr(last, sharp), sum(network.pixels for network in counted), seconds))
    deblurrer.networks = networks
    return [Figures(quality, pixels / rows[0][1], seconds / rows[0][2]) for quality, pixels, seconds in rows]


def draw(
    path: Path, names: Sequence[str], settings: Sequence[Stopping], table: Sequence[Sequence[Figures]]
) -> None:
    """Steps run against the change in PSNR to all steps, a line for each data set."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(7, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    for number, name in enumerate(names):
        first = table[0][number].psnr
        for shares in dict.fromkeys(one.share for one in settings):
            rows = [row[number] for row, one in zip(table, settings, strict=True) if one.share == shares]
            places = [100 * one.steps for one in rows], [one.psnr - first for one in rows]
            style = "o--" if shares is None else "o-"
            label = name if shares is None else f"{name}, explained changes"
            axes.plot(*places, style, color=f"C{number}", label=label)
    axes.set(xlabel="steps run, % of all, weighted by pixels", ylabel="PSNR, dB above that of all steps")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main(
    datasets: Annotated[list[Path], typer.Argument(help="Folders of pairs.")],
    weights: Annotated[str, typer.Option(help="Name or file.")] = "maxim-gopro",
    iterations: Annotated[int, typer.Option(min=1, help="Number of steps.")] = 3,
    change: Annotated[list[float] | None, typer.Option(help="Thresholds, in grey levels of 255.")] = None,
    share: Annotated[
        list[str] | None, typer.Option(help="Explained shares, as 0.2-0.8, or none; with windows.")
    ] = None,
    sharp: Annotated[bool, typer.Option("--sharp", help="Put the sharp pictures in as well.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Folder for the estimates, to use them again.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The figure.")] = None,
) -> None:
    """Print the table and draw the figure."""
    deblurrer = mtdeblur.load(weights, iterations=iterations, device="cpu")
    over_windows = deblurrer.contract.global_operation is not None
    settings = [Stopping(change=0, share=None)]
    for text in share or (["none", "0.2-0.8"] if over_windows else ["none"]):
        shares = None if text == "none" else cast("tuple[float, float]", tuple(map(float, text.split("-"))))
        settings += [Stopping(change=one / 255, share=shares) for one in change or [0, 1, 2, 3, 4]]
    names: list[str] = []
    columns: list[list[Figures]] = []
    blurred_psnr: list[float] = []
    for dataset in datasets:
        for side in ("blur", "sharp") if sharp else ("blur",):
            names.append(dataset.name if side == "blur" else f"{dataset.name}, sharp")
            rows: list[list[Figures]] = []
            before: list[float] = []
            for pair in find_pairs(dataset):
                blurred, truth = tensor(pair.blur if side == "blur" else pair.sharp), tensor(pair.sharp)
                before.append(psnr(blurred, truth))
                if over_windows:
                    place = keep and keep / f"{dataset.name}-{side}" / f"{pair.blur.stem}.npz"
                    windows = record(deblurrer, blurred, place)
                    rows.append([replay(deblurrer, windows, blurred, truth, one) for one in settings])
                else:
                    rows.append(run_tiles(deblurrer, blurred, truth, settings))
            blurred_psnr.append(fmean(before))
            columns.append([_mean(column) for column in zip(*rows, strict=True)])
    table = list(zip(*columns, strict=True))
    print(
        f"{processor_name()}; {device_name(torch.device('cpu'))}; commit {commit()}; {deblurrer.describe([])}"
    )
    print("PSNR in dB / steps run / processor seconds of the steps, in % of all")
    print(f"| change | explained share | {' | '.join(names)} |\n|{' --- |' * (len(names) + 2)}")
    print(f"| in | | {' | '.join(f'{value:.2f}' for value in blurred_psnr)} |")
    for stopping, row in zip(settings, table, strict=True):
        least = "" if stopping.share is None else "-".join(f"{one:g}" for one in stopping.share)
        cells = (f"{one.psnr:.2f} / {100 * one.steps:.0f} / {100 * one.seconds:.0f}" for one in row)
        print(f"| {255 * stopping.change:g} | {least} | {' | '.join(cells)} |", flush=True)
    if output is not None:
        draw(output, names, settings, table)


def _mean(figures: Sequence[Figures]) -> Figures:
    return Figures(*(fmean(getattr(one, name) for one in figures) for name in ("psnr", "steps", "seconds")))


if __name__ == "__main__":
    typer.run(main)
