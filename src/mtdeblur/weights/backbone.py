"""ImageNet weights for a network's backbone, from a user's file."""

from pathlib import Path

import torch
from torch import nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.contract import members
from mtdeblur.weights.tensors import check_finite, find_state, read_all

FIRST = "0.0.weight"


def load_backbone(network: nn.Module, path: Path) -> None:
    """Load the weights of the backbone from a file in torchvision's layout of `mobilenet_v2`.

    For a network with two input images, the first layer's weights are halved and used for both; its output
    for two equal images, as in the first iteration, is that for one.

    Args:
        network: one with a backbone, see `Contract.backbone`.
        path: written by `torch.save` or safetensors, with `features.0.0.weight` and so on; a classifier in it
            is ignored.

    Raises:
        UserError: if the file cannot be read, or is not in this layout.
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
