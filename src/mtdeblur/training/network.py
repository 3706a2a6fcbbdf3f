"""The network and the approach at the start of a run."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from mtdeblur.approaches import SCALES, Approach, OneStage, SeparateWeights, TruncatedBackPropagation
from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.contract import Contract, Several, members
from mtdeblur.networks.registry import create_network
from mtdeblur.training.config import TrainingConfig
from mtdeblur.weights.backbone import load_backbone
from mtdeblur.weights.store import load_network


def build_network(config: TrainingConfig) -> nn.Module:
    """Build the configured network, channels-last, with the given weights or seeded random ones.

    Without weight sharing over iterations the result is `Several` networks.

    Raises:
        UserError: if the options are invalid, or the weights belong to another network.
    """
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType]
        first = _create(config, 0)
        has_members = len(members(first)) > 1
        count = 1 if has_members else config.approach.networks
        further = [_create(config, number) for number in range(1, count)]
    network = Several([first, *further]) if further else first
    if has_members:
        _check_members(first, config)
    if config.network.weights is not None:
        _load_weights(network, config.network.weights, config.network.name)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _create(config: TrainingConfig, number: int) -> nn.Module:
    try:
        network = create_network(config.network.name, **config.network.checked_options(number))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"network.options: {one_line(error)}") from error
    if config.network.backbone is not None:
        if members(network)[0].contract.backbone is None:
            raise UserError(f"network.backbone: {config.network.name} has no backbone")
        load_backbone(network, config.network.backbone)
    if config.optimiser.zero_last:
        start_at_identity(network)
    return network


def build_approach(config: TrainingConfig, network: nn.Module) -> Approach:
    """Build the configured approach, for a network from `build_network`.

    A network with several members runs each step with the member of that number. Stages that pass on a
    state are trained together: only the next stage's loss trains the state.
    """
    approach, count = config.approach.build(), len(members(network))
    if _has_stages(network):
        return TruncatedBackPropagation(SeparateWeights(OneStage(count), count), count)
    several = count > 1 and config.approach.networks == 1
    return SeparateWeights(approach, count) if several else approach


def _has_stages(network: nn.Module) -> bool:
    """Whether a network of one class has several members, all at full resolution."""
    has_members = len(members(network)) > 1 and not isinstance(network, Several)
    return has_members and max(cast("Contract", network.contract).scales) == 1


def _check_members(network: nn.Module, config: TrainingConfig) -> None:
    """Raise UserError if the approach's steps do not match the network's members."""
    name, approach = config.network.name, config.approach
    scales = cast("Contract", network.contract).scales
    if max(scales) > 1:
        if approach.name != "multi_scale" or len(scales) != len(SCALES):
            raise UserError(
                f"{name} has separate weights for {len(scales)} scales: train it with approach.name "
                f"multi_scale and {len(SCALES)} scales, or convert it with network.options {{scales: 1}}"
            )
    elif approach.name != "stacked" or approach.networks != len(scales):
        raise UserError(
            f"{name} has {len(scales)} stages: train it with approach.name stacked and approach.iterations "
            f"{len(scales)}, or one stage with network.options {{stages: 1}}"
        )
    elif config.optimiser.adversarial:
        raise UserError(
            f"optimiser.adversarial trains after every step, but the stages of {name} are trained together: "
            "remove it, or train one stage with network.options {stages: 1}"
        )


def _load_weights(network: nn.Module, weights: Path, name: str) -> None:
    """Load weights; those of one network initialise each of `Several`."""
    loaded = load_network(weights)
    parts: Iterable[nn.Module] = (network,)
    if isinstance(network, Several) and not isinstance(loaded, Several):
        parts = network.networks
    try:
        for part in parts:
            part.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"network.weights: {weights} contains another network than {name} with these network.options"
        ) from error


def start_at_identity(network: nn.Module) -> None:
    """Zero the last convolution of each member that adds a residual, see `Contract.tail`."""
    for member in members(network):
        if (tail := member.contract.tail) is not None:
            for parameter in tail.parameters():
                nn.init.zeros_(parameter)
