import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mtdeblur.data.disk.pairs import Pair
from mtdeblur.errors import UserError
from mtdeblur.evaluation.protocol import PairFigures, averages, measure, measure_all
from mtdeblur.evaluation.provenance import Subject
from mtdeblur.evaluation.tables import Report, as_csv, as_json, as_tables
from mtdeblur.metrics.arrays import psnr, ssim
from mtdeblur.metrics.quality import SSIM_CONVENTIONS

SUBJECT = Subject(
    dataset="pairs",
    weights="made-up",
    weights_sha256="12ab",
    version="9.9",
    commit="c0ffee",
    device="cpu, 2 threads",
    precision="float32",
    iterations=2,
)
PAIRS = [Pair(name, Path(f"{name}-blur"), Path(f"{name}-sharp")) for name in ("one", "two")]


def picture(name):
    kind = Path(name).name
    sharp = np.random.default_rng(len(kind)).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    return sharp // 2 if kind.endswith("blur") else sharp


def halves_of_the_way(blurred):
    """Two iterations, each brighter."""
    yield (blurred * 1.5).round().astype(np.uint8)
    yield (blurred * 1.9).round().astype(np.uint8)


def report():
    return Report(SUBJECT, tuple(measure(pair, halves_of_the_way, picture) for pair in PAIRS))


def test_every_iteration_is_measured_and_the_blurred_picture_is_iteration_0():
    figures = report().pairs
    assert [pair.name for pair in figures] == ["one", "two"]
    for pair, files in zip(figures, PAIRS, strict=True):
        blurred, sharp = picture(files.blur), picture(files.sharp)
        estimates = [blurred, *halves_of_the_way(blurred)]
        assert [one.iteration for one in pair.iterations] == [0, 1, 2]
        assert [one.psnr for one in pair.iterations] == [psnr(estimate, sharp) for estimate in estimates]
        for name in SSIM_CONVENTIONS:
            expected = [ssim(estimate, sharp, name) for estimate in estimates]
            assert [one.ssim[name] for one in pair.iterations] == expected


def test_averages_are_means_of_the_pictures_figures():
    figures = report().pairs
    for mean in averages(figures):
        ones = [pair.iterations[mean.iteration] for pair in figures]
        assert mean.images == 2
        assert mean.psnr == pytest.approx(sum(one.psnr for one in ones) / 2)
        for name in SSIM_CONVENTIONS:
            assert mean.ssim[name] == pytest.approx(sum(one.ssim[name] for one in ones) / 2)


def test_unlike_numbers_of_iterations_are_not_averaged():
    whole = report().pairs[0]
    shorter = PairFigures("short", whole.iterations[:1])
    with pytest.raises(ValueError, match="shorter"):
        averages([whole, shorter])
    with pytest.raises(ValueError, match="no figures"):
        averages([])


def test_pairs_that_cannot_be_measured_are_named():
    def unlike(path):
        return np.zeros((16, 12 if path.name.endswith("blur") else 13, 3), np.uint8)

    with pytest.raises(UserError, match="one-blur is 12x16, one-sharp is 13x16"):
        measure(PAIRS[0], halves_of_the_way, unlike)
    with pytest.raises(UserError, match="one-blur is 300x10: SSIM is defined from 11x11"):
        measure(PAIRS[0], halves_of_the_way, lambda path: np.zeros((10, 300, 3), np.uint8))


def test_json_holds_every_figure_with_what_it_belongs_to():
    content = json.loads(as_json(report()))
    assert content["subject"]["weights_sha256"] == "12ab"
    assert content["conventions"]["ssim"] == SSIM_CONVENTIONS
    assert [row["iteration"] for row in content["averages"]] == [0, 1, 2]
    two = report().pairs[1].iterations[2]
    row = content["images"][1]["iterations"][2]
    assert (row["psnr"], row["ssim"]) == (two.psnr, two.ssim)


def test_an_infinite_psnr_is_null_in_json():
    perfect = Report(
        SUBJECT, (measure(PAIRS[0], lambda blurred: [blurred], lambda path: picture("a-sharp")),)
    )
    content = json.loads(as_json(perfect), parse_constant=pytest.fail)
    assert content["averages"][1]["psnr"] is None


def test_csv_holds_one_figure_a_line_with_convention_and_subject():
    rows = list(csv.DictReader(io.StringIO(as_csv(report()), newline="")))
    assert len(rows) == (2 + 1) * 3 * (1 + len(SSIM_CONVENTIONS))
    for row in rows:
        assert row["commit"] == "c0ffee"
        assert row["weights_sha256"] == "12ab"
        assert row["device"] == "cpu, 2 threads"
        assert row["convention"]
    last = [row for row in rows if row["image"] == "mean" and row["iteration"] == "2"]
    mean = averages(report().pairs)[2]
    assert {row["metric"]: float(row["value"]) for row in last} == pytest.approx(
        {"psnr": mean.psnr, **{f"ssim {name}": value for name, value in mean.ssim.items()}}, abs=1e-6
    )


def test_the_terminal_shows_averages_pictures_conventions_and_subject():
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(as_tables(report()))
    text = console.export_text()
    mean = averages(report().pairs)
    assert f"{mean[2].psnr:.2f}" in text
    assert f"{mean[2].psnr - mean[0].psnr:+.2f}" in text
    assert f"{report().pairs[1].iterations[1].psnr:.2f}" in text
    for said in (*SSIM_CONVENTIONS.values(), "12ab", "c0ffee", "float32", "9.9"):
        assert said in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("two-blur is broken"), "two-blur is broken"),
        (UserError("the network gives NaN"), "cannot measure two-blur: the network gives NaN"),
        (MemoryError(), "cannot measure two-blur: not enough memory; use a smaller --tile"),
        (RuntimeError("CUDA out of memory. Tried"), "cannot measure two-blur: not enough memory"),
        (RuntimeError("an illegal\nmemory access"), "two-blur: RuntimeError: an illegal memory access"),
        (ZeroDivisionError(), "cannot measure two-blur: ZeroDivisionError"),
    ],
)
def test_a_pair_that_fails_in_any_way_is_told_and_the_others_are_measured(error, said):
    def read(path):
        if path.name == "two-blur":
            raise error
        return picture(path)

    pairs, told = [*PAIRS, Pair("three", Path("six-blur"), Path("six-sharp"))], []
    measured = measure_all(pairs, halves_of_the_way, read, failed=told.append)
    assert [figures.name for figures in measured] == ["one", "three"]
    (line,) = told
    assert said in line
    assert "\n" not in line
    with pytest.raises(type(error)):
        measure_all(pairs, halves_of_the_way, read)


def test_an_interruption_is_no_failure_of_a_pair():
    def read(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_all(PAIRS, halves_of_the_way, read, failed=pytest.fail)
