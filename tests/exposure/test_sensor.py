import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdeblur.exposure.sensor import Sensor, compress, record

CLEAN = Sensor(noise=0, noisy=0, compressed=0)


def photographs(batch, side, seed=0):
    """Smooth coloured noise, so that bilinear interpolation is close to any other."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((batch, 3, side // 4 + 2, side // 4 + 2)))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(
    "values",
    [
        {"noise": -0.1},
        {"noisy": 1.5},
        {"compressed": -1},
        {"quality": (90, 80)},
        {"quality": (0, 80)},
        {"quality": (50, 101)},
        {"iso": (800, 100)},
        {"iso": (0, 100)},
    ],
)
def test_an_impossible_sensor_is_refused_by_name(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Sensor(**values)


@pytest.mark.parametrize("value", [0.2, 0.5, 0.8])
def test_noise_has_the_variance_that_sensor_names(value):
    """The deviation is uniform up to `noise`; the variance grows with the value as 0.5 + v."""
    sensor = Sensor(noise=0.04, noisy=1, compressed=0)
    stored = record(torch.full((200, 3, 32, 32), value), sensor, range(200)).double().numpy()
    deviation = stored.std(axis=(1, 2, 3)) / math.sqrt(0.5 + value)
    assert deviation.max() == pytest.approx(0.04, rel=0.06)
    assert deviation.mean() == pytest.approx(0.02, rel=0.12)
    assert abs(stored.mean() - value) < 1e-3


@pytest.mark.parametrize("iso", [100.0, 1600.0, 12800.0])
@pytest.mark.parametrize("value", [0.05, 0.5, 0.9])
def test_noise_of_a_sensitivity_is_that_of_counted_electrons(iso, value):
    """Reference: photons of a Poisson process, and read noise of 2.5 electrons, in float64."""
    rng = np.random.default_rng(0)
    white = 1e6 / iso
    electrons = rng.poisson(value**2.2 * white, 200_000) + rng.normal(0, 2.5, 200_000)
    expected = np.clip(electrons / white, 0, None) ** (1 / 2.2)
    sensor = Sensor(noisy=1, compressed=0, iso=(iso, iso))
    stored = record(torch.full((20, 3, 64, 64), value), sensor, range(20)).double().numpy()
    expected = np.rint(expected.clip(0, 1) * 255) / 255
    assert stored.std() == pytest.approx(expected.std(), rel=0.06)
    assert stored.mean() == pytest.approx(expected.mean(), abs=0.004)


def test_the_noise_of_two_samples_is_not_alike():
    sensor = Sensor(noise=0.1, noisy=1, compressed=0)
    noise = record(torch.full((8, 3, 32, 32), 0.5), sensor, range(8)).double().numpy().reshape(8, -1)
    assert np.abs(np.corrcoef(noise) - np.eye(8)).max() < 0.1


def test_the_shares_of_noisy_and_compressed_samples_are_what_sensor_names():
    exposures = (photographs(1, 16).expand(400, -1, -1, -1).float() * 255).round() / 255
    for sensor in (
        Sensor(noise=0.1, noisy=0.5, compressed=0),
        Sensor(noisy=0, compressed=0.5, quality=(5, 5)),
    ):
        changed = (record(exposures, sensor, range(400)) - exposures).abs().amax(dim=(1, 2, 3)) > 1e-3
        assert 0.42 < changed.double().mean() < 0.58


@given(st.integers(0, 2**62), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=20)
def test_what_is_stored_is_8_bit_and_depends_on_the_seed_alone(seed, noisy, compressed):
    sensor = Sensor(noise=0.2, noisy=noisy, compressed=compressed, quality=(20, 90))
    exposures, seeds = photographs(3, 21).float(), [seed, 7, 8]
    stored = record(exposures, sensor, seeds)
    np.testing.assert_allclose(stored * 255, (stored * 255).round(), rtol=0, atol=1e-4)
    assert stored.min() >= 0
    assert stored.max() <= 1
    assert record(exposures[:1], sensor, seeds[:1]).equal(stored[:1])
    assert record(exposures[[2, 0]], sensor, [8, seed]).equal(stored[[2, 0]])


def test_a_clean_sensor_only_quantises():
    exposures = photographs(2, 20).float()
    before = exposures.clone()
    np.testing.assert_allclose(
        record(exposures, CLEAN, [1, 2]), np.round(before.numpy() * 255) / 255, rtol=0, atol=1e-6
    )
    assert exposures.equal(before)


@given(st.integers(1, 100), st.integers(0, 99))
@settings(max_examples=25)
def test_compression_is_jpegs_quantisation(quality, seed):
    """Against a DCT written out as sums in float64 numpy."""
    image = np.random.default_rng(seed).random((3, 8, 16))
    seen = compress(torch.from_numpy(image)[None], torch.tensor([float(quality)]))[0].numpy()
    table = np.fromstring(
        """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
        18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101
        72 92 95 98 112 100 103 99""",
        sep=" ",
    ).reshape(8, 8)
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = np.clip((table * percent + 50) // 100, 1, 255)
    r, g, b = image * 255
    planes = [
        0.299 * r + 0.587 * g + 0.114 * b - 128,
        -0.168736 * r - 0.331264 * g + 0.5 * b,
        0.5 * r - 0.418688 * g - 0.081312 * b,
    ]
    k, place = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    basis = np.cos(np.pi * k * (2 * place + 1) / 16) * np.where(k == 0, math.sqrt(1 / 8), 0.5)
    out = []
    for plane in planes:
        blocks = []
        for block in np.split(plane, 2, axis=1):
            steps = np.round(np.einsum("ux,vy,xy->uv", basis, basis, block) / table)
            blocks.append(np.einsum("ux,vy,uv->xy", basis, basis, steps * table))
        out.append(np.concatenate(blocks, axis=1))
    y, cb, cr = out[0] + 128, out[1], out[2]
    expected = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]) / 255
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-4)


def test_compression_at_100_is_nearly_lossless_and_worse_the_lower():
    image = photographs(1, 40).float()
    errors = [
        float((compress(image, torch.tensor([q])) - image).square().mean().sqrt() * 255)
        for q in (100.0, 90.0, 60.0, 20.0)
    ]
    assert errors[0] < 0.6
    assert errors == sorted(errors)
    assert errors[-1] > 3


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (8, 8), (17, 30)])
def test_compression_keeps_every_size(shape):
    image = torch.full((2, 3, *shape), 0.5)
    np.testing.assert_allclose(compress(image, torch.tensor([30.0, 100.0])), image, rtol=0, atol=0.02)
