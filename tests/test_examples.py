"""The scripts of examples/ run and do what they say."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
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
