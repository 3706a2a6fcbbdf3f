"""The content loss of DeblurGAN-v2 (Kupyn et al., ICCV 2019): squared errors of pixels and features."""

from pathlib import Path

import torch
from torch import Tensor, nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.weights.tensors import read_tensors

PIXEL_WEIGHT = 0.5
FEATURE_WEIGHT = 0.006
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

VGG_CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256)
"""Output channels of VGG19's convolutions up to conv3_3; 0 is 2x2 max pooling."""


class ContentLoss(nn.Module):
    """0.5 times the mean squared error of pixels plus 0.006 times that of VGG19's features at conv3_3.

    Both use images normalised with ImageNet's mean and deviation: the authors' program normalises the
    first image of each batch in place, and trains with batch size 1.

    Args:
        vgg19: the feature extractor, see `load_vgg19`; None leaves that term out.
    """

    def __init__(self, vgg19: nn.Module | None) -> None:
        super().__init__()
        self.vgg19 = vgg19
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, estimate: Tensor, sharp: Tensor) -> Tensor:
        """The loss, a scalar, of images (B, 3, H, W) in [0, 1]."""
        estimate, sharp = ((image - self.mean) / self.deviation for image in (estimate, sharp))
        loss = PIXEL_WEIGHT * (estimate - sharp).square().mean()
        if self.vgg19 is None:
            return loss
        with torch.no_grad():
            target = self.vgg19(sharp)
        return loss + FEATURE_WEIGHT * (self.vgg19(estimate) - target).square().mean()


def vgg19_features() -> nn.Sequential:
    """VGG19 (Simonyan and Zisserman, 2015) up to conv3_3, frozen, with torchvision's layer numbers.

    Maps normalised images (B, 3, H, W) to (B, 256, H/4, W/4).
    """
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG_CHANNELS:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1]).requires_grad_(False).eval()


def load_vgg19(path: Path) -> nn.Sequential:
    """Load VGG19's feature extractor from ImageNet weights in torchvision's layout.

    Args:
        path: file of `torch.save` or safetensors with `features.0.weight` and so on; layers beyond
            conv3_3 are ignored.

    Raises:
        UserError: if the file cannot be read, or contains other weights.
    """
    tensors = read_tensors(path)
    network = vgg19_features()
    try:
        network.load_state_dict({key: tensors[f"features.{key}"] for key in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"{path} does not contain VGG19 in torchvision's layout: {one_line(error, 200)}"
        ) from None
    return network
