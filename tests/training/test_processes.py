"""Several processes that share a run (distributed data parallel, gloo)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtdeblur.training.config_file import read_config
from mtdeblur.training.run import train


@pytest.mark.slow
def test_two_processes_train_like_one(
    config_file: Callable[..., Path], start, tmp_path: Path, checkpoint
) -> None:
    # With Adam's own eps of 1e-8 a gradient of rounding errors makes as large a step as any other.
    optimiser = {"batches": 6, "clip": 0.5, "eps": 1e-3, "learning_rate": 2e-3}
    file = config_file(optimiser=optimiser, data={"batch": 4}, validation={"every": 3})
    train(read_config(file), tmp_path / "one", device="cpu")
    program = start(file, "--run", "two", "--device", "cpu", "--devices", "2")
    output, errors = program.communicate(timeout=300)
    assert program.returncode == 0, errors
    assert output == ""
    lines = errors.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith("batch ")] == [
        "validation after batch 3",
        "validation after batch 6",
        "weights",
    ]
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    start_weights = train_start(file)
    for part in ("state_dict", "current_model_state"):  # the average, and the weights themselves
        apart = max(float((value - two[part][name]).abs().max()) for name, value in one[part].items())
        moved = max(float((value - start_weights[name]).abs().max()) for name, value in one[part].items())
        assert moved > 1e-3
        assert apart < 1e-4 * moved
    for row, other in zip(one["run"]["history"], two["run"]["history"], strict=True):
        assert row[0] == other[0]
        assert row[2]["simulated"] == pytest.approx(other[2]["simulated"], abs=0.01)


def train_start(file: Path) -> dict[str, torch.Tensor]:
    from mtdeblur.training.network import build_network

    return {f"network.{name}": value for name, value in build_network(read_config(file)).state_dict().items()}


@pytest.mark.slow
def test_two_processes_stop_and_resume_together(
    config_file: Callable[..., Path], start, tmp_path: Path, assert_same_run
) -> None:
    file = config_file(optimiser={"batches": 4}, validation={"every": 1})
    for run, limits in {"whole": [[]], "parts": [["--max-minutes", "0.0001"], ["--resume"]]}.items():
        for more in limits:
            program = start(file, "--run", run, "--device", "cpu", "--devices", "2", *more)
            _, errors = program.communicate(timeout=300)
            assert program.returncode == 0, errors
            assert ("time is up" in errors) == ("--max-minutes" in more)
            assert errors.count("weights: ") == 1
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
