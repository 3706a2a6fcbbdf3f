"""Runs that are killed or interrupted, in processes of their own."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtdeblur.training.config_file import read_config
from mtdeblur.training.run import train
from mtdeblur.weights.store import load_network, read_header

# Code that kills its own process at the n-th of all the moments at which something begins or ends: batches,
# checkpoints, validations, files put in place.
SUICIDE = """
import os, pathlib, signal
import mtdeblur.training.algorithm as algorithm, mtdeblur.training.checkpoints as checkpoints
left = [{moments}]
def deadly(owner, name):
    inner = getattr(owner, name)
    def outer(*arguments, **options):
        for work in (lambda: None, lambda: inner(*arguments, **options)):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = work()
        return result
    setattr(owner, name, outer)
training = algorithm.IncrementalTemporalTraining
for owner, names in {{
    training: ["training_step", "validation_step", "on_validation_epoch_start", "on_save_checkpoint"],
    checkpoints.CheckpointWriter: ["_save", "on_validation_end", "on_train_batch_end", "on_train_end"],
    pathlib.Path: ["replace"],
    checkpoints: ["save_network", "write_atomically"],
}}.items():
    for name in names:
        deadly(owner, name)
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_is_the_same_run(
    config_file: Callable[..., Path], start, assert_same_run, tmp_path: Path
) -> None:
    file = config_file(checkpoint_minutes=1e-6, optimiser={"batches": 7}, validation={"every": 3})
    train(read_config(file), tmp_path / "whole", device="cpu")
    kills = 0
    for moments in (1, 9, 16, 19, 26, 31, 10_000):
        program = start(
            file, "--run", "killed", "--device", "cpu", "--resume", before=SUICIDE.format(moments=moments)
        )
        _, errors = program.communicate(timeout=300)
        kills += program.returncode == -signal.SIGKILL
        assert program.returncode in (0, -signal.SIGKILL), errors
        if program.returncode == 0:
            break
    assert program.returncode == 0
    assert kills >= 4
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    for name in ("best.safetensors", "last.safetensors"):
        one, other = tmp_path / "whole" / name, tmp_path / "killed" / name
        assert read_header(one) == read_header(other)
        weights = load_network(other).state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in load_network(one).state_dict().items())


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.fault("killed training or data set")
def test_killed_from_outside_and_resumed_it_is_the_same_run(
    config_file: Callable[..., Path], start, assert_same_run, tmp_path: Path
) -> None:
    file = config_file(checkpoint_minutes=1e-6, optimiser={"batches": 150}, validation={"every": 50})
    train(read_config(file), tmp_path / "whole", device="cpu")
    checkpoint = tmp_path / "killed" / "last.ckpt"
    for pause in (0.0, 0.31, 0.73):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        program = start(file, "--run", "killed", "--device", "cpu", "--resume")
        wait_for(lambda before=before: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before)
        time.sleep(pause)
        program.kill()
        program.communicate()
    program = start(file, "--run", "killed", "--device", "cpu", "--resume")
    _, errors = program.communicate(timeout=300)
    assert program.returncode == 0, errors
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.fault("SIGINT or SIGTERM")
def test_a_signal_ends_the_run_ready_to_resume(
    config_file: Callable[..., Path], start, assert_same_run, tmp_path: Path, number: signal.Signals
) -> None:
    file = config_file(checkpoint_minutes=1e-6, optimiser={"batches": 150}, validation={"every": 50})
    train(read_config(file), tmp_path / "whole", device="cpu")
    program = start(file, "--run", "parts", "--device", "cpu")
    wait_for((tmp_path / "parts" / "last.ckpt").exists)
    program.send_signal(number)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 128 + number
    lines = errors.splitlines()
    assert any(line.startswith("stopping after this batch") for line in lines)
    assert any(
        line.startswith("interrupted: ") and "of 150 batches" in line and "--resume" in line for line in lines
    )
    assert "Traceback" not in errors
    again = start(file, "--run", "parts", "--device", "cpu", "--resume")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


ENDLESS_VALIDATION = """
import time
import mtdeblur.training.algorithm as algorithm
def endless(*_):
    print("validating", flush=True)
    time.sleep(300)
algorithm.IncrementalTemporalTraining.validation_step = endless
"""


@pytest.mark.slow
def test_a_second_interruption_ends_it_at_once(config_file: Callable[..., Path], start) -> None:
    program = start(config_file(), "--run", "run", "--device", "cpu", before=ENDLESS_VALIDATION)
    assert program.stdout.readline() == "validating\n"
    program.send_signal(signal.SIGINT)
    assert program.stderr.readline().startswith("stopping after this batch")
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert program.returncode == 130
    assert errors == "mtdeblur: interrupted; no file is left half-written\n"
