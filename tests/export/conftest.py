"""A tiny network, and its export to each target, made once for all tests of a process."""

from functools import cache

import pytest
import torch

from mtdeblur.export.exporting import export
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.store import save_network


def save(path, name, **options):
    """Save a network with random weights, the tail's included."""
    torch.manual_seed(0)
    network = create_network(name, **options).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_network(path, network, iterations=2 if name == "mtnaf" else None, dtype=torch.float32)
    return path


@pytest.fixture(name="save", scope="session")
def saving():
    return save


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Weights of a tiny recurrent network that advise two steps."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return save(path, "mtnaf", width=2, blocks=(0, 1, 1, 0, 0))


@pytest.fixture(scope="session")
def exported(tiny, tmp_path_factory):
    """The folder of the tiny network's export to a target, not to be changed."""

    @cache
    def make(target):
        folder = tmp_path_factory.mktemp(target) / "tiny"
        export(tiny, folder, target, unrolled=target == "torch")
        return folder

    return make
