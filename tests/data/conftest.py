"""Small packs, and pictures to make them of."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(seed, height=40, width=50):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def save():
    """Writes a random picture, and gives its pixels."""

    def write(path: Path, seed=0, height=40, width=50):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = picture(seed, height, width)
        Image.fromarray(pixels).save(path)
        return pixels

    return write


@pytest.fixture
def folder(tmp_path, save):
    """A pack as a folder of PNG: 5 photographs, 2 clips, 2 photographs and 2 pairs held out."""
    root = tmp_path / "pack"
    for index in range(5):
        save(root / f"train/photos/{index}.png", index, 90, 100)
    for clip in range(2):
        for frame in range(15):
            save(root / f"train/clips/clip{clip}/{frame}.png", 100 * (clip + 1) + frame, 40, 44)
    for index in range(2):
        save(root / f"valid/photos/{index}.png", 300 + index, 60, 70)
        save(root / f"valid/pairs/blur/{index}.png", 400 + index, 20, 24)
        save(root / f"valid/pairs/sharp/{index}.png", 500 + index, 20, 24)
    return root
