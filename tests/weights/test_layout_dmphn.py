"""DMPHN's released layout; with the authors' own files, their own output."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtdeblur.errors import UserError
from mtdeblur.media.pictures import read_picture
from mtdeblur.networks.dmphn import DMPHNConfig
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.store import advised_steps, load_network

LAYERS = {  # the numbers of those that have parameters
    "encoder": (1, 2, 3, 5, 6, 7, 9, 10, 11),
    "decoder": (13, 14, 16, 17, 18, 20, 21, 22, 24),
}
SINGLE = (1, 5, 9, 16, 20, 24)  # convolutions by themselves; the others are residual blocks


def write_released(folder: Path, network, stack: int = 1) -> None:
    """A network's weights in files such as theirs: layers in their order, each with its number."""
    for s, stage in enumerate(network.network.stages, start=1):
        for part in LAYERS:
            for level, module in enumerate(getattr(stage, f"{part}s"), start=1):
                stem = f"{part}_s{s}_lv{level}" if stack > 1 else f"{part}_lv{level}"
                torch.save(numbered(part, list(module.state_dict().values())), folder / f"{stem}.pkl")


def numbered(part: str, values: list[Tensor]) -> dict[str, Tensor]:
    names = [
        f"layer{number}{inside}.{kind}"
        for number in LAYERS[part]
        for inside in ([""] if number in SINGLE else [".0", ".2"])
        for kind in ("weight", "bias")
    ]
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("options", [{}, {"levels": 2}, {"levels": 4}, {"stack": 2}])
def test_a_folder_is_recognised_with_its_levels_stages_and_width(tmp_path, options):
    network = create_network("dmphn", width=4, **options)
    write_released(tmp_path, network, options.get("stack", 1))
    (tmp_path / "README.txt").write_text("beside the weights")
    (tmp_path / "input").mkdir()
    loaded = load_network(tmp_path)
    assert loaded.config == DMPHNConfig(width=4, **options)
    assert not loaded.training
    assert advised_steps(tmp_path) is None
    for (name, value), other in zip(network.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("missing", r"encoders\.1\.\d"),
        ("unknown", r"decoder_lv1\.layer15\.weight is no parameter of DMPHN"),
        ("damaged", r"decoder_lv2\.pkl: it is not a PyTorch state dict"),
    ],
)
def test_a_folder_that_is_not_whole_gets_one_line(tmp_path, broken, message):
    write_released(tmp_path, create_network("dmphn", width=2))
    if broken == "missing":
        (tmp_path / "encoder_lv2.pkl").unlink()
    elif broken == "unknown":
        torch.save({"layer15.weight": torch.zeros(1)}, tmp_path / "decoder_lv1.pkl")
    else:
        (tmp_path / "decoder_lv2.pkl").write_bytes(b"damaged")
    with pytest.raises(UserError, match=message) as caught:
        load_network(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


DATA = os.environ.get("MTDEBLUR_DATA")


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder with the authors' weights")
def test_the_authors_weights_give_the_authors_output_to_within_a_grey_level():
    folder = Path(str(DATA)) / "checkpoints" / "dmphn_1_2_4"
    network = load_network(folder)
    (blurred,) = (folder / "input").iterdir()
    pixels = read_picture(blurred).pixels
    theirs = read_picture(folder / "output" / blurred.name).pixels.astype(int)
    image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.inference_mode():
        output, _ = network(image, image)
    levels = 255 * output[0].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(np.rint(levels).astype(int) - theirs).max() <= 1
    truncated = np.abs(np.floor(levels).astype(int) - theirs)  # as their program stored it
    assert truncated.max() <= 1
    assert (truncated > 0).mean() < 1e-3
