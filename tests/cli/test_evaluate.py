"""The commands evaluate and simulate, with the weights that ship."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread, imsave

from mtdeblur.cli import app
from mtdeblur.errors import UserError
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.metrics.arrays import psnr


@pytest.fixture
def mtdeblur(monkeypatch, capsys, tmp_path):
    """Run the command line here, in a folder of the test's own: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["mtdeblur", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            app.main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return run


def write(path, height=24, width=20, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    imsave(path, pixels, check_contrast=False)


def errors(said):
    return [line for line in said.splitlines() if line.startswith("mtdeblur: ")]


@pytest.fixture
def dataset(tmp_path):
    for number, name in enumerate(("a.png", "b.png")):
        write(tmp_path / "pairs" / "blur" / name, seed=number)
        write(tmp_path / "pairs" / "sharp" / name, seed=number + 10)
    return tmp_path / "pairs"


def test_a_data_set_is_measured(mtdeblur, dataset, tmp_path):
    code, out, _ = mtdeblur(
        "evaluate", dataset, "--iterations", 2, "--precision", "float32", "-o", "figures/here"
    )
    assert code == 0
    assert "SSIM volume" in out
    content = json.loads((tmp_path / "figures/here/evaluation.json").read_text())
    assert [image["image"] for image in content["images"]] == ["a", "b"]
    blurred, sharp = (imread(dataset / side / "b.png") for side in ("blur", "sharp"))
    first, *estimates = content["images"][1]["iterations"]
    assert first["psnr"] == pytest.approx(psnr(blurred, sharp))
    assert len(estimates) == 2
    subject = content["subject"]
    assert (subject["iterations"], subject["precision"], subject["dataset"]) == (2, "float32", str(dataset))
    assert len(subject["weights_sha256"]) == 64
    with (tmp_path / "figures/here/evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["weights_sha256"] for row in rows} == {subject["weights_sha256"]}
    assert f"{float(next(row['value'] for row in rows if row['image'] == 'mean')):.2f}" in out


def test_a_data_set_of_a_known_layout_is_measured(mtdeblur, tmp_path):
    for number, (blurred, sharp) in enumerate((("test/test-long-shot", "GT"), ("train", "GT"))):
        write(tmp_path / "HIDE" / blurred / f"{number}.png", seed=number)
        write(tmp_path / "HIDE" / sharp / f"{number}.png", seed=number + 10)
    for layout in ([], ["--dataset", "hide"]):
        code, out, _ = mtdeblur("evaluate", "HIDE", *layout, "--iterations", 1, "--precision", "float32")
        assert code == 0
        assert "test-long-shot/0" in out
        assert "Mean over 1 picture of" in out
        assert "1 iteration\n" in out.replace(" \n", "\n")


def test_a_pair_that_cannot_be_measured_is_reported_and_the_rest_goes_on(mtdeblur, dataset):
    write(dataset / "blur" / "c.png", height=25)
    write(dataset / "sharp" / "c.png")
    for side in ("blur", "sharp"):
        (dataset / side / "d.jpg").write_text("no picture")
    code, out, err = mtdeblur("evaluate", dataset, "--iterations", 1)
    assert code == 1
    assert "Mean over 2 pictures" in out
    first, second = errors(err)
    assert "c.png is 20x25" in first
    assert "d.jpg" in second


def test_nothing_measured_is_no_result(mtdeblur, tmp_path):
    for side in ("blur", "sharp"):
        write(tmp_path / "pairs" / side / "a.png", height=5)
    code, out, err = mtdeblur("evaluate", "pairs", "-o", "figures")
    assert (code, out) == (1, "")
    assert len(errors(err)) == 1
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["nowhere"], "nowhere"),
        (["pairs/blur"], "expected blur/NAME.png with sharp/NAME.png"),
        (["pairs", "--weights", "nothing"], "nothing"),
        (["pairs", "-o", "pairs/blur/a.png"], "a.png"),
    ],
)
def test_mistakes_get_one_line(mtdeblur, dataset, arguments, names):
    code, out, err = mtdeblur("evaluate", *arguments)
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("mtdeblur: ")
    assert names in line


