"""A benchmark's report as Markdown and JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import mtdeblur
from mtdeblur.evaluation.benchmark import PLAIN, Figures
from mtdeblur.evaluation.provenance import commit, processor_name

_HEADINGS = (
    "network",
    "engine",
    "precision",
    "size",
    "s",
    "s a megapixel",
    "times plain",
    "times plain {first}",
    "GFLOP/s",
    "core s",
    "of the system",
    "peak MiB",
    "PSNR change, dB",
)


@dataclass(frozen=True)
class Conditions:
    """Under which figures were measured.

    Attributes:
        processor: the system's name of it.
        cores: that the system has.
        threads: of each process.
        instructions: the widest that PyTorch uses.
        peaks: GFLOP/s of large matrix products, by precision.
        versions: of the packages.
        commit: of the program, None outside a checkout.
        repeats: measured turns.
        iterations: steps of each network.
        pictures: for the PSNR.
    """

    processor: str
    cores: int | None
    threads: int
    instructions: str
    peaks: dict[str, float]
    versions: dict[str, str]
    commit: str | None
    repeats: int
    iterations: int
    pictures: str


def conditions(
    threads: int, peaks: dict[str, float], repeats: int, iterations: int, pictures: str
) -> Conditions:
    """The conditions of this process and machine."""
    versions = {
        "mtdeblur": mtdeblur.__version__,
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
    }
    return Conditions(
        processor=processor_name(),
        cores=os.cpu_count(),
        threads=threads,
        instructions=torch.backends.cpu.get_cpu_capability(),
        peaks=peaks,
        versions=versions,
        commit=commit(),
        repeats=repeats,
        iterations=iterations,
        pictures=pictures,
    )


def as_json(given: Conditions, figures: Sequence[Figures]) -> str:
    """Conditions and figures as JSON."""
    content: dict[str, Any] = {"conditions": asdict(given), "figures": [asdict(one) for one in figures]}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def as_markdown(given: Conditions, figures: Sequence[Figures]) -> str:
    """Conditions in words, and the figures as a table."""
    peaks = ", ".join(f"{name} {rate:,.0f}" for name, rate in given.peaks.items())
    versions = ", ".join(f"{name} {version}" for name, version in given.versions.items())
    lines = [
        f"{given.processor}, {given.cores} cores, {given.threads} threads, {given.instructions}. "
        f"Large matrix products, GFLOP/s: {peaks}. {versions}, commit {given.commit or 'unknown'}.",
        "",
        f"Steps: {given.iterations}. Medians of {given.repeats} turns after one to warm up; a picture is an "
        f"array before and after. `{PLAIN}`: PyTorch, float32, NCHW, eager. PSNR: {given.pictures}.",
        "",
    ]
    first = figures[0].case.network
    rows = [[heading.format(first=first) for heading in _HEADINGS], *map(_row, figures)]
    rows.insert(1, ["---"] * 4 + ["---:"] * (len(_HEADINGS) - 4))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _row(one: Figures) -> list[str]:
    case = one.case
    megapixels = case.height * case.width / 1e6
    return [
        case.network,
        case.engine,
        case.precision,
        f"{case.width}x{case.height}",
        f"{one.seconds:.3f}",
        f"{one.seconds / megapixels:.3f}",
        f"{one.times_plain:.2f}",
        "" if one.times_reference is None else f"{one.times_reference:.1f}",
        f"{one.gflops:,.0f}",
        f"{one.seconds_of_cores:.2f}",
        f"{one.seconds_of_system:.2f}",
        "" if one.peak_mib is None else f"{one.peak_mib:,.0f}",
        "" if one.psnr_change is None else f"{one.psnr_change:+.3f}",
    ]
