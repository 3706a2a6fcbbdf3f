"""Evaluation reports as tables for the terminal, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mtdeblur.errors import counted
from mtdeblur.evaluation.protocol import Figures, PairFigures, averages
from mtdeblur.evaluation.provenance import Subject
from mtdeblur.metrics.quality import PSNR_CONVENTION, SSIM_CONVENTIONS

LISTED_IMAGES = 40
"""Maximum number of pictures for which the terminal lists each one."""


@dataclass(frozen=True)
class Report:
    """Figures of a data set and their subject."""

    subject: Subject
    pairs: tuple[PairFigures, ...]


def as_json(report: Report) -> str:
    """The report as JSON: subject, conventions, averages per iteration, and every picture's figures.

    The PSNR of equal pictures, which is infinite, is null because JSON has no infinity.
    """
    content: dict[str, Any] = {
        "subject": asdict(report.subject),
        "conventions": {
            "psnr": PSNR_CONVENTION,
            "ssim": SSIM_CONVENTIONS,
            "iteration 0": "the blurred picture",
        },
        "averages": [_plain(figures) for figures in averages(report.pairs)],
        "images": [
            {"image": pair.name, "iterations": [_plain(figures) for figures in pair.iterations]}
            for pair in report.pairs
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _plain(figures: Figures) -> dict[str, Any]:
    return asdict(figures) | {"psnr": figures.psnr if math.isfinite(figures.psnr) else None}


def as_csv(report: Report) -> str:
    """The report as CSV, one figure a line with its convention and subject; averages are named `mean`."""
    text = io.StringIO(newline="")
    subject = asdict(report.subject)
    writer = csv.writer(text)
    writer.writerow(["image", "images", "iteration", "metric", "value", "convention", *subject])
    for name, figures in _lines(report):
        shared = [name, figures.images, figures.iteration]
        writer.writerow([*shared, "psnr", f"{figures.psnr:.6f}", PSNR_CONVENTION, *subject.values()])
        for convention, value in figures.ssim.items():
            meaning = SSIM_CONVENTIONS[convention]
            writer.writerow([*shared, f"ssim {convention}", f"{value:.6f}", meaning, *subject.values()])
    return text.getvalue()


def _lines(report: Report) -> Iterator[tuple[str, Figures]]:
    for pair in report.pairs:
        for figures in pair.iterations:
            yield pair.name, figures
    for figures in averages(report.pairs):
        yield "mean", figures


def as_tables(report: Report) -> RenderableType:
    """The report for a terminal: averages, the PSNR of up to 40 pictures, conventions, subject."""
    parts: list[RenderableType] = [_averages_table(report)]
    if len(report.pairs) <= LISTED_IMAGES:
        parts.append(_images_table(report))
    parts += [Text(line) for line in _footnotes(report)]
    return Group(*parts)


def _averages_table(report: Report) -> Table:
    means = averages(report.pairs)
    table = Table(title=f"Mean over {counted(means[0].images, 'picture')} of {report.subject.dataset}")
    for heading in ("iteration", "PSNR", "gain", *(f"SSIM {name}" for name in SSIM_CONVENTIONS)):
        table.add_column(heading, justify="right")
    for figures in means:
        iteration = "blurred" if figures.iteration == 0 else str(figures.iteration)
        gain = "" if figures.iteration == 0 else f"{figures.psnr - means[0].psnr:+.2f}"
        table.add_row(
            iteration, f"{figures.psnr:.2f}", gain, *(f"{value:.4f}" for value in figures.ssim.values())
        )
    return table


def _images_table(report: Report) -> Table:
    table = Table(title="PSNR of each picture by iteration")
    table.add_column("picture", overflow="fold")
    for figures in report.pairs[0].iterations:
        table.add_column("blurred" if figures.iteration == 0 else str(figures.iteration), justify="right")
    for pair in report.pairs:
        table.add_row(pair.name, *(f"{figures.psnr:.2f}" for figures in pair.iterations))
    return table


def _footnotes(report: Report) -> Iterator[str]:
    subject = report.subject
    yield f"PSNR: {PSNR_CONVENTION}; averaged over the pictures in dB"
    for name, meaning in SSIM_CONVENTIONS.items():
        yield f"SSIM {name}: {meaning}"
    iterations = counted(subject.iterations, "iteration")
    yield f"weights: {subject.weights} (sha256 {subject.weights_sha256}), {iterations}"
    yield f"program: mtdeblur {subject.version}, commit {subject.commit or 'unknown'}"
    yield f"device: {subject.device}, {subject.precision}, {subject.engine}, tile {subject.tile}"
