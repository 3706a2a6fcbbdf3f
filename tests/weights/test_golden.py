"""What the shipped weights give for one picture: a network whose file changes must still give it.

`python tests/weights/test_golden.py` writes the pictures anew, which is right only where weights are new.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from mtdeblur.networks.contract import members
from mtdeblur.networks.unroll import unroll
from mtdeblur.weights.catalogue import catalogue, find_weights
from mtdeblur.weights.store import load_model

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(catalogue())


def estimates(name: str) -> NDArray[np.float32]:
    """(steps, 3, 64, 64): the estimate of each step for a part of a picture, in float32."""
    picture = torch.tensor(data.astronaut()[40:104, 190:254].astype(np.float32) / 255)
    model = load_model(find_weights(name))
    with torch.no_grad():
        steps = unroll(members(model.network), picture.permute(2, 0, 1)[None], model.steps)
        return torch.cat(list(steps)).numpy()


def test_every_shipped_file_has_a_golden_output() -> None:
    assert sorted(file.stem for file in GOLDEN.glob("*.npz")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_give_what_they_gave(name: str) -> None:
    """Within rounding: kernels differ from processor to processor."""
    expected = np.load(GOLDEN / f"{name}.npz")["estimates"]
    np.testing.assert_allclose(estimates(name), expected, rtol=0, atol=2e-5)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for shipped in NAMES:
        np.savez_compressed(GOLDEN / f"{shipped}.npz", estimates=estimates(shipped))
