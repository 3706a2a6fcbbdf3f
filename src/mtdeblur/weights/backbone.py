"""ImageNet weights for the backbone of DeblurGAN-v2, from a file that the user names."""

from pathlib import Path

import torch
from torch import nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.convert import ProgressiveAdapter
from mtdeblur.networks.deblurgan_v2 import DeblurGANv2
from mtdeblur.weights.tensors import check_finite, find_state, read_all

FIRST = "0.0.weight"


def has_backbone(network: nn.Module) -> bool:
    """Whether a network has a backbone that ImageNet weights fit."""
    return isinstance(network, ProgressiveAdapter) and isinstance(network.network, DeblurGANv2)


def load_backbone(network: nn.Module, path: Path) -> None:
    """Start the backbone at the weights of a file in torchvision's layout of `mobilenet_v2`.

    Where the network sees two images, half of each of the first layer's weights goes to either: for two that
    are alike, as at the first iteration, it gives what it gives for one.

    Args:
        network: one with a backbone, see `has_backbone`.
        path: written by `torch.save` or safetensors, with `features.0.0.weight` and so on; a classifier in it
            is not looked at.

    Raises:
        UserError: if the file cannot be read, or holds something else.
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
