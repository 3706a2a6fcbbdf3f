"""The network that a run starts from."""

from collections.abc import Callable

import pytest
import torch

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import members
from mtdeblur.networks.registry import NETWORKS, conversion, create_network
from mtdeblur.networks.unroll import default_steps, unroll
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.network import build_network
from mtdeblur.weights.store import save_network

SMALL = {
    name: entry.small | {option: 1 for option in conversion(name) or () if option != "converted"}
    for name, entry in NETWORKS.items()
}
"""With weights for one scale or stage."""
RESIDUAL = [name for name, small in SMALL.items() if create_network(name, **small).contract.tail]
"""Networks that add what they learn to their input."""


@pytest.mark.parametrize("name", RESIDUAL)
def test_training_starts_at_the_identity_on_demand(
    configure: Callable[..., TrainingConfig], name: str
) -> None:
    network = {"name": name, "options": SMALL[name]}
    zeroed = build_network(configure(network=network, optimiser={"zero_last": True}))
    blurred = torch.rand(2, 3, 16, 16)
    assert all(torch.equal(estimate, blurred) for estimate in unroll(zeroed, blurred, 3))
    assert sum(float(part.detach().abs().sum()) for part in zeroed.parameters()) > 0


def test_every_scale_starts_at_the_identity(configure: Callable[..., TrainingConfig]) -> None:
    config = configure(
        network={"name": "pss_nsc", "options": {"width": 4}},
        approach={"name": "multi_scale", "extra": [1, 3]},
        optimiser={"zero_last": True},
    )
    blurred = torch.rand(2, 3, 16, 16)
    assert all(torch.equal(member(blurred, blurred)[0], blurred) for member in members(build_network(config)))


def test_every_stage_starts_at_the_identity(configure: Callable[..., TrainingConfig]) -> None:
    network = {"name": "maxim", "options": SMALL["maxim"] | {"stages": 3}}
    config = configure(
        network=network, approach={"name": "stacked", "extra": [1, 3]}, optimiser={"zero_last": True}
    )
    built, blurred = build_network(config), torch.rand(1, 3, 16, 16)
    steps = default_steps(built)
    assert all(torch.equal(estimate, blurred) for estimate in unroll(members(built), blurred, steps))


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(RESIDUAL)))
def test_a_network_without_a_skip_from_its_input_keeps_its_last_convolution(
    configure: Callable[..., TrainingConfig], name: str
) -> None:
    network = {"name": name, "options": SMALL[name]}
    plain, zeroed = (
        build_network(configure(network=network, optimiser={"zero_last": zero})) for zero in (False, True)
    )
    for one, other in zip(plain.parameters(), zeroed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_seed_determines_fresh_weights(configure: Callable[..., TrainingConfig]) -> None:
    before = torch.get_rng_state()
    one, same, other = (build_network(configure(seed=seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_given_weights_are_taken(configure: Callable[..., TrainingConfig], tmp_path) -> None:
    network = build_network(configure(seed=5))
    file = tmp_path / "start.safetensors"
    save_network(file, network, dtype=torch.float32)
    started = build_network(configure(network={"weights": str(file)}, optimiser={"zero_last": True}))
    for name, value in network.state_dict().items():
        assert torch.equal(value, started.state_dict()[name])


def test_another_network_s_weights_are_refused(configure: Callable[..., TrainingConfig], tmp_path) -> None:
    file = tmp_path / "start.safetensors"
    save_network(file, create_network("mtrnn", width=4))
    with pytest.raises(UserError, match=r"network\.weights: .*start\.safetensors .*mtnaf"):
        build_network(configure(network={"weights": str(file)}))


def test_options_that_no_network_can_have_are_refused(configure: Callable[..., TrainingConfig]) -> None:
    with pytest.raises(UserError, match=r"network\.options: "):
        build_network(configure(network={"options": {"width": -8}}))
