"""The inference form of MAXIM is the trained one but for rounding."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mtdeblur.networks import inference_layers, onednn
from mtdeblur.networks.contract import inference_form, members
from mtdeblur.networks.maxim_inference import shrink
from mtdeblur.networks.multi_axis import change_level
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import Step, default_steps, unroll

CASES = {
    "stages": {"width": 8, "tokens": (4, 4, 2, 2)},
    "wider": {"width": 16, "tokens": (8, 4, 4, 2)},
    "one stage": {"width": 8, "tokens": (4, 2, 2, 1), "stages": 1},
    "converted": {"width": 4, "tokens": (4, 4, 2, 2), "stages": 1, "converted": True},
}


def network(case: str) -> nn.Module:
    torch.manual_seed(5)
    made = create_network("maxim", **CASES[case])
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.7 / (parameter[0].numel() if parameter.dim() > 1 else 2) ** 0.5)
    return made.eval()


NETWORKS = {case: network(case) for case in CASES}


def both(case: str, blurred: torch.Tensor, dtype: torch.dtype = torch.float32):
    """Estimates of the trained form and of the inference form, step by step."""
    trained = members(NETWORKS[case])
    forms = [inference_form(member, dtype) for member in trained]
    steps = default_steps(NETWORKS[case]) if len(trained) > 1 else (Step(),) * 2
    with torch.no_grad():
        return zip(unroll(trained, blurred, steps), unroll(forms, blurred, steps), strict=True)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=st.sampled_from(sorted(CASES)),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    batch=st.integers(1, 2),
)
def test_it_is_equal_to_the_trained_form(case, height, width, batch):
    blurred = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height + width))
    for expected, found in both(case, blurred):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_it_is_so_in_several_strips_and_without_the_fused_operation(case, monkeypatch):
    monkeypatch.setattr(onednn, "ALLOWED", False)
    monkeypatch.setattr(inference_layers, "STRIP", 500)
    for expected, found in both(case, torch.rand(1, 3, 96, 64)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_so_on_threads_and_with_scales_of_zero(threads, monkeypatch):
    monkeypatch.setattr(inference_layers, "STRIP", 2000)
    made = network("stages")
    for module in made.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.zeros_(module.weight[:3])
    monkeypatch.setitem(NETWORKS, "stages", made)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for expected, found in both("stages", torch.rand(1, 3, 64, 64)):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("case", CASES)
def test_in_bfloat16_it_is_close_and_pictures_stay_float32(case):
    blurred = torch.rand(1, 3, 48, 64)
    for expected, found in both(case, blurred, torch.bfloat16):
        assert found.dtype == torch.float32
        assert (found - expected).abs().mean() < 0.05 * (expected - blurred).abs().mean()


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_is_that_of_the_trained_form(factor):
    x = torch.rand(32, 48, 5, dtype=torch.float64)
    expected = change_level(x[None], 0, {2: 1, 4: 2}[factor])[0]
    torch.testing.assert_close(shrink(x, factor).double(), expected, rtol=0, atol=1e-6)


def test_a_network_without_a_form_offers_none():
    assert inference_form(create_network("nafnet", width=2), torch.float32) is None
