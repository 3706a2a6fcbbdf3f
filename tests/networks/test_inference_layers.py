"""Layers for fast inference on a CPU."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mtdeblur.networks.inference_layers import by_rows, divisible, in_parallel, normalise


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 8, 32, 64, 128]),
    offset=st.floats(-3, 3),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_normalisation_is_that_of_pytorch(channels, offset, spread, dtype):
    generator = torch.Generator().manual_seed(channels)
    x = (offset + spread * torch.randn(5, 7, channels, generator=generator)).to(dtype)
    expected = functional.layer_norm(x.double(), (channels,), eps=1e-6)
    found = torch.empty_like(x)
    assert normalise(x, out=found) is found
    rounding = 2e-6 * (abs(offset) + spread) / max(spread, 1e-3)  # of the mean, next to the deviation
    tolerance = 0.03 if dtype == torch.bfloat16 else 1e-5 + rounding
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(normalise(x), found)


def test_a_scale_of_zero_becomes_one_to_divide_by():
    norm = nn.LayerNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.0, -2.0, 0.5]))
    scale, bias = divisible(norm)
    assert scale.tolist() == [1e-6, -2.0, 0.5]
    assert torch.isfinite(bias / scale).all()


@pytest.mark.usefixtures("two_threads")
def test_parts_run_on_threads_with_one_core_each_and_the_setting_stays():
    seen: list[tuple[int, int, bool]] = []

    def work(part: int) -> None:
        seen.append((part, torch.get_num_threads(), torch.is_inference_mode_enabled()))

    in_parallel(work, range(20))
    assert sorted(seen) == [(part, 1, True) for part in range(20)]
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [2, 2]


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_part_is_raised():
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda part: 1 // part, [1, 0])


@pytest.mark.parametrize("threads", [1, 2])
@given(rows=st.integers(1, 9), width=st.integers(1, 400))
@settings(max_examples=15, deadline=None)
def test_strips_cover_a_map_once(threads, rows, width):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, out = torch.rand(rows, width, 100), torch.zeros(rows, width, 100)
        by_rows(lambda part, target: target.add_(part), x, out)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(out, x)
