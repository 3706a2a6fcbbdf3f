import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtdeblur.exposure.draws import BatchDraws, SampleDraws


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=5))
def test_a_samples_numbers_depend_on_its_seed_alone(seeds):
    together = SampleDraws(seeds)
    drawn = together.uniform(), together.normal(2, 3), together.chosen(0.5), together.uniform(4)
    for sample, seed in enumerate(seeds):
        alone = SampleDraws([seed])
        assert alone.uniform().equal(drawn[0][sample : sample + 1])
        assert alone.normal(2, 3).equal(drawn[1][sample : sample + 1])
        assert alone.chosen(0.5) == ([0] if sample in drawn[2] else [])
        assert alone.uniform(4).equal(drawn[3][sample : sample + 1])


def test_parts_of_a_batch_are_what_the_whole_draws():
    whole = BatchDraws((4, 2), 6)
    parts = [BatchDraws((4, 2), 6, range(first, first + 3)) for first in (0, 3)]
    for draw in ("uniform", "normal"):
        pieces = [getattr(part, draw)(5) for part in parts]
        assert torch.cat(pieces).equal(getattr(whole, draw)(5))
    for share in (0.0, 0.3, 0.5, 1.0):
        chosen = whole.chosen(share)
        assert [part.chosen(share) for part in parts] == [
            [sample for sample in chosen if sample < 3],
            [sample - 3 for sample in chosen if sample >= 3],
        ]


def test_keys_tell_batches_apart():
    assert BatchDraws((1, 2), 3).uniform().equal(BatchDraws((1, 2), 3).uniform())
    assert not BatchDraws((1, 2), 3).uniform().equal(BatchDraws((1, 3), 3).uniform())
    assert not BatchDraws((2, 1), 3).uniform().equal(BatchDraws((1, 2), 3).uniform())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 1.0])
def test_shares_are_met_on_average(share):
    counts = np.zeros(5)
    for number in range(400):
        chosen = BatchDraws((number,), 5).chosen(share)
        assert len(set(chosen)) == len(chosen)
        counts[chosen] += 1
    np.testing.assert_allclose(counts / 400, share, rtol=0, atol=0.08)


def test_whole_numbers_below_a_count():
    drawn = BatchDraws((0,), 3000).below(torch.tensor([1, 2, 5]).repeat(1000))
    for place, count in enumerate((1, 2, 5)):
        assert sorted(set(drawn[place::3].tolist())) == list(range(count))
