"""Descriptions of models as data."""

import json

import pytest
import torch

import mtdeblur
from mtdeblur.errors import UserError
from mtdeblur.networks.contract import Several
from mtdeblur.networks.cost import multiply_accumulates
from mtdeblur.networks.registry import NETWORKS, create_network
from mtdeblur.networks.unroll import Step, default_steps
from mtdeblur.weights.catalogue import FILES, catalogue
from mtdeblur.weights.description import ModelDescription, describe, describe_network
from mtdeblur.weights.layouts.mtrnn import to_authors
from mtdeblur.weights.store import load_network, save_network


def test_shipped_weights_are_described_as_the_catalogue_and_the_network_say():
    described, entry = describe("mtnaf-small"), catalogue()["mtnaf-small"]
    network = load_network(FILES / "mtnaf-small.safetensors")
    contract = network.contract
    assert (described.name, described.architecture, described.library_name) == (
        "mtnaf-small",
        "mtnaf",
        "mtdeblur",
    )
    assert described.parameters == sum(part.numel() for part in network.parameters())
    assert described.weights_bytes == (FILES / "mtnaf-small.safetensors").stat().st_size
    assert (described.licence, described.training_data) == (entry.licence, entry.training_data)
    assert (described.multiple_of, described.halo) == (contract.multiple, contract.halo)
    assert (described.supports_half, described.supports_bfloat16) == (False, True)
    assert (described.iterations, described.global_operation) == (1, None)
    assert mtdeblur.describe("mtnaf-small") == described


def test_a_described_network_can_be_built_again_and_the_smallest_picture_is_taken(tmp_path):
    network = create_network("mtnaf", width=8, blocks=(1, 0, 0, 0, 1))
    save_network(tmp_path / "mine.safetensors", network, iterations=3)
    described = describe(tmp_path / "mine.safetensors")
    assert (described.name, described.licence, described.iterations) == ("mine.safetensors", None, 3)
    again = create_network(described.architecture, **described.options[0])
    again.load_state_dict(network.state_dict())
    smallest = torch.rand(1, described.input_channels, described.minimum_size, described.minimum_size)
    estimate, _ = again(smallest, smallest)
    assert estimate.shape[1] == described.output_channels


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"maxim"}))  # to spare time
def test_every_network_is_described_by_its_contract_and_its_cost(name):
    network = create_network(name, **NETWORKS[name].small).eval()
    with torch.device("meta"):
        described = describe_network(name, create_network(name, **NETWORKS[name].small).eval())
    steps = default_steps(network)
    (cost,) = multiply_accumulates(network, steps, (720, 1280))
    assert described.flop_per_pixel == pytest.approx(2 * cost / (720 * 1280))
    assert described.iterations == len(steps)
    assert (described.halo is None) == bool(network.contract.global_operation)
    assert described.original == network.contract.original


def test_several_networks_are_described_with_the_options_of_each(tmp_path):
    networks = [create_network("mtnaf", width=4, blocks=(0, 0, 0, 0, 0)) for _ in range(2)]
    save_network(tmp_path / "two.safetensors", Several(networks), iterations=(Step(1, 0), Step(1, 1)))
    described = describe(tmp_path / "two.safetensors")
    assert (described.approach, described.iterations, len(described.options)) == ("stacked", 2, 2)
    assert described.parameters == 2 * sum(part.numel() for part in networks[0].parameters())


def test_other_programs_weights_are_described(tmp_path):
    network = create_network("mtrnn", **NETWORKS["mtrnn"].small)
    torch.save(to_authors(network.state_dict()), tmp_path / "theirs.pth")
    described = describe(tmp_path / "theirs.pth")
    assert (described.architecture, described.licence) == ("mtrnn", None)
    assert "ECCV 2020" in described.original


def test_descriptions_are_json_and_cannot_be_changed():
    described = describe("mtnaf-small")
    assert ModelDescription.model_validate(json.loads(described.model_dump_json())).name == described.name
    with pytest.raises(ValueError, match="frozen"):
        described.name = "other"
    with pytest.raises(UserError, match="no weights 'nothing'"):
        describe("nothing")
