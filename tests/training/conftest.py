"""A small pack, a small configuration, and training runs in processes of their own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import mtdeblur as package
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import parse_config

SOURCE = Path(package.__file__).resolve().parents[1]
MAIN = f"""import signal, sys; sys.path.insert(0, {str(SOURCE)!r})
from mtdeblur.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
"""

Settings = dict[str, Any]


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layout of a pack: four photographs to train on, one held out."""
    folder = tmp_path_factory.mktemp("pack")
    random = np.random.default_rng(0)
    for name in [*(f"train/photos/{number}.png" for number in range(4)), "valid/photos/0.png"]:
        picture = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.resize((72, 72), Image.Resampling.BICUBIC).save(folder / name)
    return folder


@pytest.fixture
def settings(pack: Path) -> Settings:
    """What a configuration file of a run of a few seconds holds."""
    return {
        "network": {"name": "mtnaf", "options": {"width": 8, "blocks": [1, 1, 1, 1, 1]}},
        "approach": {"levels": [7, 9], "extra": [1, 1]},
        "data": {"pack": str(pack), "patch": 16, "batch": 2, "pool": 2, "motion": {"length": 6.0}},
        "optimiser": {"batches": 4, "ema": 0.9, "learning_rate": 1e-3},
        "validation": {"every": 2, "iterations": 2},
    }


def merge(base: Settings, changes: Settings) -> Settings:
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = (
            merge(merged.get(key, {}), value) if isinstance(value, dict) and key != "options" else value
        )
    return merged


@pytest.fixture
def configure(settings: Settings) -> Callable[..., TrainingConfig]:
    """A configuration with some sections changed."""
    return lambda **changes: parse_config(merge(settings, changes))


@pytest.fixture
def config_file(settings: Settings, tmp_path: Path) -> Callable[..., Path]:
    """The same as a file."""

    def write(**changes: Any) -> Path:
        file = tmp_path / "small.yaml"
        file.write_text(yaml.safe_dump(merge(settings, changes)))
        return file

    return write


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `mtdeblur train` in a process; `before` is code that runs first in it."""

    def run(*arguments: str | Path, before: str = "") -> subprocess.Popen[str]:
        script = tmp_path / "program.py"  # a file, which further processes can be started from
        script.write_text(f"{MAIN}{before}\nmain()\n")
        command = [sys.executable, str(script), "train", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return run


@pytest.fixture
def checkpoint() -> Callable[[Path], dict[str, Any]]:
    """Read the checkpoint of a run's folder."""
    return lambda folder: torch.load(folder / "last.ckpt", weights_only=True)


@pytest.fixture
def assert_same_run() -> Callable[[Path, Path], None]:
    """Compare what two runs came to: weights, average, optimiser and history, bit for bit."""

    def compare(one: Path, other: Path) -> None:
        first, second = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (one, other))
        for part in ("state_dict", "current_model_state", "averaging_state"):
            assert first[part].keys() == second[part].keys()
            for name, value in first[part].items():
                assert torch.equal(value, second[part][name]), (part, name)
        moments, others = (run["optimizer_states"][0]["state"] for run in (first, second))
        for number, moment in moments.items():
            assert all(torch.equal(value, others[number][key]) for key, value in moment.items())
        rows = [[(row[0], row[2]) for row in run["run"]["history"]] for run in (first, second)]
        assert rows[0] == rows[1]
        assert first["run"]["batches_done"] == second["run"]["batches_done"]

    return compare
