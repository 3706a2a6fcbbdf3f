"""What the survey of the registry finds, against the specification's figures."""

from dataclasses import dataclass

import pytest
from torch import nn

from mtdeblur.networks.contract import Contract
from mtdeblur.networks.cost import multiply_accumulates, parameters, survey
from mtdeblur.networks.registry import NETWORKS, Entry, conversion, create_network
from mtdeblur.networks.unroll import Step

FULL = Step()


@pytest.mark.parametrize(
    ("name", "options", "size", "gmac"),
    [
        ("nafnet", {}, (256, 256), 16),
        ("mtrnn", {}, (720, 1280), 679 / 2),
    ],
)
def test_the_cost_of_an_iteration_is_the_known_one(name, options, size, gmac):
    network = create_network(name, **options).eval()
    (count,) = multiply_accumulates(network, [FULL], size)
    assert count == pytest.approx(gmac * 1e9, rel=2e-3, abs=0.5e9)


def test_six_iterations_of_the_paper_s_network_are_4_07_tflop():
    network = create_network("mtrnn").eval()
    assert 2 * multiply_accumulates(network, [FULL] * 6, (720, 1280))[0] == pytest.approx(4.07e12, rel=2e-3)


@dataclass(frozen=True)
class PyramidConfig:
    scales: int = 3


class Pyramid(nn.Module):
    """A member for each scale, one of four, two and one channels."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.contract = Contract(1, 1, (), scales=(4, 2, 1) if config.scales > 1 else ())
        self.levels = nn.ModuleList(Level(2**number) for number in reversed(range(config.scales)))

    @property
    def members(self):
        return list(self.levels)


class Level(nn.Module):
    contract = Contract(1, 1, ())

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(3, width, 1, bias=False)
        self.second = nn.Conv2d(width, 3, 1, bias=False)

    def forward(self, blurred, estimate, state=None):
        return self.second(self.first(estimate)), None


def test_a_network_of_several_scales_is_surveyed_over_all_of_them_and_converted_at_one(monkeypatch):
    for name in list(NETWORKS):
        monkeypatch.delitem(NETWORKS, name)
    monkeypatch.setitem(NETWORKS, "pyramid", Entry(Pyramid, PyramidConfig, {}))
    own, converted = survey()
    assert (own.converted, own.approach, len(own.steps)) == (False, "multi-scale", 3)
    assert parameters(own.model) == 6 * (4 + 2 + 1)
    pixels = (2 * 3, 4 * 6, 8 * 12)
    cost = sum(6 * width * count for width, count in zip((4, 2, 1), pixels, strict=True))
    assert multiply_accumulates(own.model, own.steps, (8, 12), (16, 12)) == (cost, 2 * cost)
    assert (converted.converted, converted.approach, len(converted.steps)) == (True, "multi-temporal", 6)
    assert parameters(converted.model) == 6
    assert multiply_accumulates(converted.model, converted.steps, (8, 12)) == (6 * 6 * 8 * 12,)


def test_every_network_is_surveyed_in_its_own_approach_and_converted_where_that_is_another():
    approaches = {(row.name, row.converted): row.approach for row in survey()}
    expected = [(name, False) for name in NETWORKS]
    expected += [(name, True) for name in NETWORKS if conversion(name) is not None]
    assert sorted(approaches) == sorted(expected)
    assert approaches["dmphn", False] == "one-stage"
    assert approaches["dmphn", True] == approaches["mtrnn", False] == "multi-temporal"
    assert approaches["maxim", False] == "stacked"
    assert approaches["maxim", True] == "multi-temporal"


def test_a_network_of_stages_is_converted_with_its_first_stage_alone():
    assert conversion("maxim") == {"stages": 1, "converted": True}


WRITTEN_AFTER = [
    *("deblurgan_v2", "deepdeblur", "dmphn", "maxim"),
    *("mtrnn", "nafnet", "pss_nsc", "scale_recurrent"),
]


@pytest.mark.parametrize("name", WRITTEN_AFTER)
def test_a_network_says_what_it_is_written_after(name):
    assert create_network(name).contract.original