@pytest.mark.parametrize("command", ["deblur", "evaluate", "curve", "sheets"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--tile", value) for value in ("0", "-1", "big", "1.5", "\u00b2")),
        *(("--device", value) for value in ("abacus", "cuda:", "cuda:x", "")),
        ("--precision", "float8"),
    ],
)
def test_a_bad_setting_ends_every_command_alike(mtdeblur, dataset, command, option, value):
    arguments = () if command == "curve" else ("-o", "out")
    code, out, err = mtdeblur(command, dataset, *arguments, f"{option}={value}")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("mtdeblur: ")
    assert option in line


def test_simulated_pairs_can_be_evaluated(mtdeblur, tmp_path):
    write(tmp_path / "photos" / "one.png", 60, 70)
    options = ("--exposures", 2, "--length", 8, "--level", 7, "--crf", "identity", "--seed", 3)
    options = (*options, "--workers", 1)
    assert mtdeblur("simulate", "photos", "-o", "pairs", *options)[0] == 0
    account = json.loads((tmp_path / "pairs" / "simulation.json").read_text())
    assert (account["level"], account["crf"], account["seed"]) == (7, "identity", 3)
    code, out, _ = mtdeblur("evaluate", "pairs", "--iterations", 1)
    assert code == 0
    assert "one-1" in out


def test_simulate_makes_a_temporal_data_set(mtdeblur, tmp_path):
    write(tmp_path / "photos" / "one.png", 60, 70)
    options = ("--temporal", "--exposures", 2, "--length", 8, "--level", 7, "--level", 9, "--workers", 1)
    assert mtdeblur("simulate", "photos", "-o", "data", *options)[0] == 0
    files = sorted(
        file.relative_to(tmp_path / "data/train").as_posix() for file in tmp_path.rglob("*000000.png")
    )
    assert files == [
        f"one/{side}/000000.png" for side in ("TL11", "TL13", "TL3", "TL5", "TL9", "blur", "sharp")
    ]
    assert (tmp_path / "data/manifest.parquet").is_file()


def test_a_photograph_that_cannot_be_simulated_is_reported(mtdeblur, tmp_path):
    write(tmp_path / "fine.png", 60, 70)
    write(tmp_path / "tiny.png", 9, 9)
    photos, options = ("tiny.png", "fine.png"), ("--length", 8, "--workers", 1)
    code, out, err = mtdeblur("simulate", *photos, "-o", "pairs", *options)
    assert (code, out) == (1, "pairs: 4 exposures of 1 photograph\n")
    assert "exposures: 4 of 4" in err
    assert " a second" in err
    (line,) = errors(err)
    assert "tiny: a picture of 9x9 is too small" in line
    assert (tmp_path / "pairs" / "blur" / "fine-3.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], "--public-domain"),
        (["a.png", "--public-domain"], "either"),
        (["a.png", "--level", "4"], "not 4"),
        (["a.png", "--level", "5", "--level", "7"], "--temporal"),
        (["a.png", "--crf", "sepia"], "sepia"),
        (["empty"], "empty"),
    ],
)
def test_mistakes_of_simulate_get_one_line(mtdeblur, tmp_path, arguments, names):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.png", 60, 70)
    code, out, err = mtdeblur("simulate", *arguments, "-o", "pairs")
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("mtdeblur: ")
    assert names in line


