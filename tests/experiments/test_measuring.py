"""What steps cost."""

from pathlib import Path

import pytest

from mtdeblur.experiments.catalogue import Budget, experiment, training_config
from mtdeblur.experiments.measuring import Subject
from mtdeblur.training.network import build_approach, build_network


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("OS", [1]),
        ("SV w/o RFM", [1, 2, 3]),
        ("MS w/o RFM", [1 / 16, 1 / 16 + 1 / 4, 1 / 16 + 1 / 4 + 1]),
        ("MT w/o RFM", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_steps_cost_their_share_of_the_picture(
    tiny: Budget, tmp_path: Path, name: str, shares: list[float]
) -> None:
    """Without recurrent feature maps, a step at 1/4 of the size costs 1/16 of one at full size."""
    rows = {row.name: row for row in experiment("comparison").rows}
    tiny.networks["mtnaf"] = {"width": 4, "blocks": [1, 1, 1, 1, 1]}

    def costs(row: str) -> list[float]:
        config = training_config(rows[row], tiny, {"pack": "any"}, 0)
        network = build_network(config).eval()
        steps = build_approach(config, network).steps(rows[row].iterations)
        return Subject(tmp_path, lambda: (network, steps), len(steps), "cpu").costs()

    (one,) = costs("OS")
    assert costs(name) == pytest.approx([share * one for share in shares], rel=0.03)
