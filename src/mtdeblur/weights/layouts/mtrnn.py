"""The parameter layout of the authors' released MT-RNN (`model_best.pt`), in both directions.

Their program uses values of 0..255 and modules `conv1_1` .. `conv6_4` and `img_prd`; two fixed 1x1
convolutions, `sub_mean` and `add_mean`, shift the mean colour. `mtdeblur.networks.mtrnn.MTRNN` has parameters
of the same scale and the shift as a constant, so the conversion only renames and is exact.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtdeblur.networks.mtrnn import GREY_LEVELS, RGB_MEAN
from mtdeblur.weights.layouts import Layout, Translation

_SINGLE = {
    "conv1_1.0": "head",
    "conv2_1.0": "down1",
    "conv2_c.0": "fuse1",
    "conv3_1.0": "down2",
    "conv3_c.0": "fuse2",
    "conv5_1.0": "up2",
    "conv5_c.0": "merge2",
    "conv6_1.0": "up1",
    "conv6_c.0": "merge1",
    "img_prd.0": "tail",
}
_STACKS = {  # their residual blocks conv1_2, conv1_3, conv1_4 are encoder1.0, .1, .2
    "encoder1": ("conv1", 2),
    "encoder2": ("conv2", 2),
    "encoder3": ("conv3", 2),
    "decoder3": ("conv4", 1),
    "decoder2": ("conv5", 2),
    "decoder1": ("conv6", 2),
}
_MODULES = _SINGLE | {
    f"{theirs}_{first + block}.stem.{layer}": f"{ours}.{block}.conv{1 + layer // 2}"
    for ours, (theirs, first) in _STACKS.items()
    for block in range(3)
    for layer in (0, 2)
}
_SHIFTS = {"sub_mean": -1.0, "add_mean": 1.0}
_THEIRS = {ours: theirs for theirs, ours in _MODULES.items()}


def from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the authors' program to one of `MTRNN`.

    Args:
        state: theirs.

    Returns:
        The tensors under our names; `sub_mean` and `add_mean` are checked and left out.

    Raises:
        ValueError: if a name is unknown, or the mean colour is not the released model's.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if module in _SHIFTS:
            _check_shift(f"{module}.{kind}", value)
        elif module in _MODULES:
            renamed[f"{_MODULES[module]}.{kind}"] = value
        else:
            raise ValueError(f"{name} is no parameter of the authors' MT-RNN")
    return renamed


def to_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `from_authors`, with the two mean shifts that their program expects.

    Raises:
        ValueError: if a name is no parameter of `MTRNN`.
    """
    names = [f"{shift}.{kind}" for shift in _SHIFTS for kind in ("weight", "bias")]
    renamed = {name: _shift(name) for name in names}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if module not in _THEIRS:
            raise ValueError(f"{name} is no parameter of MT-RNN")
        renamed[f"{_THEIRS[module]}.{kind}"] = value
    return renamed


def translate(state: Mapping[str, Tensor]) -> Translation:
    """The network of a state dict of the authors' program; without recurrent maps if it has none.

    Raises:
        ValueError: as `from_authors` does.
    """
    renamed = from_authors(state)
    head = renamed["head.weight"]  # (width, 6, kernel, kernel)
    recurrent = "fuse1.weight" in renamed
    options = {"width": head.shape[0], "kernel": head.shape[-1], "recurrent": recurrent}
    return Translation("mtrnn", options, renamed)


LAYOUTS = (Layout("the MT-RNN authors' (model_best.pt)", "conv1_1.0.weight", translate),)


def _shift(name: str) -> Tensor:
    module, _, kind = name.rpartition(".")
    if kind == "weight":
        return torch.eye(3).view(3, 3, 1, 1)
    return _SHIFTS[module] * GREY_LEVELS * torch.tensor(RGB_MEAN)


def _check_shift(name: str, value: Tensor) -> None:
    expected = _shift(name)
    rounding = max(1e-5, torch.finfo(value.dtype).eps)  # of weights that are stored in half precision
    if value.shape != expected.shape or not torch.allclose(value.to(expected), expected, rtol=rounding):
        raise ValueError(f"{name} does not shift by the mean colour {RGB_MEAN} of the released model")
