"""What training costs, by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from mtdeblur.networks.cost import costs_of_steps
from mtdeblur.networks.unroll import default_steps
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.cost import batch_cost
from mtdeblur.training.network import build_network

PLAIN = {"name": "mtrnn", "options": {"width": 4, "recurrent": False}}


@pytest.mark.parametrize(
    ("approach", "times"),
    [
        ({"name": "one_stage", "iterations": 6}, 6),
        ({"name": "multi_scale"}, 1 + 1 / 4 + 1 / 16),
        ({"name": "stacked"}, (1 + (1 + 1 / 3) + (1 + 2 / 3)) / 3),
        ({"iterations": 5}, 5),
        ({"levels": [7, 9, 11, 13], "extra": [1, 3]}, (5 + 6 + 20 / 3 + 7) / 4),  # of 7 iterations at most
        ({"iterations": 5, "one_stage_first": 0.75}, 0.75 * 1 + 0.25 * 5),
        ({"iterations": 5, "trained": "drawn"}, 1 + (0 + 1 + 2 + 3 + 4) / 3 / 5),
        ({"name": "multi_scale_temporal", "iterations": 2}, 2 * (1 + 1 / 4 + 1 / 16)),
    ],
)
def test_cost_of_a_batch_in_those_of_one_stage(
    approach: dict[str, Any], times: float, configure: Callable[..., TrainingConfig]
) -> None:
    one, other = (
        batch_cost(configure(network=PLAIN, approach={"extra": [1, 3]} | made, data={"patch": 32}))
        for made in ({"name": "one_stage"}, approach)
    )
    assert other / one == pytest.approx(times)


def test_stages_that_are_trained_together_cost_all_of_their_steps(
    configure: Callable[..., TrainingConfig],
) -> None:
    config = configure(
        network={"name": "maxim", "options": {"width": 4, "tokens": [4, 4, 2, 2]}},
        approach={"name": "stacked", "extra": [1, 3]},
        data={"patch": 32, "batch": 2},
    )
    model = build_network(config).eval()
    steps = sum(cost for (cost,) in costs_of_steps(model, default_steps(model), (32, 32)))
    assert batch_cost(config) == 3 * 2 * steps


def test_the_paper_s_network_at_the_size_of_its_specification(
    configure: Callable[..., TrainingConfig],
) -> None:
    """736,374 FLOP for a pixel and iteration; a backward pass is counted twice."""
    config = configure(
        network={"name": "mtrnn", "options": {}},
        approach={"name": "one_stage", "extra": [1, 3]},
        data={"patch": 64, "batch": 2},
    )
    assert batch_cost(config) == pytest.approx(3 * 2 * 64 * 64 * 736_374 / 2, rel=0.001)
