"""Drawing of the paper's figures from measured results."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.data.disk.pairs import Pair
from mtdeblur.errors import require
from mtdeblur.experiments.material import Material, TestSet
from mtdeblur.experiments.measuring import Subject
from mtdeblur.experiments.results import Report
from mtdeblur.media.pictures import read_pixels
from mtdeblur.metrics.arrays import psnr
from mtdeblur.metrics.spectrum import spectral_density

Pixels = NDArray[Any]
Dot = tuple[str, str, float, float]
"""Name, colour, parameters or run time, PSNR."""
Subjects = Mapping[str, Sequence[Subject]]
Part = tuple[slice, slice]
"""Rows and columns."""
SIDE = 160  # of an enlarged part in pixels, at most
PAIRS = 3  # from each test set, at most


def draw(report: Report, subjects: Subjects, material: Material) -> dict[str, bytes]:
    """The figure with its stamps as PNG and PDF, by suffix.

    Args:
        report: the results.
        subjects: row name to its runs.
        material: with the test sets.

    Raises:
        UserError: if matplotlib is missing.
    """
    figures = require("matplotlib.figure", "reproduce", "drawing")
    figure = figures.Figure(layout="constrained", dpi=150)
    _KINDS[report.experiment.kind](figure, report, subjects, material)
    figure.suptitle(f"{report.experiment.title}\n{report.summary}", fontsize=9)
    files: dict[str, bytes] = {}
    for kind in ("png", "pdf"):
        file = io.BytesIO()
        figure.savefig(file, format=kind)
        files[f".{kind}"] = file.getvalue()
    return files


def _draw_progress(figure: Any, report: Report, subjects: Subjects, material: Material) -> None:
    """Fig. 4: blurred picture, estimates of all iterations and sharp picture, with an enlarged part below."""
    subject = next(iter(subjects.values()))[0]
    pair = _pairs(material)[0]
    sharp = read_pixels(pair.sharp)
    pictures = [*subject.pictures(read_pixels(pair.blur)), sharp]
    part = furthest_part(pictures[0], sharp)
    names = ["blurred", *(f"iteration {number}" for number in range(1, len(pictures) - 1)), "sharp"]
    figure.set_size_inches(2 * len(pictures), 3.6)
    axes = figure.subplots(2, len(pictures), squeeze=False)
    for column, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        quality = "" if name == "sharp" else f"\n{psnr(picture, sharp):.2f} dB"
        _show(axes[0][column], picture, name + quality)
        _show(axes[1][column], picture[part])


def _draw_spectrum(figure: Any, report: Report, subjects: Subjects, material: Material) -> None:
    """Fig. 5: spectral density after each iteration, averaged over the test set; a panel for each row."""
    figure.set_size_inches(5 * len(subjects), 4)
    panels = figure.subplots(1, len(subjects), squeeze=False, sharey=True)[0]
    for axes, (name, (subject, *_)) in zip(panels, subjects.items(), strict=True):
        pictures = [
            [*subject.pictures(read_pixels(pair.blur)), read_pixels(pair.sharp)] for pair in _pairs(material)
        ]
        spectra = np.array([[spectral_density(picture) for picture in line] for line in pictures])
        frequency = spectra[0, 0, 0]  # of (pairs, pictures, 2, bins)
        blurred, *estimates, sharp = spectra[:, :, 1].mean(axis=0)
        axes.semilogy(frequency, sharp, color="black", label="sharp")
        axes.semilogy(frequency, blurred, color="black", linestyle="dotted", label="blurred")
        for number, estimate in enumerate(estimates, 1):
            colour = (number / len(estimates), 0.2, 1 - number / len(estimates))  # from blue to red
            axes.semilogy(frequency, estimate, color=colour, label=f"iteration {number}")
        axes.set(title=name, xlabel="spatial frequency (cycles a pixel)", ylabel="power spectral density")
        axes.legend(fontsize=7)


def _draw_iterations(figure: Any, report: Report, subjects: Subjects, material: Material) -> None:
    """Fig. 6: PSNR and SSIM after each iteration, with a curve for each level; dotted: final result of MS."""
    figure.set_size_inches(10, 4)
    left, right = figure.subplots(1, 2)
    for axes, metric in ((left, "PSNR"), (right, "SSIM")):
        for result in report.results:
            (name,) = report.experiment.sets_of(result.row)
            measure = result.psnr if metric == "PSNR" else result.ssim
            colour = f"C{list(report.titles).index(name)}"
            steps = range(1, len(result.figures[name][0]))
            means = [float(np.mean(measure(name, step))) for step in steps]
            if result.row.name.startswith("MS"):
                axes.axhline(means[-1], color=colour, linestyle="dotted", label=result.row.name)
                continue
            axes.plot(steps, means, color=colour, marker="o", label=result.row.name)
            spread = [float(np.std(measure(name, step))) for step in steps]
            axes.fill_between(
                steps, np.subtract(means, spread), np.add(means, spread), color=colour, alpha=0.2
            )
        axes.set(xlabel="iteration", ylabel="PSNR (dB)" if metric == "PSNR" else "SSIM")
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", fontsize=7)


def _draw_scatter(figure: Any, report: Report, subjects: Subjects, material: Material) -> None:
    """Fig. 2: PSNR against parameters and run time, as measured here (top) and as printed (bottom)."""
    figure.set_size_inches(10, 7)
    (name,) = report.titles
    panels = figure.subplots(2, 2)
    dots: list[list[Dot]] = [[], [], [], []]
    for number, result in enumerate(report.results):
        row, colour = result.row, f"C{number}"
        if result.parameters is not None and result.run_time is not None:
            quality = float(np.mean(result.psnr(name)))
            dots[0].append((row.name, colour, result.parameters / 1e6, quality))
            dots[1].append((row.name, colour, result.run_time.synchronised, quality))
        for place, printed in ((2, row.parameters), (3, row.run_time)):
            if printed is not None:
                dots[place].append((row.name, colour, float(printed.split()[0]), row.paper[name][0]))
    for axes, panel_dots in zip(panels.flat, dots, strict=True):
        _scatter(axes, panel_dots)
    for line, whose in zip(panels, ("measured here", "printed in the paper"), strict=True):
        line[0].set(xlabel="parameters (millions)", ylabel="PSNR (dB)", title=whose)
        line[1].set(xlabel="run time (s)", ylabel="PSNR (dB)", title=whose)
    legend = {  # a row is in the upper panels, the lower ones, or both
        label: handle
        for axes in panels.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(legend.values(), legend.keys(), loc="outside right center", fontsize=8)


def _draw_costs(figure: Any, report: Report, subjects: Subjects, material: Material) -> None:
    """Gain in PSNR after each step against its total cost; a panel a test set, a curve a row."""
    figure.set_size_inches(5 * len(report.titles) + 2, 4)
    panels = figure.subplots(1, len(report.titles), squeeze=False)[0]
    costs = {name: subject.costs() for name, (subject, *_) in subjects.items()}
    for axes, (name, title) in zip(panels, report.titles.items(), strict=True):
        ends: list[float] = []
        for number, result in enumerate(report.results):
            cost = costs[result.row.name]
            blurred = np.array(result.psnr(name, 0))
            gains = [np.array(result.psnr(name, step)) - blurred for step in range(1, len(cost) + 1)]
            means = [float(gain.mean()) for gain in gains]
            spread = [float(gain.std(ddof=1)) if len(gain) > 1 else 0.0 for gain in gains]
            label, colour = result.row.name, f"C{number}"
            axes.errorbar(cost, means, spread, color=colour, marker="o", capsize=3, label=label)
            ends.append(means[-1])
        lowest, highest = min(0.0, *ends), max(0.0, *ends)
        axes.set_ylim(bottom=lowest - 0.2 * (highest - lowest))  # crops the much lower coarse scales
        axes.set(xlabel="multiply-accumulates a pixel (thousands)", ylabel="gain in PSNR (dB)", title=title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)


def _draw_comparison(figure: Any, report: Report, subjects: Subjects, material: Material) -> None:
    """Fig. 7: a column for each picture: the whole, then a part blurred, by each network, and sharp."""
    reference = next(iter(subjects.values()))[0]
    chosen = [
        (report.titles[name], pair)
        for name, parts in material.sets.items()
        for pair in most_blurred(parts, reference)
    ]
    names = ["whole", "blurred", *subjects, "sharp"]
    figure.set_size_inches(2.2 * len(chosen), 2.3 * len(names))
    heights = [0.75] + [1] * (len(names) - 1)
    grid = figure.subplots(len(names), len(chosen), squeeze=False, height_ratios=heights)
    for column, (title, pair) in zip(grid.T, chosen, strict=True):
        blurred, sharp = read_pixels(pair.blur), read_pixels(pair.sharp)
        estimates = [subject.pictures(blurred)[-1] for subject, *_ in subjects.values()]
        part = furthest_part(blurred, sharp)
        _show(column[0], blurred, f"{title}: {pair.name}")
        _frame(column[0], part)
        for axes, picture in zip(column[1:], [blurred, *estimates, sharp], strict=True):
            quality = "" if picture is sharp else f"{psnr(picture, sharp):.2f} dB"
            _show(axes, picture[part], quality)
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_ylabel(name)
    figure.supxlabel("framed part enlarged; PSNR over the whole picture", fontsize=8)


def most_blurred(parts: Sequence[TestSet], subject: Subject) -> list[Pair]:
    """The pair with the lowest PSNR of the blurred picture in each of a few sections of a test set.

    Args:
        parts: of the test set; of pairs with the same name, the most blurred one counts.
        subject: with measurements on them.
    """
    by_name: dict[str, tuple[float, Pair]] = {}
    for part in parts:
        for pair, figures in zip(part.pairs, subject.pair_figures(part), strict=True):
            candidate = (figures.iterations[0].psnr, pair)
            by_name[pair.name] = min(candidate, by_name.get(pair.name, candidate))
    pairs = list(by_name.values())
    length = -(-len(pairs) // PAIRS)
    return [min(pairs[start : start + length])[1] for start in range(0, len(pairs), length)]


def furthest_part(blurred: Pixels, sharp: Pixels) -> Part:
    """The square part with the largest summed squared difference between blurred and sharp picture.

    Args:
        blurred: (H, W, 3).
        sharp: (H, W, 3).

    Returns:
        Its rows and columns.
    """
    error: NDArray[np.float64] = np.square(blurred.astype(np.float64) - sharp).sum(axis=2)
    height, width = blurred.shape[:2]
    side = min(SIDE, height // 2, width // 2)
    above = np.pad(error, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)  # sums above and left of a corner
    sums = above[side:, side:] - above[:-side, side:] - above[side:, :-side] + above[:-side, :-side]
    top, left = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + side), slice(left, left + side)


def _pairs(material: Material) -> list[Pair]:
    return [pair for parts in material.sets.values() for part in parts for pair in part.pairs]


def _frame(axes: Any, part: Part) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = part
    corner = (columns.start, rows.start)
    side = rows.stop - rows.start
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="yellow"))


def _show(axes: Any, picture: Pixels, title: str = "") -> None:
    """Show a picture without ticks."""
    axes.imshow(picture / np.iinfo(picture.dtype).max)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=7)


def _scatter(axes: Any, dots: Sequence[Dot]) -> None:
    for name, colour, cost, quality in dots:
        axes.scatter(cost, quality, color=colour, label=name)
    axes.margins(0.2)
    axes.set_xlim(0, 1.1 * max((cost for _, _, cost, _ in dots), default=1.0))


_KINDS: dict[str, Callable[[Any, Report, Subjects, Material], None]] = {
    "progress": _draw_progress,
    "spectrum": _draw_spectrum,
    "iterations": _draw_iterations,
    "scatter": _draw_scatter,
    "costs": _draw_costs,
    "comparison": _draw_comparison,
}
