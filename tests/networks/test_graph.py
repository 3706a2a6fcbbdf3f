"""One step as a graph of tensors."""

import pytest
import torch
from torch import nn

from mtdeblur.networks.contract import members
from mtdeblur.networks.graph import StepGraph, first_state
from mtdeblur.networks.registry import NETWORKS, create_network

TRACEABLE = sorted(set(NETWORKS) - {"pss_nsc"})


@pytest.mark.parametrize("name", TRACEABLE)
def test_a_graph_gives_what_the_network_gives(name: str) -> None:
    torch.manual_seed(0)
    model = create_network(name, **NETWORKS[name].small).eval()
    network = members(model)[0]
    contract = network.contract
    side, smaller = 2 * contract.multiple, 2 * contract.multiple // contract.estimate_scale
    blurred, estimate = torch.rand(1, 3, side, side), torch.rand(1, 3, smaller, smaller)
    with torch.no_grad():
        expected, state = network(blurred, estimate)
        output, *maps = StepGraph(network)(blurred, estimate)
        assert torch.equal(output, expected)
        assert len(maps) == len(state or ())
        assert all(map(torch.equal, maps, state or ()))
        if state is not None and len(members(model)) == 1:
            again, _ = network(blurred, expected, state)
            assert torch.equal(StepGraph(network)(blurred, expected, *maps)[0], again)


@pytest.mark.parametrize("name", ["mtrnn", "mtnaf", "maxim", "nafnet"])
def test_first_state_has_the_type_and_channels_of_the_networks_state(name: str) -> None:
    network = members(create_network(name, **NETWORKS[name].small).eval())[0]
    side = 3 * network.contract.multiple
    with torch.no_grad():
        state = network(torch.rand(1, 3, side, side), torch.rand(1, 3, side, side))[1]
    kind = first_state(network)
    assert type(kind) is type(state)
    assert [part.shape[1] for part in kind or ()] == [part.shape[1] for part in state or ()]


def test_what_is_no_module_is_refused() -> None:
    model = create_network("pss_nsc", **NETWORKS["pss_nsc"].small)
    assert not isinstance(members(model)[0], nn.Module)
    with pytest.raises(ValueError, match="Scale"):
        StepGraph(members(model)[0])
