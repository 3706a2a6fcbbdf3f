"""Blended windows: where they lie, what they weigh, and what comes out of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mtdeblur.inference import windows
from mtdeblur.inference.windows import OVERLAP, spans, unroll_windows
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.unroll import Step


@given(length=st.integers(1, 3000), multiple=st.integers(1, 64), times=st.integers(1, 12))
def test_windows_are_alike_cover_everything_overlap_enough_and_weigh_one_in_all(length, multiple, times):
    side = multiple * times
    found = spans(length, side, multiple)
    starts = [span.place.start for span in found]
    size = len(found[0].weights)
    assert all(span.place.stop - span.place.start == len(span.weights) == size for span in found)
    assert size == length or (3 * side / 4 <= size <= side and size % multiple == 0)
    assert starts[0] == 0
    assert found[-1].place.stop == length
    gaps = np.diff(starts)
    assert all(gap <= size - min(OVERLAP, side // 4) for gap in gaps)
    assert max(gaps, default=0) - min(gaps, default=0) <= 1, "evenly spread"
    total = torch.zeros(length)
    for span in found:
        assert span.weights.min() > 0
        total[span.place] += span.weights
    torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-6)


@given(length=st.integers(513, 5000))
def test_no_window_more_than_necessary_and_none_larger(length):
    found = spans(length, 512, 64)
    number, size = len(found), len(found[0].weights)
    assert 512 + (number - 1) * (512 - OVERLAP) >= length
    assert 512 + (number - 2) * (512 - OVERLAP) < length
    assert size == 384 or size - 64 + (number - 1) * (size - 64 - OVERLAP) < length


@pytest.mark.parametrize(("length", "number", "size"), [(720, 2, 448), (1280, 3, 512), (576, 2, 384)])
def test_windows_of_usual_pictures(length, number, size):
    assert [len(span.weights) for span in spans(length, 512, 64)] == [size] * number


def test_weights_fall_off_linearly_where_two_windows_overlap():
    first, second = spans(512 + 448, 512)
    assert (first.place, second.place) == (slice(0, 512), slice(448, 960))
    expected = torch.arange(1, 65) / 65
    torch.testing.assert_close(second.weights[:64], expected)
    torch.testing.assert_close(first.weights[448:], 1 - expected)
    assert torch.equal(second.weights[64:], torch.ones(448))


class Mean(nn.Module):
    """Adds to the state, and gives the picture's mean: as global as can be."""

    contract = Contract(1, 0, (), global_operation="the mean")

    def forward(self, blurred, estimate, state=None):
        count = 0 if state is None else state
        mean = estimate.mean(dim=(2, 3), keepdim=True)
        return blurred + mean + count, count + 1


def restated(blurred: np.ndarray, side: int, overlap: int, steps: int) -> list[np.ndarray]:
    """Every window deblurred by itself, and the weighted mean of what covers a pixel."""

    def places(length):
        if length <= side:
            return [(0, length)]
        number = int(np.ceil((length - overlap) / (side - overlap)))
        own = int(np.ceil(max(3 * side / 4, (length + (number - 1) * overlap) / number)))
        return [(round(n * (length - own) / (number - 1)), own) for n in range(number)]

    def weight(size):
        own = overlap
        return np.array([min(i + 1, size - i, own + 1) for i in range(size)], float)

    height, width = blurred.shape[-2:]
    totals, weights = [np.zeros_like(blurred) for _ in range(steps)], np.zeros((height, width))
    for top, tall in places(height):
        for left, wide in places(width):
            part = blurred[..., top : top + tall, left : left + wide]
            w = np.outer(weight(tall), weight(wide))
            weights[top : top + tall, left : left + wide] += w
            estimate = part
            for step in range(steps):
                estimate = part + estimate.mean(axis=(2, 3), keepdims=True) + step
                totals[step][..., top : top + tall, left : left + wide] += w * estimate
    return [total / weights for total in totals]


@pytest.mark.parametrize("together", [0, 10**9], ids=["one window after the other", "together"])
@pytest.mark.parametrize(("height", "width"), [(40, 70), (64, 20), (16, 16), (5, 90)])
def test_each_window_is_deblurred_by_itself_and_they_are_blended(monkeypatch, together, height, width):
    monkeypatch.setattr(windows, "TOGETHER_UP_TO", together)
    blurred = torch.rand(2, 3, height, width, dtype=torch.float64)
    shares: list[float] = []
    found = list(unroll_windows([Mean()], blurred, [Step()] * 3, 24, shares.append))
    for estimate, expected in zip(found, restated(blurred.numpy(), 24, 6, 3), strict=True):
        torch.testing.assert_close(estimate, torch.from_numpy(expected), rtol=0, atol=1e-6)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_members_hand_their_state_on_within_a_window_and_coarse_steps_are_enlarged():
    class Halves(nn.Module):
        contract = Contract(1, 0, (), global_operation="nothing")

        def forward(self, blurred: Tensor, estimate: Tensor, state=None):
            return estimate / 2, state

    blurred = torch.ones(1, 3, 40, 40)
    steps = [Step(4, 0), Step(2, 1), Step(1, 0)]
    found = list(unroll_windows([Halves(), Halves()], blurred, steps, 16))
    for number, estimate in enumerate(found, 1):
        torch.testing.assert_close(estimate, blurred / 2**number)


def test_a_large_picture_keeps_the_state_of_one_window_at_a_time(monkeypatch):
    alive: set[int] = set()
    most = 0

    class Kept:
        def __init__(self):
            nonlocal most
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self):
            alive.discard(id(self))

    class Stateful(nn.Module):
        contract = Contract(1, 0, (), global_operation="nothing")

        def forward(self, blurred, estimate, state=None):
            return estimate, Kept()

    monkeypatch.setattr(windows, "TOGETHER_UP_TO", 0)
    list(unroll_windows([Stateful()], torch.rand(1, 3, 64, 64), [Step()] * 2, 16))
    assert most <= 2
