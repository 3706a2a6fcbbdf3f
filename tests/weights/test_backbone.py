"""ImageNet weights of a named file in DeblurGAN-v2's backbone."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mtdeblur.errors import UserError
from mtdeblur.networks.mobilenet import mobilenet_v2_features
from mtdeblur.networks.registry import NETWORKS, create_network
from mtdeblur.weights.backbone import load_backbone


@pytest.fixture(scope="module")
def imagenet() -> dict[str, torch.Tensor]:
    """In the layout of torchvision's `mobilenet_v2`, classifier and all."""
    torch.manual_seed(6)
    features = {f"features.{key}": value for key, value in mobilenet_v2_features(3).state_dict().items()}
    return features | {"classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_plain_network_takes_all_of_the_backbone(tmp_path, imagenet, kind):
    path = tmp_path / f"mobilenet_v2.{kind}"
    torch.save(imagenet, path) if kind == "pth" else save_file(imagenet, path)
    network = create_network("deblurgan_v2", width=8)
    load_backbone(network, path)
    for key, value in network.network.features.state_dict().items():
        assert torch.equal(value, imagenet[f"features.{key}"]), key


@torch.no_grad()
def test_converted_two_images_that_are_alike_give_what_one_gives(tmp_path, imagenet):
    torch.save(imagenet, tmp_path / "mobilenet_v2.pth")
    plain, converted = (create_network("deblurgan_v2", width=8, converted=c).eval() for c in (False, True))
    for network in (plain, converted):
        load_backbone(network, tmp_path / "mobilenet_v2.pth")
    image = torch.rand(1, 3, 32, 32)
    both = torch.cat([image, image], dim=1)
    torch.testing.assert_close(converted.network.features[:16](both), plain.network.features[:16](image))


def test_only_a_network_with_a_backbone_takes_one(tmp_path):
    with_backbone = [
        name for name, entry in NETWORKS.items() if create_network(name, **entry.small).contract.backbone
    ]
    assert with_backbone == ["deblurgan_v2"]
    other = create_network("mtrnn", width=2)
    with pytest.raises(ValueError, match="MTRNN has no backbone"):
        load_backbone(other, tmp_path / "file.pth")


def test_a_file_of_another_network_is_refused_in_one_line(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth holds no MobileNetV2 in torchvision's layout") as caught:
        load_backbone(create_network("deblurgan_v2", width=8), tmp_path / "other.pth")
    assert "\n" not in str(caught.value)
