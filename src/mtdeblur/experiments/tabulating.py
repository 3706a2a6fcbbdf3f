"""Tables of results beside the paper's printed figures, in Markdown and CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from mtdeblur.experiments.results import Report, Result

Line = dict[str, str]


def as_markdown(report: Report) -> str:
    """The table, its footnotes and its provenance."""
    lines = [_line(report, result) for result in report.results]
    if report.experiment.ranked:
        _mark_best(report, lines)
    lines.insert(0, _blurred(report))
    headings = [name for name in _headings(report) if any(line.get(name, "") for line in lines)]
    rows = [headings, ["---"] * len(headings)]
    rows += [[line.get(name, "") for name in headings] for line in lines]
    text = [f"# {report.experiment.title}", ""]
    if report.picture:
        text += [f"![{report.experiment.title}]({report.picture})", ""]
    text += [f"| {' | '.join(row)} |" for row in rows] + [""]
    text += [f"[{number}] {note}\n" for number, note in enumerate(report.experiment.footnotes.values(), 1)]
    text += [f"- {name}: {value}" for name, value in report.provenance.items()]
    return "\n".join(text) + "\n"


def _headings(report: Report) -> list[str]:
    cells = dict.fromkeys(name for result in report.results for name in result.row.cells)
    names = ["", *cells]
    for title in report.titles.values():
        names += [f"{title} {metric}{whose}" for metric in ("PSNR", "SSIM") for whose in ("", " (paper)")]
    names += ["Param", "Param at the paper's size", "Param (paper)"]
    return [*names, "Run time", "Run time unsynchronised", "Run time (paper)"]


def _line(report: Report, result: Result) -> Line:
    row, keys = result.row, list(report.experiment.footnotes)
    marks = "".join(f" [{number}]" for number in sorted(keys.index(note) + 1 for note in row.notes))
    line = {"": row.name + marks, **row.cells}
    for name, title in report.titles.items():
        if psnr := result.psnr(name):
            stamp = f" ({report.stamp(result, name)})"
            line[f"{title} PSNR"] = _spread(psnr, 2) + stamp
            line[f"{title} SSIM"] = _spread(result.ssim(name), 3) + stamp
        elif row.reported:
            line[f"{title} PSNR"] = line[f"{title} SSIM"] = "reported only"
        if name in row.paper:
            psnr, ssim = row.paper[name]
            line |= {f"{title} PSNR (paper)": _printed(psnr, 2), f"{title} SSIM (paper)": _printed(ssim, 3)}
    if result.parameters is not None:
        line["Param"] = f"{result.parameters:,} ({report.stamp(result)})"
    if result.full is not None:
        line["Param at the paper's size"] = f"{result.full:,}"
    if result.run_time is not None:
        stamp = report.run_time_stamp(result)
        synchronised, unsynchronised = (f"{seconds:.3g} s ({stamp})" for seconds in result.run_time)
        line |= {"Run time": synchronised, "Run time unsynchronised": unsynchronised}
    return line | {"Param (paper)": row.parameters or "", "Run time (paper)": row.run_time or ""}


def _blurred(report: Report) -> Line:
    """The line of the test sets' blurred pictures."""
    line = {"": "blurred pictures"}
    for name, title in report.titles.items():
        stamp = report.blurred_stamp(name)
        words = f" ({stamp})" if stamp else ""
        for result in report.results:
            if psnr := result.psnr(name, 0):  # the same in every row
                line.setdefault(f"{title} PSNR", f"{psnr[0]:.2f}{words}")
                line.setdefault(f"{title} SSIM", f"{result.ssim(name, 0)[0]:.3f}{words}")
    return line


def _mark_best(report: Report, lines: Sequence[Line]) -> None:
    """Mark the best three of each column of PSNR and SSIM, separately for ours and the paper's."""
    ranked = [(line, one) for line, one in zip(lines, report.results, strict=True) if not one.row.weights]
    for name, title in report.titles.items():
        paper = [result.row.paper.get(name) for _, result in ranked]
        columns: dict[str, list[float | None]] = {
            f"{title} PSNR": [fmean(psnr) if (psnr := one.psnr(name)) else None for _, one in ranked],
            f"{title} SSIM": [fmean(ssim) if (ssim := one.ssim(name)) else None for _, one in ranked],
            f"{title} PSNR (paper)": [None if printed is None else printed[0] for printed in paper],
            f"{title} SSIM (paper)": [None if printed is None else printed[1] for printed in paper],
        }
        for column, values in columns.items():
            best = sorted({value for value in values if value is not None}, reverse=True)
            for (line, _), value in zip(ranked, values, strict=True):
                if value in best[:3]:
                    line[column] += f" **{('1st', '2nd', '3rd')[best.index(value)]}**"


def _spread(values: Sequence[float], digits: int) -> str:
    """The mean and, for several seeds, the sample standard deviation."""
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {stdev(values):.{digits}f}"


def _printed(figure: float, digits: int) -> str:
    """A figure as printed in the paper; a few figures of Table 3 have three digits."""
    return max(f"{figure:.{digits}f}", str(figure), key=len)


def as_csv(report: Report) -> str:
    """One figure a line with the paper's figure, its stamp and its provenance."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(
        ["row", "iteration", "quantity", "value", "spread", "seeds", "paper", "stamp", *report.provenance]
    )
    for result in report.results:
        for cells in _figures(report, result):
            writer.writerow([result.row.name, *cells, *report.provenance.values()])
    return text.getvalue()


def _figures(report: Report, result: Result) -> Iterator[list[str]]:
    """Lines of the CSV: the figures of every step, with the paper's beside the last."""
    row = result.row
    last = row.iterations
    for name, title in report.titles.items():
        paper = row.paper.get(name, ("", ""))
        measured = result.figures.get(name, [()])
        for step in range(len(measured[0])):
            final = step == len(measured[0]) - 1
            both = result.psnr(name, step), result.ssim(name, step)
            for metric, values, printed in zip(("PSNR", "SSIM"), both, paper, strict=True):
                stamp = report.stamp(result, name) if step else report.blurred_stamp(name)
                beside = [str(printed) if final else "", stamp]
                yield [str(step), f"{title} {metric}", *_statistics(values), *beside]
        if name in row.paper and name not in result.figures:
            for metric, printed in zip(("PSNR", "SSIM"), paper, strict=True):
                yield [str(last), f"{title} {metric}", "", "", "0", str(printed), "reported"]
    printed = row.parameters or ""
    if result.parameters is not None:
        yield ["", "parameters", str(result.parameters), "", "", printed, report.stamp(result)]
    if result.full is not None:
        yield ["", "parameters at the paper's size", str(result.full), "", "", printed, ""]
    if result.run_time is not None:
        for name, seconds in zip(("", " unsynchronised"), result.run_time, strict=True):
            beside = [row.run_time or "", report.run_time_stamp(result)]
            yield ["", f"run time{name} in s", f"{seconds:.6g}", "", "", *beside]


def _statistics(values: Sequence[float]) -> list[str]:
    """Mean, sample standard deviation, and number of values."""
    spread = f"{stdev(values):.6f}" if len(values) > 1 else ""
    return [f"{fmean(values):.6f}", spread, str(len(values))]
