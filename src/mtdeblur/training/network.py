"""The network that a training run starts from."""

from typing import cast

import torch
from torch import Tensor, nn

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import ProgressiveNetwork
from mtdeblur.networks.registry import create_network
from mtdeblur.training.config import TrainingConfig
from mtdeblur.weights.store import load_network


def build_network(config: TrainingConfig) -> nn.Module:
    """The configured network, channels-last: with given weights, or fresh ones that the seed determines.

    Raises:
        UserError: if the network cannot be built with these options, or the weights are another network's.
    """
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType]
        try:
            network = create_network(config.network.name, **config.network.checked_options())
        except (ValueError, RuntimeError) as error:
            raise UserError(f"network.options: {' '.join(str(error).split())}") from error
    if config.network.weights is not None:
        given = load_network(config.network.weights)
        try:
            network.load_state_dict(given.state_dict())
        except RuntimeError as error:
            raise UserError(
                f"network.weights: {config.network.weights} holds another network than {config.network.name} "
                f"with these options"
            ) from error
    elif config.optimiser.zero_last:
        last = last_convolution(network)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def last_convolution(network: nn.Module) -> nn.Conv2d:
    """The convolution that runs last in an iteration: where a residual is learned, it writes the residual.

    Found by watching one iteration on a small picture, so that networks may call it what they like.

    Args:
        network: one of the registry, on the CPU.
    """
    ran: list[nn.Conv2d] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ran.append(cast("nn.Conv2d", module))

    hooks = [part.register_forward_hook(watch) for part in network.modules() if isinstance(part, nn.Conv2d)]
    picture = torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        cast("ProgressiveNetwork", network)(picture, picture)
    for hook in hooks:
        hook.remove()
    return ran[-1]
