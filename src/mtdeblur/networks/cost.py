"""Parameters and multiply-accumulates of the registered networks."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, members
from mtdeblur.networks.registry import NETWORKS, conversion, create_network
from mtdeblur.networks.unroll import Step, carry_out, default_steps, multiple_of_scales


class Surveyed(NamedTuple):
    """A network with its default options, in one approach.

    Attributes:
        name: name in the registry.
        converted: whether it is converted to multi-temporal from another approach.
        model: the network with random weights, in evaluation mode.
        steps: steps at test time: the network's default, or the default iterations if converted.
    """

    name: str
    converted: bool
    model: nn.Module
    steps: tuple[Step, ...]

    @property
    def contract(self) -> Contract:
        """Properties of the network."""
        return cast("Contract", self.model.contract)

    @property
    def approach(self) -> str:
        """Name of the approach in Fig. 1."""
        if any(step.scale > 1 for step in self.steps):
            return "multi-scale"
        if len(self.steps) == 1:
            return "one-stage"
        return "stacked" if len({step.network for step in self.steps}) > 1 else "multi-temporal"


def survey() -> Iterator[Surveyed]:
    """All registered networks in their own approach, and converted if it is not multi-temporal."""
    for name in sorted(NETWORKS):
        own = create_network(name).eval()
        yield Surveyed(name, False, own, default_steps(own))
        options = conversion(name)
        if options is not None:
            converted = create_network(name, **options).eval()
            yield Surveyed(name, True, converted, (Step(),) * Contract.iterations)


def parameters(model: nn.Module) -> int:
    """Number of parameters of a model, including parameters that are never used."""
    return sum(part.numel() for part in model.parameters())


def multiply_accumulates(model: nn.Module, steps: Sequence[Step], *sizes: tuple[int, int]) -> tuple[int, ...]:
    """Multiply-accumulates of all steps for one picture, in convolutions and matrix products.

    Args:
        model: a registered network, float32, in evaluation mode, on the CPU or PyTorch's "meta" device.
        steps: the steps.
        sizes: heights and widths of pictures, in pixels.

    Returns:
        The count for each size.
    """
    return tuple(map(sum, zip(*costs_of_steps(model, steps, *sizes), strict=True)))


def costs_of_steps(model: nn.Module, steps: Sequence[Step], *sizes: tuple[int, int]) -> list[tuple[int, ...]]:
    """Multiply-accumulates of each step for one picture, see `multiply_accumulates`.

    The count is linear in the area, padded to the network's multiple, with a constant for global
    operations. Counts for two small pictures determine both coefficients.

    Args:
        model: as for `multiply_accumulates`.
        steps: the steps, in order; each receives the state of the previous one.
        sizes: heights and widths of pictures, in pixels.

    Returns:
        For each step, the count for each size.
    """
    networks = members(model)
    side = 2 * math.lcm(*(networks[step.network].contract.multiple for step in steps))
    device = next((part.device for part in model.parameters()), None)
    probes = _Probe(side, side, device), _Probe(2 * side, side, device)
    multiple = multiple_of_scales(networks, steps)
    padded = [[-(-length // multiple) * multiple for length in size] for size in sizes]
    known: dict[tuple[int, bool], tuple[int, int]] = {}
    costs: list[tuple[int, ...]] = []
    for number, step in enumerate(steps):
        contract = networks[step.network].contract
        kind = (step.network, number > 0 and bool(contract.state_scales))
        if kind not in known:
            small, large = (probe.count(networks[step.network]) for probe in probes)
            count = (side // contract.multiple) ** 2  # blocks of the small picture, half of the large one
            block = (large - small) // count
            known[kind] = (small - count * block, block)
        constant, block = known[kind]
        blocks = (
            math.prod(-(-length // (step.scale * contract.multiple)) for length in size) for size in padded
        )
        costs.append(tuple(constant + block * count for count in blocks))
    return costs


class _Probe:
    """Counts multiply-accumulates with a small picture, keeping its estimate and state between steps.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        device: of the network.
    """

    def __init__(self, height: int, width: int, device: torch.device | None) -> None:
        self.picture = self.estimate = torch.zeros(1, 3, height, width, device=device)
        self.state: State = None

    def count(self, network: ProgressiveNetwork) -> int:
        """Multiply-accumulates of the next step."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.estimate, self.state = carry_out(network, 1, self.picture, self.estimate, self.state)
        return counter.get_total_flops() // 2
