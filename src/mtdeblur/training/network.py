"""The network that a training run starts from."""

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
    """The configured network, channels-last: with given weights, or fresh ones that the seed determines.

    An approach without weight sharing over iterations has several of the kind, see `Several`.

    Raises:
        UserError: if the network cannot be built with these options, or the weights are another network's.
    """
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType]
        first = _fresh(config, 0)
        own = len(members(first)) > 1
        further = [] if own else [_fresh(config, number) for number in range(1, config.approach.networks)]
    network = Several([first, *further]) if further else first
    if own:
        _check_members(first, config)
    if config.network.weights is not None:
        _fill(network, config.network.weights, config.network.name)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _fresh(config: TrainingConfig, number: int) -> nn.Module:
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
    """The configured approach, for a network as `build_network` makes it.

    A network with weights of its own for each step carries each step out by the member of its number. Stages
    that hand each other a state are trained together: only the next stage trains what a stage hands on.
    """
    approach, count = config.approach.build(), len(members(network))
    if _has_stages(network):
        return TruncatedBackPropagation(SeparateWeights(OneStage(count), count), count)
    several = count > 1 and config.approach.networks == 1
    return SeparateWeights(approach, count) if several else approach


def _has_stages(network: nn.Module) -> bool:
    """Whether the network itself has several members, all at full resolution."""
    own = len(members(network)) > 1 and not isinstance(network, Several)
    return own and max(cast("Contract", network.contract).scales) == 1


def _check_members(network: nn.Module, config: TrainingConfig) -> None:
    """Raise UserError if a network with weights of its own for each step is to go through other steps."""
    name, approach = config.network.name, config.approach
    scales = cast("Contract", network.contract).scales
    if max(scales) > 1:
        if approach.name != "multi_scale" or len(scales) != len(SCALES):
            raise UserError(
                f"{name} has weights of its own for {len(scales)} scales: train it with approach.name "
                f"multi_scale and {len(SCALES)} scales, or convert it with network.options {{scales: 1}}"
            )
    elif approach.name != "stacked" or approach.networks != len(scales):
        raise UserError(
            f"{name} has {len(scales)} stages: train it with approach.name stacked and approach.iterations "
            f"{len(scales)}, or one stage with network.options {{stages: 1}}"
        )
    elif config.optimiser.adversarial:
        raise UserError(
            f"optimiser.adversarial learns after every step, but the stages of {name} learn together: "
            "leave it out, or train one stage with network.options {stages: 1}"
        )


def _fill(network: nn.Module, weights: Path, name: str) -> None:
    """Load the weights of a model of the same shape; several networks all start from one network's."""
    given = load_network(weights)
    parts: Iterable[nn.Module] = (network,)
    if isinstance(network, Several) and not isinstance(given, Several):
        parts = network.networks
    try:
        for part in parts:
            part.load_state_dict(given.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"network.weights: {weights} holds another network than {name} with these options"
        ) from error


def start_at_identity(network: nn.Module) -> None:
    """Zero the convolution of each member that writes its residual, if there is one, see `Contract.tail`."""
    for member in members(network):
        if (tail := member.contract.tail) is not None:
            for parameter in tail.parameters():
                nn.init.zeros_(parameter)
