"""Tables: every figure stamped, beside the paper's, with footnotes and provenance."""

import csv
import io

import numpy as np
import pytest

from mtdeblur.evaluation.protocol import Figures
from mtdeblur.evaluation.runtime import RunTime
from mtdeblur.experiments.catalogue import Experiment, Row
from mtdeblur.experiments.results import Report, Result
from mtdeblur.experiments.tabulating import as_csv, as_markdown

PSNR = {"one": [30.0, 31.0, 33.0], "two": [29.0, 29.5, 30.0], "three": [28.0, 28.0, 28.0]}


def steps(psnr):
    """Figures of the blurred picture and of two steps."""
    return [Figures(step, psnr - 2 + step, {"volume": psnr / 100 - 0.02 + step / 100}) for step in range(3)]


@pytest.fixture
def report():
    rows = [
        Row(
            name=name,
            cells={"Kind": "own"},
            iterations=2,
            paper={"gopro": (27.5 + k, 0.8 + k / 100)},
            notes=("why",),
        )
        for k, name in enumerate(PSNR)
    ]
    rows.append(
        Row(
            name="cited",
            cells={"Kind": "-"},
            reported=True,
            paper={"gopro": (29.591, 0.9)},
            run_time="1 hour",
        )
    )
    results = [
        Result(
            row,
            {"gopro": [steps(psnr) for psnr in PSNR[row.name]]},
            "volume",
            1234,
            2635523,
            RunTime(0.5, 0.25),
        )
        for row in rows[:3]
    ]
    asked = Experiment(
        title="Table 9",
        test_sets=("gopro",),
        ssim="volume",
        ranked=True,
        rows=tuple(rows),
        footnotes={"why": "Because."},
    )
    return Report(
        asked,
        (*results, Result(rows[3])),
        {"gopro": "GoPro"},
        {"gopro": "simulated"},
        "smoke",
        "160x90",
        {"commit": "abc"},
    )


def read_markdown(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_every_measured_cell_is_stamped_and_stands_beside_the_papers(report):
    blurred, one, _, _, cited = read_markdown(as_markdown(report))
    mean, spread = np.mean(PSNR["one"]), np.std(PSNR["one"], ddof=1)
    assert one["GoPro PSNR"] == f"{mean:.2f} ± {spread:.2f} (smoke, simulated) **1st**"
    assert one["GoPro SSIM"].startswith(f"{mean / 100:.3f} ± {spread / 100:.3f} (smoke, simulated)")
    assert one["GoPro PSNR (paper)"] == "27.50"
    assert blurred["GoPro PSNR"] == "28.00 (smoke, simulated)"
    assert cited["GoPro PSNR"] == cited["GoPro SSIM"] == "reported only"
    assert cited["GoPro PSNR (paper)"] == "29.591 **1st**"
    assert one["Param"] == "1,234 (smoke)"
    assert one["Param at the paper's size"] == "2,635,523"
    assert (one["Run time"], one["Run time unsynchronised"]) == ("0.5 s (smoke)", "0.25 s (smoke)")
    assert cited["Run time (paper)"] == "1 hour"


def test_the_best_three_are_marked_ours_and_the_papers_apart(report):
    _, *rows = read_markdown(as_markdown(report))
    ours = [row["GoPro PSNR"].rpartition(" ")[2] for row in rows]
    assert ours == ["**1st**", "**2nd**", "**3rd**", "only"]
    papers = [row["GoPro PSNR (paper)"] for row in rows]
    assert papers == ["27.50", "28.50 **3rd**", "29.50 **2nd**", "29.591 **1st**"]


def test_footnotes_and_provenance_stand_below(report):
    text = as_markdown(report)
    assert read_markdown(text)[1][""] == "one [1]"
    assert "[1] Because." in text
    assert "- commit: abc" in text


def test_the_csv_has_a_line_for_each_figure_of_each_step(report):
    lines = list(csv.DictReader(io.StringIO(as_csv(report))))
    one = [line for line in lines if line["row"] == "one" and line["quantity"] == "GoPro PSNR"]
    assert [float(line["value"]) for line in one] == pytest.approx(
        [np.mean(PSNR["one"]) - 2 + k for k in range(3)]
    )
    assert [line["paper"] for line in one] == ["", "", "27.5"]
    assert all(float(line["spread"]) == pytest.approx(np.std(PSNR["one"], ddof=1), abs=1e-6) for line in one)
    assert {line["seeds"] for line in one} == {"3"}
    assert all(line["stamp"] for line in lines if line["quantity"] != "parameters at the paper's size")
    cited = [line for line in lines if line["row"] == "cited"]
    assert [(line["value"], line["paper"], line["stamp"]) for line in cited] == [
        ("", "29.591", "reported"), ("", "0.9", "reported"),
    ]  # fmt: skip
    assert {line["commit"] for line in lines} == {"abc"}
