"""Curves over the iterations, on numbers worked out by hand."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mtdeblur.evaluation.curve import as_csv, as_table, gains, peak
from mtdeblur.evaluation.protocol import Figures, PairFigures
from mtdeblur.evaluation.provenance import Subject
from mtdeblur.evaluation.tables import Report
from mtdeblur.metrics.quality import SSIM_CONVENTIONS


def report(dataset: str, *pictures: list[float]) -> Report:
    """Pictures with these PSNR, the blurred one's first, and an SSIM of a hundredth of it."""
    subject = Subject(dataset, "small", "abc", "1", None, "cpu", "float32", len(pictures[0]) - 1)
    pairs = [
        PairFigures(
            str(number),
            tuple(
                Figures(index, psnr, dict.fromkeys(SSIM_CONVENTIONS, psnr / 100))
                for index, psnr in enumerate(values)
            ),
        )
        for number, values in enumerate(pictures)
    ]
    return Report(subject, tuple(pairs))


ONE = report("one", [20, 22, 23, 21], [30, 30, 33, 31])  # gains 1, 3, 1
OTHER = report("other", [25, 29, 26, 25])  # gains 4, 1, 0


def test_gains_are_of_the_means() -> None:
    assert gains(ONE) == pytest.approx([1, 3, 1])
    assert gains(OTHER) == pytest.approx([4, 1, 0])


def test_peaks_of_each_and_of_the_mean() -> None:
    assert (peak([gains(ONE)]), peak([gains(OTHER)])) == (2, 1)
    assert peak([gains(ONE), gains(OTHER)]) == 1  # 2.5, 2, 0.5
    assert peak([[1.0, 1.0]]) == 1
    with pytest.raises(ValueError, match="zip"):
        peak([[1.0], [1.0, 2.0]])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9))
def test_the_peak_is_the_first_highest(values: list[float]) -> None:
    best = peak([values])
    assert values[best - 1] == max(values)
    assert max(values[: best - 1], default=-99) < max(values)


def test_the_table_shows_every_iteration_and_marks_peaks() -> None:
    text = io.StringIO()
    Console(file=text, width=140).print(as_table([ONE, OTHER]))
    lines = [line for line in text.getvalue().splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert cells == [
        ["blurred", "25.00 / 0.2500", "25.00 / 0.2500", ""],
        ["1", "26.00 / 0.2600 +1.00", "29.00 / 0.2900 +4.00 *", "+2.50 *"],
        ["2", "28.00 / 0.2800 +3.00 *", "26.00 / 0.2600 +1.00", "+2.00"],
        ["3", "26.00 / 0.2600 +1.00", "25.00 / 0.2500 +0.00", "+0.50"],
    ]
    assert "one, 2 pictures" in text.getvalue()


def test_the_csv_has_a_line_for_each_point() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([ONE, OTHER]))))
    assert [(row["dataset"], row["iteration"]) for row in rows] == [
        *(("one", str(index)) for index in range(4)),
        *(("other", str(index)) for index in range(4)),
    ]
    assert (rows[2]["psnr"], rows[2]["gain"], rows[2]["images"]) == ("28.000000", "3.000000", "2")
    assert all(row["ssim volume"] == f"{float(row['psnr']) / 100:.6f}" for row in rows)
    assert {row["weights_sha256"] for row in rows} == {"abc"}
