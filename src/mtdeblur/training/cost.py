"""What training costs in multiply-accumulates, so that approaches can be compared at equal cost."""

from collections.abc import Sequence
from statistics import fmean

from mtdeblur.approaches import one_stage
from mtdeblur.networks.contract import members
from mtdeblur.networks.cost import costs_of_steps, multiply_accumulates
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.network import build_network, trained_together

BACKWARD = 2
"""A backward pass costs about as much as this many forward passes."""


def batch_cost(config: TrainingConfig) -> float:
    """Multiply-accumulates of training on one batch, on average over what is drawn at random.

    Every iteration costs a forward pass at its scale and a backward pass. Of the stacking version one network
    is trained at a time, and those before it only run; likewise where one iteration is drawn.

    Args:
        config: of the run; its patch, its batch and its approach count.

    Raises:
        UserError: if the network cannot be built.
    """
    model = build_network(config).eval()
    approach, batch, patch = config.approach, config.data.batch, config.data.patch
    costs: list[float] = []
    first = multiply_accumulates(model, one_stage(1), (patch, patch))[0]
    for level in approach.levels:
        for extra in range(approach.extra[0], approach.extra[1] + 1):
            plan = approach.plan(level, extra, len(members(model)))
            forward = [cost for (cost,) in costs_of_steps(model, plan, (patch, patch))]
            if approach.alone and not trained_together(model, approach):
                costs.append(fmean(_alone(forward)))
            else:
                costs.append((1 + BACKWARD) * sum(forward))
    later = 1 - approach.one_stage_first
    costs = [later * cost + (1 - later) * (1 + BACKWARD) * first for cost in costs]
    return batch * fmean(costs)


def _alone(forward: Sequence[float]) -> list[float]:
    """The cost where only iteration number 0, 1, ... is trained, and those before it run."""
    return [sum(forward[:turn]) + (1 + BACKWARD) * forward[turn] for turn in range(len(forward))]
