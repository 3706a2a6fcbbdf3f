"""Small photographs, and a budget that trains for a second or two."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.experiments.catalogue import Budget, base


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten photographs, of which one is held out."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for number in range(10):
        picture = Image.fromarray(random.integers(0, 256, (12, 15, 3), dtype=np.uint8))
        picture.resize((90, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Budget:
    """A budget that takes the place of the smoke budget."""
    budget = Budget.model_validate_json(
        """{
            "training": {
                "data": {"patch": 16, "batch": 1, "pool": 1, "motion": {"length": 4.0}},
                "optimiser": {"batches": 2},
                "validation": {"photos": 0}
            },
            "networks": {"mtrnn": {"width": 2}},
            "test": {"exposures": 1, "longest": 48, "length": 4.0},
            "run_time": {"height": 8, "width": 8, "repeats": 1}
        }"""
    )
    monkeypatch.setitem(base().budgets, "smoke", budget)
    return budget
