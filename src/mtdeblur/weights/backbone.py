"""ImageNet weights for the backbone of DeblurGAN-v2, from a user's file."""

from pathlib import Path

import torch
from torch import nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.convert import ProgressiveAdapter
from mtdeblur.networks.deblurgan_v2 import DeblurGANv2
from mtdeblur.weights.tensors import check_finite, find_state, read_all

FIRST = "0.0.weight"


def has_backbone(network: nn.Module) -> bool:
    """Whether a network has a backbone for ImageNet weights."""
    return isinstance(network, ProgressiveAdapter) and isinstance(network.network, DeblurGANv2)


def load_backbone(network: nn.Module, path: Path) -> None:
    """Load the weights of the backbone from a file in torchvision's layout of `mobilenet_v2`.

    For a network with two input images, the first layer's weights are halved and used for both; its output
    for two equal images, as in the first iteration, is that for one.

    Args:
        network: one with a backbone, see `has_backbone`.
        path: written by `torch.save` or safetensors, with `features.0.0.weight` and so on; a classifier in it
            is ignored.

    Raises:
        UserError: if the file cannot be read, or is not in this layout.
        ValueError: if the network has no such backbone.
    """
    generator = network.network if isinstance(network, ProgressiveAdapter) else network
    if not isinstance(generator, DeblurGANv2):
        raise ValueError(f"{type(generator).__name__} has no backbone")
    tensors = find_state(read_all(path), f"features.{FIRST}") or {}
    try:
        backbone = {key: tensors[f"features.{key}"] for key in generator.features.state_dict()}
        if generator.config.converted:
            backbone[FIRST] = torch.cat([backbone[FIRST] / 2] * 2, dim=1)  # (32, 3 -> 6, 3, 3)
        generator.features.load_state_dict(backbone)
        check_finite(backbone)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} holds no MobileNetV2 in torchvision's layout: {one_line(error)}") from None
