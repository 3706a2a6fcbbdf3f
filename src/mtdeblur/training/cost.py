"""What training costs in multiply-accumulates, so that approaches can be compared at equal cost."""

from statistics import fmean

import torch
from torch.utils.flop_counter import FlopCounterMode

from mtdeblur.networks.contract import ProgressiveNetwork, members
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.network import build_network

BACKWARD = 2
"""A backward pass costs about as much as this many forward passes."""


def batch_cost(config: TrainingConfig) -> float:
    """Multiply-accumulates of training on one batch, on average over what is drawn at random.

    Every iteration costs a forward pass at its scale and a backward pass. Of the stacking version one network
    is trained at a time, and those before it only run.

    Args:
        config: of the run; its patch, its batch and its approach count.

    Raises:
        UserError: if the network cannot be built.
    """
    networks = members(build_network(config).eval())
    approach, batch, patch = config.approach, config.data.batch, config.data.patch
    costs: list[float] = []
    for level in approach.levels:
        for extra in range(approach.extra[0], approach.extra[1] + 1):
            plan = approach.plan(level, extra, len(networks))
            forward = [_forward(networks[goal.network], -(-patch // goal.scale)) for goal in plan]
            if approach.name == "stacked":
                turns = [sum(forward[:turn]) + (1 + BACKWARD) * forward[turn] for turn in range(len(plan))]
                costs.append(fmean(turns))
            else:
                costs.append((1 + BACKWARD) * sum(forward))
    return batch * fmean(costs)


def _forward(network: ProgressiveNetwork, side: int) -> float:
    """Multiply-accumulates of one iteration on a square picture."""
    picture = torch.zeros(1, 3, side, side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(picture, picture)
    return counter.get_total_flops() / 2