def test_curves_of_data_sets(mtdeblur, dataset, tmp_path):
    write(tmp_path / "more" / "blur" / "c.png", seed=3)
    write(tmp_path / "more" / "sharp" / "c.png", seed=4)
    options = ["--iterations", 2, "--precision", "float32", "-o", "curve.csv"]
    code, out, _ = mtdeblur("curve", dataset, "more", *options)
    assert code == 0
    assert "more, 1 picture" in out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "curve.csv").read_text())))
    assert [(row["dataset"], row["iteration"]) for row in rows] == [
        *((str(dataset), str(index)) for index in range(3)),
        *(("more", str(index)) for index in range(3)),
    ]
    blurred, sharp = (imread(tmp_path / "more" / side / "c.png") for side in ("blur", "sharp"))
    assert float(rows[3]["psnr"]) == pytest.approx(psnr(blurred, sharp), abs=1e-5)
    code, out, err = mtdeblur("curve", "nowhere")
    assert (code, out) == (1, "")
    assert errors(err)


def fail_at(monkeypatch, width, error):
    """Let the network fail at pictures of a width."""
    whole = Deblurrer.progress

    def progress(self, image, report=None, **options):
        if image.shape[1] == width:
            raise error
        return whole(self, image, report, **options)

    monkeypatch.setattr(Deblurrer, "progress", progress)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a mistake"), UserError("no numbers")])
def test_what_was_measured_is_kept_when_a_picture_fails(mtdeblur, dataset, tmp_path, monkeypatch, error):
    for side in ("blur", "sharp"):
        write(dataset / side / "c.png", width=33)
    fail_at(monkeypatch, 33, error)
    code, out, err = mtdeblur("evaluate", dataset, "--iterations", 1, "-o", "figures")
    assert code == 1
    assert "Mean over 2 pictures" in out
    (line,) = errors(err)
    assert "c.png" in line
    content = json.loads((tmp_path / "figures/evaluation.json").read_text())
    assert [image["image"] for image in content["images"]] == ["a", "b"]
    write(tmp_path / "more" / "blur" / "d.png", width=33)
    write(tmp_path / "more" / "sharp" / "d.png", width=33)
    code, out, err = mtdeblur("curve", dataset, "more", "--iterations", 1, "-o", "curve.csv")
    assert code == 1
    assert "2 pictures" in out
    assert len(errors(err)) == 2
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert {row["dataset"] for row in rows} == {str(dataset)}


def test_curves_of_a_data_set_in_a_named_layout(mtdeblur, tmp_path):
    for number, (blurred, sharp) in enumerate((("test/test-long-shot", "GT"), ("train", "GT"))):
        write(tmp_path / "HIDE" / blurred / f"{number}.png", seed=number)
        write(tmp_path / "HIDE" / sharp / f"{number}.png", seed=number + 10)
    code, out, _ = mtdeblur("curve", "HIDE", "--dataset", "hide", "--iterations", 1)
    assert code == 0
    assert "1 picture" in out
    code, _, err = mtdeblur("curve", "HIDE", "--dataset", "reds", "--iterations", 1)
    assert code == 1
    assert "layout of REDS" in err


@pytest.mark.parametrize("command", ["evaluate", "curve"])
def test_pictures_without_a_partner_are_told_and_the_rest_is_measured(mtdeblur, dataset, command):
    write(dataset / "sharp" / "x.png")
    write(dataset / "blur" / "y.png")
    code, out, err = mtdeblur(command, dataset, "--iterations", 1)
    assert code == 1
    assert "2 pictures" in out
    assert ["y.png" in line or "x.png" in line for line in errors(err)] == [True, True]


DATA = os.environ.get("MTDEBLUR_DATA")


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder with the DMPHN authors' weights")
def test_dmphn_with_its_authors_weights_lifts_official_pairs_as_it_should(mtdeblur, tmp_path):
    data = Path(str(DATA))
    weights = data / "checkpoints" / "dmphn_1_2_4"
    pairs = data / "eval" / "gopro_test_official"
    code, _, _ = mtdeblur("evaluate", pairs, "--weights", weights, "-o", "figures")
    assert code == 0
    content = json.loads((tmp_path / "figures/evaluation.json").read_text())
    blurred, deblurred = content["averages"]
    assert blurred["psnr"] == pytest.approx(22.70, abs=0.05)
    assert deblurred["psnr"] == pytest.approx(28.61, abs=0.05)
