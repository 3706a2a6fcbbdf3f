"""What is kept of the steps of a window, and which steps run."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtdeblur.inference.stopping import settled, worth
from mtdeblur.inference.windows import unroll_windows
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.unroll import Step
from mtdeblur.weights.catalogue import Stopping


class Watched:
    """An iterator over estimates that counts how many are drawn."""

    def __init__(self, estimates: list[Tensor]) -> None:
        self.drawn, self._estimates = 0, estimates

    def __iter__(self) -> Iterator[Tensor]:
        for estimate in self._estimates:
            self.drawn += 1
            yield estimate


def run(
    estimates: list[Tensor], blurred: Tensor, stopping: Stopping, share: float = 1
) -> tuple[list[Tensor], int]:
    watched = Watched(estimates)
    found = settled(
        iter(watched), blurred, stopping=stopping, number=len(estimates), explain=lambda *_: share
    )
    return list(found), watched.drawn


BLURRED = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))
ESTIMATES = [BLURRED + 0.1, BLURRED + 0.13, BLURRED + 0.131, BLURRED - 1]


def test_without_thresholds_every_estimate_comes_bit_for_bit():
    for stopping, share in ((Stopping(change=0), 0.2), (Stopping(change=0, share=(0, 1)), 1)):
        found, drawn = run(ESTIMATES, BLURRED, stopping, share)
        assert drawn == 4
        assert all(torch.equal(kept, one) for kept, one in zip(found, ESTIMATES, strict=True))


@pytest.mark.parametrize(("change", "steps"), [(0.2, 1), (0.05, 2), (0.01, 3), (0.0005, 4)])
def test_no_more_steps_are_drawn_once_one_changes_little(change, steps):
    found, drawn = run(ESTIMATES, BLURRED, Stopping(change=change))
    assert drawn == steps
    assert len(found) == 4
    assert all(torch.equal(kept, ESTIMATES[steps - 1]) for kept in found[steps - 1 :])


def test_the_picture_of_a_batch_that_changes_most_decides():
    first = torch.stack([BLURRED[0], BLURRED[1] + 0.1])
    _, drawn = run([first, first], BLURRED, Stopping(change=0.09))
    assert drawn == 2


def test_an_unexplained_change_is_dropped_and_ends_the_window():
    found, drawn = run(ESTIMATES, BLURRED, Stopping(change=0.001, share=(0.3, 0.9)), 0.3)
    assert drawn == 1
    assert all(torch.equal(kept, BLURRED) for kept in found)


def test_a_half_explained_change_is_half_kept():
    found, _ = run(ESTIMATES[:1], BLURRED, Stopping(change=0, share=(0.2, 0.8)), 0.5)
    torch.testing.assert_close(found[0], BLURRED + 0.05)


@given(share=st.floats(0, 1), nothing=st.floats(0, 0.4), everything=st.floats(0.5, 1))
def test_the_part_that_is_kept_rises_with_the_explained_share(share, nothing, everything):
    kept = worth(share, nothing, everything)
    assert 0 <= kept <= worth(min(1, share + 0.1), nothing, everything) <= 1
    assert (kept == 0) == (share <= nothing)
    assert (kept == 1) == (share >= everything)


class Brighter:
    """Brightens the left half of a picture, and counts its steps."""

    contract = Contract(1, 0, (), global_operation="the mean")

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, blurred: Tensor, estimate: Tensor, state=None):
        self.steps += 1
        return estimate + 0.1 * (blurred > 0.5), None


@pytest.mark.parametrize("together", [True, False])
def test_windows_stop_one_by_one_and_the_report_ends_at_1(monkeypatch, together):
    from mtdeblur.inference import windows

    monkeypatch.setattr(windows, "TOGETHER_UP_TO", 10_000 if together else 0)
    blurred = torch.zeros(1, 3, 16, 56)
    blurred[..., :16] = 0.6
    network, shares = Brighter(), list[float]()

    def settle(estimates, part):
        return settled(estimates, part, stopping=Stopping(change=0.01), number=3)

    found = list(unroll_windows([network], blurred, [Step()] * 3, 16, shares.append, settle))
    plain = list(unroll_windows([Brighter()], blurred, [Step()] * 3, 16))
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))
    assert shares[-1] == 1
    assert shares == sorted(shares)
    whole = Brighter()
    list(unroll_windows([whole], blurred, [Step()] * 3, 16))
    bright = sum(1 for span in windows.spans(56, 16) if span.place.start < 16)
    assert network.steps == whole.steps - 2 * (whole.steps // 3 - bright)
