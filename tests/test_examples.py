"""The scripts of examples/ run and do what they say."""

import importlib.util
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from mtdeblur.exposure.simulate import Motion
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.store import load_network

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("train_minimal", EXAMPLES / "train_minimal.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photograph():
    """Blocks of colour, with edges to blur."""
    colours = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return colours.repeat(16, axis=0).repeat(16, axis=1)


def test_minimal_training_lowers_the_loss(script, photograph):
    network = create_network("mtnaf", width=8, blocks=(1, 1, 1, 1, 1))
    how = {"batches": 4, "batch": 1, "patch": 32, "motion": Motion(length=12, still=0, layers=0)}
    first = script.train(network, [photograph], **how)
    again = script.train(network, [photograph], **how)  # the same batches, by the same seed
    assert len(first) == 4
    assert sum(again) < sum(first)


def test_minimal_training_writes_weights(script, photograph, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "photo.png"
    Image.fromarray(photograph.repeat(3, axis=0).repeat(3, axis=1)).save(picture)
    target = tmp_path / "minimal.safetensors"
    sizes = ["--batches", "1", "--batch", "1", "--patch", "16"]
    monkeypatch.setattr(sys, "argv", ["train_minimal.py", str(picture), *sizes, "-o", str(target)])
    script.main()
    assert "L1 loss" in capsys.readouterr().out
    assert load_network(target).config.width == 32


def test_the_notebook_is_kept_without_outputs():
    for cell in nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    loaded, compared, _, _, several, described = (each[-1] for each in outputs)
    measured, watched = (
        [float(value) for output in printed for value in re.findall(r"([\d.]+) dB", output.text)]
        for printed in outputs[2:4]
    )
    assert "mtnaf-small" in loaded.data["text/html"]
    assert "<iframe" in compared.data["text/html"]
    blurred, sharper = measured
    assert sharper > blurred + 0.5
    assert len(watched) == 3
    assert watched[0] == sharper > watched[1] > watched[2]
    assert several.data["text/plain"] == "['Image', 'ndarray']"
    assert described.data["text/plain"].startswith("('MIT', 1088428, 8,")
