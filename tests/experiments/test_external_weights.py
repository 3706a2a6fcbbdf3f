"""Rows that are measured with weights that somebody has, and tables of some rows only."""

import csv
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from mtdeblur.cli.app import main
from mtdeblur.errors import UserError
from mtdeblur.evaluation import protocol
from mtdeblur.experiments import measuring, reproducing
from mtdeblur.experiments.catalogue import experiment, only
from mtdeblur.experiments.external_weights import take_weights
from mtdeblur.experiments.reproducing import Request, reproduce
from mtdeblur.inference.deblurrer import load
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import Step
from mtdeblur.weights.catalogue import offered
from mtdeblur.weights.layouts.mtrnn import to_authors
from mtdeblur.weights.store import save_network


def save(path, name="mtrnn", iterations=3, seed=0, **options):
    torch.manual_seed(seed)
    network = create_network(name, **({"width": 2} | options))
    save_network(path, network, iterations=iterations, dtype=torch.float32)
    return path, sum(part.numel() for part in network.parameters())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A test set of two pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(5)
    for name in "ab":
        picture = Image.fromarray(random.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        for side, smaller in (("blur", 3), ("sharp", 1)):
            (folder / side).mkdir(exist_ok=True)
            small = picture.resize((28 // smaller, 24 // smaller), Image.Resampling.BICUBIC)
            small.resize((28, 24), Image.Resampling.BICUBIC).save(folder / side / f"{name}.png")
    return folder


@pytest.fixture
def counted(monkeypatch):
    """How often a pair, a run time and a training were asked for."""
    count = {"pairs": 0, "run times": 0, "runs": 0}

    def watch(module, name, what, number=lambda *arguments: 1):
        called = getattr(module, name)

        def watched(*arguments, **options):
            count[what] += number(*arguments)
            return called(*arguments, **options)

        monkeypatch.setattr(module, name, watched)

    watch(protocol, "measure", "pairs")
    watch(measuring, "measure_run_time", "run times")
    watch(reproducing, "carry_out_all", "runs", len)
    return count


@pytest.fixture
def make(photographs):
    """Make a table or figure in a folder, with test sets that are given."""
    return partial(_make, photographs)


def _make(photographs, target, folder, *data, **changes):
    return reproduce(Request(target, data=[str(photographs), *data], output=folder, device="cpu", **changes))


def read_markdown(file):
    """The table's lines by the name of their row, footnotes taken off."""
    lines = [line for line in file.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    return {re.sub(r" \[\d+\]", "", row[""]): row for row in rows}


def read_csv(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_row_with_given_weights_is_measured_and_not_trained(make, tiny, pairs, tmp_path, counted):
    weights, count = save(tmp_path / "mine.safetensors")
    asked = {"rows": ["Tao", "Ours"], "weights": [f"Ours={weights}", f"Tao={weights}"], "seeds": 2}
    table, figures = make("table4", tmp_path, f"gopro={pairs}", **asked)
    assert counted == {"pairs": 2, "run times": 1, "runs": 0}  # the same weights serve two rows

    rows = read_markdown(table)
    assert list(rows) == ["blurred pictures", "Tao", "Ours"]
    stamp = "weights given: mine.safetensors"
    assert rows["Ours"]["Param"] == f"{count:,} ({stamp})"
    assert rows["Ours"]["Run time"].endswith(f" s ({stamp}, 8x8)")
    assert "Param at the paper's size" not in rows["Ours"]

    deblurrer = load(weights, device="cpu", precision="float32")
    assert deblurrer.iterations == 3
    expected = []
    for name in "ab":
        blurred, sharp = (np.asarray(Image.open(pairs / side / f"{name}.png")) for side in ("blur", "sharp"))
        expected.append([peak_signal_noise_ratio(sharp, one) for one in (blurred, deblurrer(blurred))])
    before, after = np.mean(expected, axis=0)
    assert rows["blurred pictures"]["GoPro PSNR"] == f"{before:.2f}"  # real pictures, trained by nobody
    assert rows["Ours"]["GoPro PSNR"] == f"{after:.2f} ({stamp}) **1st**"
    assert "smoke" not in "".join(rows["Ours"].values())

    lines = [line for line in read_csv(figures) if line["row"] == "Ours" and "PSNR" in line["quantity"]]
    assert [line["iteration"] for line in lines] == ["0", "1", "2", "3"]
    assert [line["stamp"] for line in lines] == ["", stamp, stamp, stamp]
    assert {line["seeds"] for line in lines} == {"1"}
    assert re.search(rf"Ours: {weights}, iterations: 3, sha256 [0-9a-f]{{64}}", lines[0]["weights given"])
    assert lines[0]["rows left out"].startswith("Xu; Kim; Sun; ")
    assert "trained on" not in lines[0]


def test_a_row_with_weights_of_its_own_is_measured_and_stands_apart(make, tiny, pairs, tmp_path, counted):
    weights, _ = save(tmp_path / "mine.safetensors")
    maxim = "MAXIM (2022, measured here)"
    asked = {"rows": ["Ours", maxim], "weights": [f"Ours={weights}"]}
    table, _ = make("table4", tmp_path, f"gopro={pairs}", **asked)
    assert counted["runs"] == 0
    row = read_markdown(table)[maxim]
    assert row["Param"] == "22,207,605 (weights given: maxim-gopro)"
    assert float(row["GoPro PSNR"].split()[0]) > 0
    assert "**" not in "".join(row.values())
    assert "**1st**" in "".join(read_markdown(table)["Ours"].values())
    asked["weights"].append(f"{maxim}={weights}")
    table, _ = make("table4", tmp_path, f"gopro={pairs}", **asked)
    assert "mine.safetensors" in read_markdown(table)[maxim]["Param"]


def test_what_is_measured_of_given_weights_is_kept_for_their_content(make, tiny, pairs, tmp_path, counted):
    def figures(file, output=tmp_path / "output"):
        asked = {"rows": ["Ours"], "weights": [f"Ours={file}"]}
        table, _ = make("table4", output, f"gopro={pairs}", **asked)
        return read_markdown(table)["Ours"]["GoPro PSNR"].partition(" ")[0]

    weights, _ = save(tmp_path / "mine.safetensors")
    first = figures(weights)
    assert (counted["pairs"], counted["run times"]) == (2, 1)
    assert figures(shutil.copy(weights, tmp_path / "copy.safetensors")) == first
    assert (counted["pairs"], counted["run times"]) == (2, 1)
    save(weights, seed=1)
    assert figures(weights) != first
    assert counted["pairs"] == 4
    save(weights, seed=1, iterations=2)
    figures(weights)
    assert counted["pairs"] == 6


def test_other_rows_are_trained_as_ever_and_stand_ins_say_so(make, tiny, tmp_path, counted):
    weights, _ = save(tmp_path / "mine.safetensors")
    asked = {"rows": ["(g)", "(i)"], "weights": [f"(i)={weights}"], "seeds": 2}
    table, _ = make("table2", tmp_path, **asked)
    assert counted["runs"] == 2
    rows = read_markdown(table)
    assert re.fullmatch(r"[\d.]+ ± [\d.]+ \(smoke, simulated\)", rows["(g)"]["GoPro PSNR"])
    stamp = r"\(weights given: mine.safetensors, simulated\)"
    assert re.fullmatch(rf"[\d.]+ {stamp}", rows["(i)"]["GoPro PSNR"])
    assert rows["blurred pictures"]["GoPro PSNR"].endswith(" (smoke, simulated)")
    text = table.read_text()
    assert "- rows left out: (h); (j); (k); (l); (m)\n" in text
    assert re.search(r"^- runs: \(g\): mtrnn-one-stage-\w+, mtrnn-one-stage-\w+$", text, re.M)


@pytest.mark.parametrize(
    ("target", "row", "data"),
    [("figure2", "Zhang", ["gopro"]), ("figure7", "Zhang", ["gopro", "lai"]), ("figure5", "MT", ["tl13"]),
     ("figure6", "MT TL7", ["tl7"])],
)  # fmt: skip
def test_figures_of_given_weights(make, target, row, data, tiny, pairs, tmp_path, counted):
    weights, _ = save(tmp_path / "mine.safetensors")
    asked = {"rows": [row], "weights": [f"{row}={weights}"]}
    files = make(target, tmp_path, *(f"{name}={pairs}" for name in data), **asked)
    assert counted["runs"] == 0
    assert np.asarray(Image.open(files[2]).convert("L")).std() > 10
    assert f"weights given: {row}: {weights}" in files[0].read_text()


@pytest.mark.parametrize(
    ("row", "network", "options", "advised", "steps"),
    [
        ("Ours", "mtrnn", {}, [Step(2), Step(1)], [Step(2), Step(1)]),
        ("Ours", "mtrnn", {}, None, [Step()] * 6),  # the row's
        ("Nah", "mtrnn", {}, None, [Step(4), Step(2), Step(1)]),  # the row's
        ("Ours", "dmphn", {"width": 4}, None, [Step()]),  # the network's: it runs once
        ("Ours", "pss_nsc", {}, None, [Step(4, 0), Step(2, 1), Step(1, 2)]),  # the network's
    ],
)
def test_iterations_are_the_weights_own_where_they_have_some(row, network, options, advised, steps, tmp_path):
    weights, count = save(tmp_path / "some.safetensors", network, advised, **options)
    given = take_weights(experiment("table4"), [f"{row}={weights}"], tmp_path)[row]
    assert list(given.steps) == steps
    assert given.parameters == count


def test_a_name_of_the_catalogue_and_another_programs_file_are_taken(tmp_path):
    network = create_network("mtrnn", width=2)
    torch.save(to_authors(network.state_dict()), tmp_path / "model_best.pt")
    default, _ = offered("fast")
    given = [f"Ours={tmp_path / 'model_best.pt'}", f"Tao={default}"]
    taken = take_weights(experiment("table4"), given, tmp_path)
    assert (taken["Ours"].name, taken["Tao"].name) == ("model_best.pt", default)
    assert taken["Ours"].steps == (Step(),) * 6
    loaded, _ = taken["Ours"].load()
    assert torch.equal(loaded.state_dict()["head.weight"], network.state_dict()["head.weight"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"weights": ["Theirs=a.pth"]},
            r"ROW=WEIGHTS; .* Nah; Tao; Kupyn \(DeblurGAN-v2",
        ),
        ({"weights": ["a.pth"]}, "--weights a.pth: .*ROW=WEIGHTS"),
        ({"weights": ["Xu=a.pth"]}, "the rows are Nah; Tao"),  # which is only cited
        ({"weights": ["Tao=nowhere.pth"]}, "there are no weights 'nowhere.pth'"),
        ({"weights": ["Tao=README"]}, "cannot load weights from README"),
        ({"weights": ["Tao=odd.pth"]}, "their layout is none of those known"),
        ({"weights": ["Ours=mine", "Ours=mine"]}, "--weights Ours=mine: .* Ours"),
        ({"rows": ["Theirs"]}, "--row Theirs: the rows are Xu; Kim; Sun"),
        ({"rows": ["Tao"], "weights": ["Ours=mine"]}, "the rows are Tao$"),
    ],
)
def test_mistakes_are_said_before_any_work(make, changes, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("README").write_text("no weights")
    torch.save({"layer.weight": torch.zeros(2)}, "odd.pth")
    save(Path("mine"))
    with pytest.raises(UserError, match=reason):
        make("table4", tmp_path / "output", **changes)
    assert not (tmp_path / "output").exists()


def test_some_rows_keep_their_footnotes():
    asked = only(experiment("table3"), ["Gao*", "Zhang"])
    assert [row.name for row in asked.rows] == ["Zhang", "Gao*"]
    assert list(asked.footnotes) == ["loss", "gao"]
    assert only(experiment("table3"), []) == experiment("table3")


def test_the_command(tiny, photographs, pairs, tmp_path, monkeypatch, capfd):
    weights, _ = save(tmp_path / "mine.safetensors")
    arguments = ["table4", "--row", "Xu", "--row", "Ours", "--weights", f"Ours={weights}", "--device", "cpu"]
    arguments += ["--data", str(photographs), "--data", f"gopro={pairs}", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["mtdeblur", "reproduce", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "training" not in capfd.readouterr().err.replace("training pack", "")
    rows = read_markdown(tmp_path / "smoke" / "table4.md")
    assert [rows[name]["GoPro PSNR (paper)"] for name in ("Xu", "Ours")] == ["25.10 **2nd**", "31.15 **1st**"]


DATA = os.environ.get("MTDEBLUR_DATA")


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder with the DMPHN authors' weights")
def test_the_authors_weights_in_table_4(make, tmp_path):
    weights = Path(str(DATA)) / "checkpoints" / "dmphn_1_2_4"
    pairs = Path(str(DATA)) / "eval" / "gopro_test_official"
    asked = {"rows": ["Zhang"], "weights": [f"Zhang={weights}"]}
    table, figures = make("table4", tmp_path, f"gopro={pairs}", **asked)
    row = read_markdown(table)["Zhang"]
    stamp = "(weights given: dmphn_1_2_4)"
    assert row["Param"] == f"5,424,393 {stamp}"
    assert row["GoPro PSNR"].endswith(f" {stamp} **1st**")
    before, after = (float(line["value"]) for line in read_csv(figures) if line["quantity"] == "GoPro PSNR")
    assert before == pytest.approx(22.70, abs=0.05)
    assert after == pytest.approx(28.61, abs=0.05)
