"""Image-to-image networks as progressive ones, plain and converted to multi-temporal."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mtdeblur.networks.contract import Contract
from mtdeblur.networks.convert import ImageToImageConfig, ProgressiveAdapter
from mtdeblur.networks.registry import NETWORKS, Entry, create_network, network_options


@dataclass(frozen=True)
class ProbeConfig(ImageToImageConfig):
    shift: float = 0.25


class Probe(nn.Module):
    """Gives the first three channels plus half of the last three; keeps what it was given."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.ones(3, config.in_channels))

    @property
    def contract(self):
        return Contract(multiple=4, halo=0, state_scales=())

    def forward(self, image):
        self.seen = image
        return image[:, :3] + image[:, -3:] / 2 + self.config.shift


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(NETWORKS, "probe", Entry(Probe, ProbeConfig, {}))


@pytest.fixture
def pictures():
    return torch.rand(2, 2, 3, 6, 5).unbind()


def test_a_plain_network_sees_the_estimate_alone_and_is_run_once(pictures):
    network = create_network("probe")
    assert isinstance(network, ProgressiveAdapter)
    output, state = network(*pictures)
    assert network.network.seen.shape == (2, 3, 8, 8)
    assert state is None
    torch.testing.assert_close(output, 1.5 * pictures[1] + 0.25)
    assert network.contract.iterations == 1
    assert network.network.weight.shape == (3, 3)


def test_a_converted_network_sees_the_blurred_input_before_the_estimate(pictures):
    network = create_network("probe", converted=True)
    output, state = network(*pictures)
    assert network.network.seen.shape == (2, 6, 8, 8)
    assert state is None
    torch.testing.assert_close(output, pictures[0] + pictures[1] / 2 + 0.25)
    assert network.contract.iterations == 6
    assert network.network.weight.shape == (3, 6)


def test_the_last_row_and_column_are_repeated_to_the_network_s_multiple(pictures):
    network = create_network("probe")
    network(*pictures)
    seen = network.network.seen
    assert torch.equal(seen[..., :6, :5], pictures[1])
    assert torch.equal(seen[..., 6:, :], seen[..., 5:6, :].expand(-1, -1, 2, -1))
    assert torch.equal(seen[..., 5:], seen[..., 4:5].expand(-1, -1, -1, 3))


def test_the_conversion_is_an_option_like_any_other():
    network = create_network("probe", converted=True, shift=0.5)
    assert network_options(network) == ("probe", {"converted": True, "shift": 0.5})
    with pytest.raises(ValueError, match="takes the options converted, shift, not width"):
        create_network("probe", width=3)
