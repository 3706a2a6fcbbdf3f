"""Parts of a picture that rest: which do, what they keep, and what it saves."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.inference.resting import Box, RestingNetwork, can_rest, cover
from mtdeblur.inference.tiling import TiledNetwork
from mtdeblur.networks.contract import Contract, any_size
from mtdeblur.networks.mtnaf import MTNAF, MTNAFConfig
from mtdeblur.networks.unroll import Step, unroll


class Count(NamedTuple):
    steps: Tensor


class Local(nn.Module):
    """Changes a picture where it is bright, and counts its steps there; keeps the windows that it saw."""

    contract = Contract(2, 4, (1,))

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state=None):
        self.seen.append(tuple(blurred.shape[-2:]))
        count = torch.zeros_like(blurred[:, :1]) if state is None else state[0]
        bright = functional.max_pool2d((blurred > 0.5).to(blurred), 5, stride=1, padding=2)
        step = 0.1 * bright * functional.avg_pool2d(estimate, 5, stride=1, padding=2)
        return estimate + step, Count(count + 1)

    @property
    def pixels(self) -> int:
        return sum(height * width for height, width in self.seen)


def random_network() -> nn.Module:
    torch.manual_seed(5)
    network = MTNAF(MTNAFConfig(width=4, blocks=(1, 1, 1, 1, 1)))
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() == 4 else 1
        nn.init.normal_(parameter, std=0.4 / fan_in**0.5)
    return network.eval().double()


@torch.no_grad()
def estimates(network: Callable[..., object], blurred: Tensor, steps: int) -> list[Tensor]:
    return list(unroll(network, blurred, steps))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("tile", [None, 40])
def test_without_a_threshold_nothing_rests_bit_for_bit(tile):
    network, blurred = random_network(), torch.rand(2, 3, 61, 90, dtype=torch.float64)
    plain = network if tile is None else TiledNetwork(network, tile)
    found = estimates(RestingNetwork(network, 0, tile), blurred, 3)
    for expected, estimate in zip(estimates(plain, blurred, 3), found, strict=True):
        assert torch.equal(estimate, expected)


def test_a_huge_threshold_stops_after_the_first_step():
    network, blurred = Local(), torch.rand(1, 3, 30, 47)
    first, *rest = estimates(RestingNetwork(network, 10), blurred, 4)
    assert torch.equal(first, estimates(Local(), blurred, 1)[0])
    assert all(torch.equal(estimate, first) for estimate in rest)
    assert len(network.seen) == 1


def spotted(height: int, width: int, spots: list[tuple[int, int]]) -> Tensor:
    blurred = torch.full((1, 3, height, width), 0.25, dtype=torch.float64)
    for row, column in spots:
        blurred[..., row, column] = 1
    return blurred


def test_a_sharp_part_costs_nothing_and_a_blurred_one_is_deblurred_as_ever():
    network, blurred = Local(), spotted(120, 160, [(30, 40)])
    found = estimates(RestingNetwork(network, 1e-9), blurred, 5)
    for expected, estimate in zip(estimates(Local(), blurred, 5), found, strict=True):
        torch.testing.assert_close(estimate, expected, rtol=0, atol=1e-12)
    assert network.seen[0] == (120, 160)
    assert all(max(size) <= 5 + 2 + 4 * 4 + 4 for size in network.seen[1:])


@settings(max_examples=25, deadline=None)
@given(
    spots=st.lists(st.tuples(st.integers(0, 56), st.integers(0, 70)), max_size=4),
    tile=st.sampled_from([None, 16, 30]),
)
def test_whatever_rests_the_result_is_that_of_all_steps_where_nothing_changes(spots, tile):
    blurred = spotted(57, 71, spots)
    found = estimates(RestingNetwork(Local(), 1e-12, tile), blurred, 4)
    for expected, estimate in zip(estimates(Local(), blurred, 4), found, strict=True):
        torch.testing.assert_close(estimate, expected, rtol=0, atol=1e-11)


def test_two_distant_spots_cost_two_small_rectangles_and_do_not_know_of_each_other():
    one, both = Local(), Local()
    alone = estimates(RestingNetwork(one, 1e-9), spotted(200, 200, [(20, 20)]), 3)
    together = estimates(RestingNetwork(both, 1e-9), spotted(200, 200, [(20, 20), (180, 170)]), 3)
    torch.testing.assert_close(together[-1][..., :100, :100], alone[-1][..., :100, :100], rtol=0, atol=0)
    first = 200 * 200
    assert both.pixels - first <= 2 * (one.pixels - first) + 100


def test_what_rests_keeps_its_estimate_and_its_state():
    wrapped = RestingNetwork(Local(), 1e-9)
    blurred = spotted(80, 80, [(10, 10)])
    estimate, state = wrapped(blurred, blurred)
    for _ in range(3):
        estimate, state = wrapped(blurred, estimate, state)
    assert state is not None
    assert torch.equal(state[0][..., 60:, 60:], torch.ones(1, 1, 20, 20, dtype=torch.float64))
    assert state[0][..., 10, 10] == 4
    assert torch.equal(estimate[..., 60:, 60:], blurred[..., 60:, 60:])


def test_a_part_wakes_up_when_a_change_comes_near():
    """A change that travels by two pixels a step reaches a place that rested."""

    class Travelling(Local):
        contract = Contract(2, 4, ())

        def forward(self, blurred, estimate, state=None):
            return functional.max_pool2d(estimate, 5, stride=1, padding=2), None

    blurred = spotted(6, 60, [(3, 3)])
    found = estimates(RestingNetwork(Travelling(), 1e-9), blurred, 20)
    for expected, estimate in zip(estimates(Travelling(), blurred, 20), found, strict=True):
        assert torch.equal(estimate, expected)
    assert found[-1][0, 0, 3, 40] == 1


@given(
    marks=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 29)), max_size=12),
    reach=st.integers(0, 4),
)
def test_rectangles_cover_every_mark_within_and_are_no_dearer_than_one(marks, reach):
    cells = torch.zeros(20, 30, dtype=torch.bool)
    for mark in marks:
        cells[mark] = True
    within = Box(3, 18, 2, 27)
    boxes = cover(cells, within, reach)
    counts = torch.zeros(20, 30)
    for box in boxes:
        assert 3 <= box.top < box.bottom <= 18
        assert 2 <= box.left < box.right <= 27
        counts[box.top : box.bottom, box.left : box.right] += 1
    assert counts.max() <= 1
    inside = torch.zeros(20, 30, dtype=torch.bool)
    inside[3:18, 2:27] = cells[3:18, 2:27]
    assert (counts[inside] == 1).all()
    if boxes:
        rows, columns = inside.nonzero().T
        one = (rows.max() - rows.min() + 1 + 2 * reach) * (columns.max() - columns.min() + 1 + 2 * reach)
        cost = sum((b.bottom - b.top + 2 * reach) * (b.right - b.left + 2 * reach) for b in boxes)
        assert cost <= one


def test_networks_that_take_in_the_whole_picture_and_other_scales_do_not_rest():
    class Global(Local):
        contract = Contract(1, 0, (), global_operation="the mean")

    with pytest.raises(ValueError, match="the mean"):
        RestingNetwork(Global(), 0.1)
    assert can_rest([Local()], [Step(), Step()])
    assert not can_rest([Global()], [Step()])
    assert not can_rest([Local()], [Step(2), Step()])
