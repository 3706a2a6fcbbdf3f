"""Training on a machine that has little more than PyTorch and Lightning."""

from collections.abc import Callable
from pathlib import Path

import pytest

BLOCK = """
import importlib.metadata, sys

MISSING = {"pyvips", "skimage", "tensorboard", "tensorboardX", "av", "matplotlib", "huggingface_hub"}
find = importlib.metadata.distribution

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def distribution(name):
    if name in MISSING:
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)

sys.meta_path.insert(0, Finder())
importlib.metadata.distribution = distribution
"""


@pytest.mark.slow
def test_training_needs_none_of_the_heavy_packages(
    config_file: Callable[..., Path], pack: Path, start, tmp_path: Path
) -> None:
    file = config_file(data={"pack": None}, optimiser={"batches": 2})
    program = start(
        file, "--run", "run", "--photos", pack / "train" / "photos", "--device", "cpu", before=BLOCK
    )
    _, errors = program.communicate(timeout=120)
    assert program.returncode == 0, errors
    assert (tmp_path / "run" / "best.safetensors").exists()
    assert (tmp_path / "run" / "curves" / "metrics.csv").exists()
