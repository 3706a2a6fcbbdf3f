"""What the networks of the registry are and cost."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtdeblur.networks.contract import Contract, ProgressiveNetwork, members
from mtdeblur.networks.registry import NETWORKS, conversion, create_network
from mtdeblur.networks.unroll import Step, StepLike, default_steps


class Surveyed(NamedTuple):
    """A network with its default options, in one approach.

    Attributes:
        name: in the registry.
        converted: to multi-temporal, from another approach of its own.
        model: with fresh weights, in evaluation mode.
        steps: its own at test time; converted, as many iterations as is usual.
    """

    name: str
    converted: bool
    model: nn.Module
    steps: tuple[Step, ...]

    @property
    def contract(self) -> Contract:
        """The network's facts."""
        return cast("Contract", self.model.contract)

    @property
    def approach(self) -> str:
        """What Fig. 1 calls it."""
        if any(step.scale > 1 for step in self.steps):
            return "multi-scale"
        return "one-stage" if len(self.steps) == 1 else "multi-temporal"


def survey() -> Iterator[Surveyed]:
    """Every network of the registry in its own approach and, where that is another one, converted."""
    for name in sorted(NETWORKS):
        own = create_network(name).eval()
        yield Surveyed(name, False, own, default_steps(own))
        options = conversion(name)
        if options is not None:
            converted = create_network(name, **options).eval()
            yield Surveyed(name, True, converted, (Step(),) * Contract.iterations)


def parameters(model: nn.Module) -> int:
    """How many parameters a model has, those included that it brings along and never runs."""
    return sum(part.numel() for part in model.parameters())


def multiply_accumulates(
    model: nn.Module, steps: Sequence[StepLike], *sizes: tuple[int, int]
) -> tuple[int, ...]:
    """Multiply-accumulates of all steps for one picture: those of convolutions and matrix products.

    They grow with the area, padded to the network's multiple, beside a constant share of global operations.
    Counting over two small pictures tells both.

    Args:
        model: one of the registry, float32, in evaluation mode, on the CPU.
        steps: what is carried out.
        sizes: heights and widths of pictures, in pixels.

    Returns:
        The count for each size.
    """
    networks = members(model)
    costs: dict[tuple[int, bool], tuple[int, int]] = {}
    totals = [0] * len(sizes)
    for number, step in enumerate(steps):
        contract = networks[step.network].contract
        kind = (step.network, number > 0 and bool(contract.state_scales))
        if kind not in costs:
            costs[kind] = _cost(networks[step.network], with_state=kind[1])
        constant, block = costs[kind]
        for which, size in enumerate(sizes):
            blocks = math.prod(-(-length // (step.scale * contract.multiple)) for length in size)
            totals[which] += constant + block * blocks
    return tuple(totals)


def _cost(network: ProgressiveNetwork, with_state: bool) -> tuple[int, int]:
    """Of one iteration: its constant cost, and that of every multiple x multiple pixels."""
    side = network.contract.multiple
    counts: list[int] = []
    for height in (2 * side, 4 * side):
        picture = torch.zeros(1, 3, height, 2 * side)
        with torch.no_grad():
            estimate, state = network(picture, picture) if with_state else (picture, None)
            with FlopCounterMode(display=False) as counter:
                network(picture, estimate, state)
        counts.append(counter.get_total_flops() // 2)
    block = (counts[1] - counts[0]) // 4  # four blocks in the small picture, eight in the large one
    return counts[0] - 4 * block, block
