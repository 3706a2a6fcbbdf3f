"""The whole way: from the name of a table or figure to its files."""

import csv
import sys
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from mtdeblur.cli.app import main
from mtdeblur.errors import UserError
from mtdeblur.experiments.catalogue import experiment, names
from mtdeblur.experiments.reproducing import Request, reproduce
from mtdeblur.networks.unroll import resize
from mtdeblur.training import algorithm
from mtdeblur.training.algorithm import IncrementalTemporalTraining


@pytest.fixture
def losses(monkeypatch):
    """The losses of every batch, as shares of what the blurred picture is away from each goal, by run."""
    seen = defaultdict(list)
    step, l1 = IncrementalTemporalTraining.training_step, algorithm.l1
    blurred, shares = [], []

    def measured(estimate, sharp):
        distances = l1(estimate, sharp)
        before = l1(resize(blurred[-1], *sharp.shape[-2:]), sharp)
        shares.append(float(distances.detach().mean() / before.mean().clamp(min=1 / 255)))
        return distances

    def watched(self, batch, batch_idx):
        blurred.append(batch.blurred)
        shares.clear()
        outcome = step(self, batch, batch_idx)
        seen[self.config.model_dump_json()].append(list(shares))
        return outcome

    monkeypatch.setattr(algorithm, "l1", measured)
    monkeypatch.setattr(IncrementalTemporalTraining, "training_step", watched)
    return seen


def request(target, photographs, folder, **changes):
    return Request(target, data=[str(photographs)], output=folder, device="cpu", **changes)


def test_a_table_with_seeds(tiny, photographs, tmp_path, losses):
    files = reproduce(request("figure4", photographs, tmp_path, seeds=2))
    assert [file.name for file in files] == ["figure4.md", "figure4.csv", "figure4.png", "figure4.pdf"]
    assert len(losses) == 2  # a run a seed
    with files[1].open(newline="") as file:
        lines = list(csv.DictReader(file))
    figures = [line for line in lines if "TL13" in line["quantity"]]
    assert {line["seeds"] for line in figures} == {"2"}
    assert {line["stamp"] for line in figures} == {"smoke, simulated"}
    assert {line["iteration"] for line in figures} == {str(step) for step in range(7)}
    text = files[0].read_text()
    assert "![Figure 4" in text
    assert "assumed, because the paper does not say: a batch of 16 patches" in text
    again = reproduce(request("figure4", photographs, tmp_path, seeds=2))
    assert len(losses) == 2  # nothing was trained again
    assert again[0].read_text() == text


@pytest.mark.parametrize("target", ["figure5", "figure6", "comparison-nafnet"])
@pytest.mark.slow
def test_a_figure_is_drawn(target, tiny, photographs, tmp_path):
    _, _, picture, page = reproduce(request(target, photographs, tmp_path))
    assert np.asarray(Image.open(picture).convert("L")).std() > 10
    assert page.read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_the_smoke_of_a_whole_table_learns(tmp_path, losses):
    table, _ = reproduce(Request("table1", output=tmp_path, device="cpu"))
    assert len(losses) == len(experiment("table1").rows)
    for run in losses.values():
        assert sum(len(batch) for batch in run) >= 50  # optimiser steps
        first, last = ([loss for batch in part for loss in batch] for part in (run[:10], run[-10:]))
        assert np.mean(last) < np.mean(first)
    rows = [line for line in table.read_text().splitlines() if line.startswith("| (")]
    assert len(rows) == 6
    assert all(line.count("(smoke, simulated)") == 4 and line.count("(smoke)") == 3 for line in rows)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target": "table0"}, "no table or figure 'table0'"),
        ({"budget": "minutes"}, "--budget is one of smoke, hours, paper"),
        ({"data": ["nowhere"]}, "there is no folder nowhere"),
    ],
)
def test_mistakes_are_said(changes, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        reproduce(Request(**{"target": "table1", "output": tmp_path} | changes))


def test_the_command(tiny, photographs, tmp_path, monkeypatch, capfd):
    arguments = ["figure4", "--data", str(photographs), "-o", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["mtdeblur", "reproduce", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    said = capfd.readouterr()
    assert said.out.splitlines() == [
        str(tmp_path / "smoke" / f"figure4.{kind}") for kind in ("md", "csv", "png", "pdf")
    ]
    assert any("TL13" in line and "--data" in line for line in said.err.splitlines())


def test_without_a_target_the_command_lists_them(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["mtdeblur", "reproduce"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(line.endswith(experiment(name).title) for line, name in zip(lines, names(), strict=True))
