import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtdeblur.training.config import OptimiserConfig
from mtdeblur.training.losses import frequency_l1, l1, log_l1, objective


def images(seed: int, height: int = 12, width: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    return tuple(torch.as_tensor(draw.random((2, 3, height, width), np.float32)) for _ in range(2))


def test_log_l1_weighs_a_sample_by_one_over_its_distance() -> None:
    """The gradient of a sample is that of L1 over its own L1 plus four grey levels, over the batch."""
    distances = torch.tensor([0.0, 1 / 255, 10 / 255, 0.5], dtype=torch.float64, requires_grad=True)
    loss = log_l1(distances)
    assert float(loss.detach()) == pytest.approx(
        sum(math.log(d + 4 / 255) for d in (0, 1 / 255, 10 / 255, 0.5)) / 4
    )
    loss.backward()
    assert distances.grad is not None
    expected = [0.25 / (d + 4 / 255) for d in (0, 1 / 255, 10 / 255, 0.5)]
    torch.testing.assert_close(distances.grad, torch.tensor(expected, dtype=torch.float64))


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 20), width=st.integers(1, 20))
def test_frequency_l1_is_numpys_transform(seed: int, height: int, width: int) -> None:
    estimate, sharp = images(seed, height, width)
    error = estimate.double().numpy() - sharp.double().numpy()
    spectrum = np.fft.fft2(error) / math.sqrt(height * width)
    expected = (abs(spectrum.real) + abs(spectrum.imag)).mean(axis=(1, 2, 3)) / math.sqrt(2)
    np.testing.assert_allclose(frequency_l1(estimate, sharp).numpy(), expected, rtol=1e-4, atol=1e-7)


def test_white_noise_costs_alike_in_both_and_a_wave_less_in_frequencies() -> None:
    sharp = torch.zeros(1, 3, 128, 128)
    noise = torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))
    assert float(frequency_l1(noise, sharp) / l1(noise, sharp)) == pytest.approx(1, abs=0.02)
    wave = torch.sin(torch.arange(128) * math.pi / 8).expand(sharp.shape)
    assert float(frequency_l1(wave, sharp) / l1(wave, sharp)) < 0.1


@pytest.mark.parametrize("loss", ["l1", "log_l1"])
def test_the_term_of_frequencies_has_its_weight(loss: str) -> None:
    estimate, sharp = images(3)
    mixed = (l1(estimate, sharp) + 0.5 * frequency_l1(estimate, sharp)) / 1.5
    expected = mixed.mean() if loss == "l1" else log_l1(mixed)
    settings = OptimiserConfig.model_validate({"loss": loss, "frequency": 0.5})
    torch.testing.assert_close(objective(estimate, sharp, settings), expected)
