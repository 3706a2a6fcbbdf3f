"""ImageNet weights for a network's backbone, from a file that the user names."""

from pathlib import Path

import torch
from torch import nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.contract import members
from mtdeblur.weights.tensors import check_finite, find_state, read_all

FIRST = "0.0.weight"


def load_backbone(network: nn.Module, path: Path) -> None:
    """Start the backbone at the weights of a file in torchvision's layout of `mobilenet_v2`.

    Where the network sees two images, half of each of the first layer's weights goes to either: for two that
    are alike, as at the first iteration, it gives what it gives for one.

    Args:
        network: one with a backbone, see `Contract.backbone`.
        path: written by `torch.save` or safetensors, with `features.0.0.weight` and so on; a classifier in it
            is not looked at.

    Raises:
        UserError: if the file cannot be read, or holds something else.
        ValueError: if the network has no backbone.
    """
    backbone = members(network)[0].contract.backbone
    if backbone is None:
        raise ValueError(f"{type(network).__name__} has no backbone")
    tensors = find_state(read_all(path), f"features.{FIRST}") or {}
    try:
        state = backbone.state_dict()
        images = state[FIRST].shape[1] // 3
        values = {key: tensors[f"features.{key}"] for key in state}
        values[FIRST] = torch.cat([values[FIRST] / images] * images, dim=1)  # (32, 3 -> 3 or 6, 3, 3)
        backbone.load_state_dict(values)
        check_finite(values)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} holds no MobileNetV2 in torchvision's layout: {one_line(error)}") from None
