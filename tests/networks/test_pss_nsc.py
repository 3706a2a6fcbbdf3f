"""Gao's network: nested skips, what the scales share and what they do not."""

import pytest
import torch

from mtdeblur.networks.contract import RecurrentMaps
from mtdeblur.networks.pss_nsc import SharedModule
from mtdeblur.networks.registry import create_network


def test_the_nested_skips_are_the_sums_of_all_units_before():
    module = SharedModule(3).double()

    def once(x):
        total = x
        for unit in module.units:
            total = total + unit.conv2(unit.conv1(total).relu())
        return total

    x = torch.randn(1, 3, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), once(once(x)))


@torch.no_grad()
def test_every_scale_has_convolutions_of_its_own_and_shares_the_modules():
    model = create_network("pss_nsc", width=2)
    image = torch.rand(1, 3, 8, 8)
    outputs = [member(image, image)[0] for member in model.members]
    assert len(outputs) == 3
    for parameter in model.scales[1].tail.parameters():
        torch.nn.init.zeros_(parameter)
    changed = [member(image, image)[0] for member in model.members]
    assert [torch.equal(*pair) for pair in zip(outputs, changed, strict=True)] == [True, False, True]
    assert torch.equal(changed[1], image)  # the residual is zero
    torch.nn.init.zeros_(model.encoder3.units[0].conv2.weight)
    last = [member(image, image)[0] for member in model.members]
    assert [torch.equal(*pair) for pair in zip(changed, last, strict=True)] == [False, True, False]
    assert torch.equal(model(image, image)[0], last[2])


def test_its_parameters_are_the_modules_and_each_scale_s_convolutions():
    model = create_network("pss_nsc")
    own = [sum(p.numel() for p in scale.parameters()) for scale in model.scales]
    assert own == [257_185] * 3
    assert sum(p.numel() for p in model.parameters()) - sum(own) == 3_100_160


@torch.no_grad()
def test_the_colours_do_not_see_one_another():
    torch.manual_seed(2)
    network = create_network("pss_nsc", width=2, scales=1, recurrent=True)
    blurred = torch.rand(1, 3, 8, 12)
    swapped = blurred[:, [2, 0, 1]]
    second, _ = network(blurred, *network(blurred, blurred))
    again, _ = network(swapped, *network(swapped, swapped))
    torch.testing.assert_close(again, second[:, [2, 0, 1]])


@torch.no_grad()
def test_at_the_first_iteration_the_encoder_s_own_map_stands_in_for_the_recurrent_one():
    network = create_network("pss_nsc", width=2, scales=1, recurrent=True)
    image = torch.rand(1, 3, 8, 8)
    seen = []
    handle = network.fuse1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    _, state = network(image, image)
    network(image, image, RecurrentMaps(torch.ones(1, 12, 4, 4), torch.ones(1, 24, 2, 2)))
    handle.remove()
    assert torch.equal(seen[0][:, :4], seen[0][:, 4:])
    assert torch.equal(seen[1][:, 4:], torch.ones(3, 4, 4, 4))
    assert [tuple(x.shape) for x in state] == [(1, 12, 4, 4), (1, 24, 2, 2)]


def test_a_network_of_no_scale_is_refused():
    with pytest.raises(ValueError, match="scales must be at least 1, not 0"):
        create_network("pss_nsc", scales=0)


@torch.no_grad()
def test_fresh_weights_keep_the_estimate_in_the_range_of_pictures():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 32, 32)
    for member in create_network("pss_nsc").members:
        assert (member(image, image)[0] - image).abs().max() < 2
