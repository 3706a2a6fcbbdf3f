"""The inference forms of the recurrent networks are the trained networks but for rounding."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mtdeblur.inference.tiling import TiledNetwork
from mtdeblur.networks import gated_inference, mtnaf_inference, onednn
from mtdeblur.networks.contract import inference_form
from mtdeblur.networks.registry import create_network

MTNAF = st.fixed_dictionaries(
    {
        "width": st.integers(2, 9),
        "blocks": st.tuples(*[st.integers(0, 2)] * 5),
        "kernels": st.tuples(*[st.sampled_from([1, 3, 5, 7])] * 3),
        "norm": st.booleans(),
        "recurrent": st.booleans(),
    }
)
MTRNN = st.fixed_dictionaries(
    {
        "width": st.integers(2, 7),
        "kernel": st.sampled_from([1, 3, 5]),
        "recurrent": st.sampled_from([True, False, "f2"]),
        "residual": st.sampled_from(["blurred", "estimate", "none"]),
        "images": st.sampled_from([2, 4]),
    }
).filter(lambda options: options["images"] == 2 or options["recurrent"])
CASES = st.one_of(st.tuples(st.just("mtnaf"), MTNAF), st.tuples(st.just("mtrnn"), MTRNN))
SIDES = st.integers(1, 45)
quick = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def network(name: str, options: dict, seed: int = 0) -> nn.Module:
    """With random parameters everywhere, small enough that products of maps stay so."""
    torch.manual_seed(seed)
    made = create_network(name, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5 / (parameter[0].numel() if parameter.dim() > 1 else 4) ** 0.5)
    return made.eval()


def pictures(batch: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def error(found, expected):
    """Largest difference, as a share of the largest expected value."""
    return float((found.float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


@quick
@given(case=CASES, height=SIDES, width=SIDES, batch=st.integers(1, 2), same=st.booleans())
def test_they_are_equal_with_estimates_and_states_carried(case, height, width, batch, same):
    trained = network(*case)
    form = inference_form(trained, torch.float32)
    blurred = pictures(batch, height, width)
    with torch.no_grad():
        before = trained(blurred, blurred)
        steps = [
            (form(blurred, blurred if same else blurred.clone()), before),
            (form(blurred, *before), trained(blurred, *before)),
        ]
    for (estimate, state), (expected, maps) in steps:
        assert estimate.dtype == torch.float32
        assert type(state) is type(maps)
        for one, other in zip((estimate, *(state or ())), (expected, *(maps or ())), strict=True):
            assert one.shape == other.shape
            assert error(one, other) < 1e-5


WIDE = st.integers(40, 64)  # oneDNN's bfloat16 gives NaN for maps narrower than the kernel


@quick
@given(case=CASES, height=WIDE, width=WIDE)
def test_in_bfloat16_they_are_as_close_as_the_trained_network(case, height, width):
    trained = network(*case)
    form = inference_form(trained, torch.bfloat16)
    blurred = pictures(1, height, width)
    with torch.no_grad():
        expected, _ = trained(blurred, blurred)
        found, maps = form(blurred, blurred)
        rounded, _ = trained.to(torch.bfloat16)(blurred, blurred)
    assert found.dtype == torch.float32
    assert all(part.dtype == torch.bfloat16 for part in maps or ())
    assert error(found, expected) < max(2e-3, 3 * error(rounded, expected))


@pytest.mark.parametrize("case", [("mtnaf", {"width": 4, "kernels": (5, 3, 3)}), ("mtrnn", {"width": 4})])
def test_strips_tiles_and_missing_fused_operations_change_nothing(case, monkeypatch):
    name, options = case
    trained = network(name, options)
    blurred = pictures(1, 72, 40)
    with torch.no_grad():
        expected = trained(blurred, blurred)
        expected = trained(blurred, *expected)
    for module in (gated_inference, mtnaf_inference):
        monkeypatch.setattr(module, "STRIP", 4000)
    for available in (True, False):
        monkeypatch.setattr(onednn, "ALLOWED", available)
        form = inference_form(trained, torch.float32)
        for step in (form, TiledNetwork(form, 32)):
            found = step(blurred, blurred)
            found = step(blurred, *found)
            for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
                assert error(one, other) < 1e-5


@pytest.mark.parametrize("name", ["mtnaf", "mtrnn"])
def test_inputs_stay_as_they_are(name):
    form = inference_form(network(name, {"width": 4}), torch.float32)
    blurred = pictures(1, 32, 24)
    estimate, state = form(blurred, blurred)
    kept = [part.clone() for part in (blurred, estimate, *state)]
    form(blurred, estimate, state)
    assert all(torch.equal(one, other) for one, other in zip(kept, (blurred, estimate, *state), strict=True))
