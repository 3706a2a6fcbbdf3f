"""An iteration as one launch gives what the same iteration gives operation by operation."""

import pytest
import torch
from torch import Tensor, nn

from mtdeblur.approaches import MultiTemporal
from mtdeblur.networks.contract import State
from mtdeblur.networks.mtrnn import MTRNN, MTRNNConfig
from mtdeblur.training.config import OptimiserConfig
from mtdeblur.training.flat import FlatNetwork, FlatOptimiser, orthogonal
from mtdeblur.training.launches import Iterations, Prepared, train_batch

SETTINGS = OptimiserConfig(clip=0.05, ema=0.9)
RATE = 1e-3


def small_network() -> MTRNN:
    """A narrow network, always the same."""
    torch.manual_seed(1)
    return MTRNN(MTRNNConfig(width=4))


def batches() -> list[tuple[Tensor, Tensor]]:
    """I0 (4, 3, 16, 16) and the goals TL1 to TL5 (3, 4, 3, 16, 16) of two batches."""
    torch.manual_seed(2)
    return [(torch.rand(4, 3, 16, 16), torch.rand(3, 4, 3, 16, 16)) for _ in range(2)]


def trained_plainly(network: nn.Module) -> list[Tensor]:
    """Parameters after Section 4.1 as it is written: backward pass, clipping, Adam, detached results."""
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    for blurred, goals in batches():
        for part in (slice(0, 2), slice(2, 4)):
            estimate: Tensor = blurred[part]
            state: State = None
            for level in (3, 1, 1):
                estimate, state = network(blurred[part], estimate, state)
                optimiser.zero_grad()
                (estimate - goals[level // 2, part]).abs().mean().backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.05)
                optimiser.step()
                estimate, state = estimate.detach(), tuple(part.detach() for part in state or ())
    return [parameter.detach() for parameter in network.parameters()]


def trained_by_launches(*, muon: bool = False) -> tuple[FlatNetwork, Tensor]:
    """The same by launches, and the summed losses of the three iterations."""
    flat = FlatNetwork(small_network(), torch.float32)
    iterations = Iterations(flat, FlatOptimiser(flat, SETTINGS, muon=muon), (2, 3, 16, 16))
    iterations.optimiser.rate.fill_(RATE)
    plan = MultiTemporal(extra=(1, 1)).plan(5, lambda n: 0)
    assert [goal.level for goal in plan] == [3, 1, 1]
    totals = torch.zeros(3)
    for number, (blurred, goals) in enumerate(batches()):
        batch = Prepared(number, 5, False, blurred, goals, torch.zeros(()))
        assert train_batch(iterations, batch, plan, totals) == 6
    return flat, totals


def test_launches_equal_the_algorithm_as_written() -> None:
    expected = trained_plainly(small_network())
    flat, totals = trained_by_launches()
    for found, wanted in zip(flat.network.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, atol=1e-5, rtol=1e-4)
    assert (totals > 0).all()
    other = MTRNN(MTRNNConfig(width=4))
    flat.copy_to(other, flat.values)
    for found, wanted in zip(other.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, atol=1e-5, rtol=1e-4)


def test_average_is_between_the_first_and_the_last_values() -> None:
    flat, _ = trained_by_launches()
    first = FlatNetwork(small_network(), torch.float32).values
    assert (flat.average - first).norm() < (flat.values - first).norm()


def test_muon_changes_inner_weights_by_the_rate() -> None:
    flat, _ = trained_by_launches(muon=True)
    first = FlatNetwork(small_network(), torch.float32).values
    start, number, rows, columns = flat.matrices[0]
    change = (flat.values - first)[start : start + number * rows * columns]
    steps = 12
    assert 0 < change.square().mean().sqrt() < 1.2 * 0.2 * RATE * steps


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 16, 16)])
def test_orthogonal_has_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(3)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_gradients_that_are_not_finite_change_nothing() -> None:
    flat = FlatNetwork(small_network(), torch.float32)
    iterations = Iterations(flat, FlatOptimiser(flat, SETTINGS), (2, 3, 16, 16))
    iterations.optimiser.rate.fill_(RATE)
    before = flat.values.clone()
    blurred = torch.full((2, 3, 16, 16), torch.nan)
    iterations.train(blurred, [blurred], torch.zeros(1))
    assert torch.equal(flat.values, before)
