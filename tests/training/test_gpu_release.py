"""The rehearsal of `tools/gpu_release.py` on a CPU: both stages, their weights and the history."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtdeblur.networks.mtrnn import MTRNN
from mtdeblur.weights.store import advised_steps, load_network

TOOL = Path(__file__).parents[2] / "tools" / "gpu_release.py"


def rehearse(pack: Path, output: Path, *options: str) -> str:
    """What a rehearsal of seconds prints."""
    command = [sys.executable, str(TOOL), str(pack), str(output), "--small", "--trial", "1", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout


@pytest.mark.slow
def test_a_rehearsal_trains_both_stages_and_weights_can_be_continued(pack: Path, tmp_path: Path) -> None:
    printed = rehearse(pack, tmp_path, "--minutes", "0.5")
    assert "continuing with" in printed
    assert "nan" not in printed
    history = json.loads((tmp_path / "history.json").read_text())
    assert {row["stage"] for row in history} == {"release-mtrnn-start", "release-mtrnn"}
    assert len(history[-1]["gains"]["simulated"]) == 7
    for name, iterations in (("mtrnn-one-stage", 1), ("mtrnn", 6)):
        file = tmp_path / f"{name}.safetensors"
        assert isinstance(load_network(file), MTRNN)
        assert len(advised_steps(file) or ()) == iterations
        assert file.stat().st_size < 16e6
    before = history[-1]["batches"]
    rehearse(pack, tmp_path / "more", "--minutes", "0.3", "--weights", str(tmp_path / "mtrnn.safetensors"))
    history = json.loads((tmp_path / "more" / "history.json").read_text())
    assert {row["stage"] for row in history} == {"release-mtrnn"}
    assert history[-1]["batches"] > before
