"""Training cost in multiply-accumulates, to compare approaches at equal cost."""

from mtdeblur.approaches import plans
from mtdeblur.networks.cost import costs_of_steps
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.network import build_approach, build_network

BACKWARD = 2
"""Cost of a backward pass, in forward passes, approximately."""


def batch_cost(config: TrainingConfig) -> float:
    """Expected multiply-accumulates of training on one batch, over all random draws and phases.

    Every iteration costs a forward pass at its scale, and a backward pass if it has a gradient.

    Args:
        config: of the run.

    Raises:
        UserError: if the network cannot be built.
    """
    network = build_network(config).eval()
    patch = config.data.patch
    total = 0.0
    for plan, probability in plans(build_approach(config, network), config.approach.levels):
        forward = costs_of_steps(network, [goal.step for goal in plan], (patch, patch))
        costs = (
            cost * (1 + BACKWARD * goal.has_gradient) for goal, (cost,) in zip(plan, forward, strict=True)
        )
        total += probability * sum(costs)
    return config.data.batch * total
