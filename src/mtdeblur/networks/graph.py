"""One step of a network as a module with only tensors in and out, for tracing and export."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtdeblur.networks.contract import ProgressiveNetwork, State, members
from mtdeblur.networks.unroll import Step, unroll


class StepGraph(nn.Module):
    """One step on whole multiples: `estimate, *maps = graph(blurred, estimate, *maps)`.

    Without maps it is the first step. Height and width of the pictures are multiples of
    `Contract.multiple`, so that a traced graph contains no padding.

    Args:
        network: a PyTorch network, or a member of a model.

    Raises:
        ValueError: if it is no module, such as a scale of PSS-NSC, whose scales share one module.
    """

    def __init__(self, network: ProgressiveNetwork) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ValueError(f"{type(network).__name__} is no module and cannot be traced")
        self.network = network
        decorated: Any = type(self.network).forward
        self._iteration: Callable[..., tuple[Tensor, State]] = getattr(decorated, "__wrapped__", decorated)

    def forward(self, blurred: Tensor, estimate: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Compute one step; (B, 3, H, W) float pictures, and the maps of the state in order."""
        output, state = self._iteration(self.network, blurred, estimate, maps or None)
        return (output, *(state or ()))


class UnrolledGraph(nn.Module):
    """All steps of a model: `estimates = graph(blurred)`.

    Height and width of the picture are multiples of `Contract.multiple` times the coarsest scale.

    Args:
        model: of the registry.
        steps: to run.
    """

    def __init__(self, model: nn.Module, steps: Sequence[Step]) -> None:
        super().__init__()
        self.model = model
        self.steps = tuple(steps)

    def forward(self, blurred: Tensor) -> tuple[Tensor, ...]:
        """Estimates of all steps, (B, 3, H / scale, W / scale), for a (B, 3, H, W) float picture."""
        return tuple(unroll(members(self.model), blurred, self.steps))


@torch.no_grad()
def first_state(network: ProgressiveNetwork, before: State = None) -> State:
    """The state after one step on the smallest picture: its type, its number of maps and their channels.

    Args:
        network: float32, on the CPU.
        before: the state of the previous step, if the network needs one.
    """
    side, smaller = network.contract.multiple, network.contract.multiple // network.contract.estimate_scale
    return network(torch.zeros(1, 3, side, side), torch.zeros(1, 3, smaller, smaller), before)[1]
