"""Curves of quality against the number of iterations (Fig. 6 of the paper), and their peaks."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean

from rich.table import Table

from mtdeblur.evaluation.protocol import averages
from mtdeblur.evaluation.tables import Report
from mtdeblur.metrics.quality import SSIM_CONVENTIONS


def gains(report: Report) -> list[float]:
    """Gain in mean PSNR over the blurred pictures after each iteration, in dB."""
    blurred, *estimates = averages(report.pairs)
    return [figures.psnr - blurred.psnr for figures in estimates]


def peak(curves: Sequence[Sequence[float]]) -> int:
    """The first iteration, from 1, at which the mean of the curves is highest.

    Args:
        curves: one or more, each with a gain in dB for every iteration, all of one length.

    Raises:
        ValueError: if the lengths differ.
    """
    means = [fmean(values) for values in zip(*curves, strict=True)]
    return max(range(len(means)), key=means.__getitem__) + 1


def as_table(reports: Sequence[Report], convention: str = "gaussian") -> Table:
    """Curves of one weights file on several data sets and their mean, with marked peaks.

    Args:
        reports: one a data set, all of the same weights and number of iterations.
        convention: of SSIM.
    """
    curves = [gains(report) for report in reports]
    weights = reports[0].subject.weights
    table = Table(title=f"{weights}: PSNR, its gain and SSIM ({convention}) by iteration; * is the peak")
    table.add_column("iteration", justify="right")
    for report in reports:
        table.add_column(f"{report.subject.dataset}, {len(report.pairs)} pictures", justify="right")
    table.add_column("mean gain", justify="right")
    peaks, overall = [peak([curve]) for curve in curves], peak(curves)
    for iteration, row in enumerate(zip(*(averages(report.pairs) for report in reports), strict=True)):
        cells: list[str] = []
        for figures, curve, best in zip(row, curves, peaks, strict=True):
            quality = f"{figures.psnr:.2f} / {figures.ssim[convention]:.4f}"
            gain = f" {curve[iteration - 1]:+.2f}" if iteration else ""
            cells.append(f"{quality}{gain}{_mark(iteration, best)}")
        mean = f"{fmean(curve[iteration - 1] for curve in curves):+.2f}" if iteration else ""
        cells.append(mean + _mark(iteration, overall))
        table.add_row("blurred" if iteration == 0 else str(iteration), *cells)
    return table


def _mark(iteration: int, best: int) -> str:
    """A star at the peak, and spaces of the same width elsewhere."""
    return " *" if iteration == best else "  "


def as_csv(reports: Sequence[Report]) -> str:
    """Curves as CSV, with a line for each weights file, data set and iteration (0: the blurred pictures)."""
    text = io.StringIO(newline="")
    subject = list(asdict(reports[0].subject)) if reports else []
    writer = csv.writer(text)
    similarities = [f"ssim {name}" for name in SSIM_CONVENTIONS]
    writer.writerow(["iteration", "images", "psnr", "gain", *similarities, *subject])
    for report in reports:
        means = averages(report.pairs)
        for figures in means:
            values = [figures.psnr, figures.psnr - means[0].psnr, *figures.ssim.values()]
            shown = [f"{value:.6f}" for value in values]
            writer.writerow([figures.iteration, figures.images, *shown, *asdict(report.subject).values()])
    return text.getvalue()
