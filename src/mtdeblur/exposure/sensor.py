"""The simulated sensor: noise, compression and quantisation after the camera response function.

All code is batched and runs on the device of the exposures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mtdeblur.exposure.draws import Draws, SampleDraws


@dataclass(frozen=True)
class Sensor:
    """Settings of the sensor.

    Attributes:
        noise: maximum standard deviation of the noise at mid-grey, relative to [0, 1]; random for each
            sample. The variance is proportional to 0.5 + v for a stored value v. Unused with `iso`.
        iso: range of the sensitivity, log-uniform, in place of `noise`: shot noise and read noise in linear
            light, of a small sensor without denoising, see `photon_noise`.
        noisy: share of the samples with noise.
        compressed: share of the samples with compression.
        quality: range of the compression's quality, on JPEG's scale of 1 to 100.

    Raises:
        ValueError: if a share is outside [0, 1], the noise is negative or not finite, or the quality or the
            sensitivity is not a range within its scale, lowest first.
    """

    noise: float = 0.015
    iso: tuple[float, float] | None = None
    noisy: float = 0.5
    compressed: float = 0.3
    quality: tuple[int, int] = (70, 98)

    def __post_init__(self) -> None:
        check_sizes(noise=self.noise)
        check_shares(noisy=self.noisy, compressed=self.compressed)
        low, high = self.quality
        if not 1 <= low <= high <= 100:
            raise ValueError(f"quality must be a range within 1 to 100, lowest first, not {low} to {high}")
        if self.iso is not None and not 1 <= self.iso[0] <= self.iso[1] < math.inf:
            raise ValueError(
                f"iso must be a range from 1 up, lowest first, not {self.iso[0]} to {self.iso[1]}"
            )


def check_sizes(**sizes: float) -> None:
    """Raise ValueError for a size that is negative or not finite."""
    for name, size in sizes.items():
        if not 0 <= size < math.inf:
            raise ValueError(f"{name} must be 0 or more, not {size}")


def check_shares(**shares: float) -> None:
    """Raise ValueError for a share outside [0, 1]."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, not {share}")


def record(exposures: Tensor, sensor: Sensor, draws: Draws | Sequence[int]) -> Tensor:
    """Add noise and compression to some of the samples, and quantise all of them.

    Args:
        exposures: (B, 3, H, W), stored values in [0, 1], float.
        sensor: settings.
        draws: random numbers, or B seeds.

    Returns:
        (B, 3, H, W) in [0, 1], multiples of 1/255.
    """
    draw = draws if isinstance(draws, Draws) else SampleDraws(draws, exposures.device)
    noisy = draw.uniform() < sensor.noisy
    amount = draw.uniform()
    compressed = draw.chosen(sensor.compressed)
    low, high = sensor.quality
    quality = low + (high - low) * draw.uniform()
    stored = exposures
    if sensor.noisy and (sensor.noise or sensor.iso):
        noise = draw.normal(*exposures.shape[1:]).to(exposures)
        if sensor.iso is None:
            deviation = sensor.noise * amount.to(exposures)[:, None, None, None]
            noised = stored + (stored + 0.5).sqrt() * noise * deviation
        else:
            lowest, highest = sensor.iso
            noised = photon_noise(stored, lowest * (highest / lowest) ** amount.to(exposures), noise)
        stored = torch.where(noisy[:, None, None, None], noised, stored)
    stored = _quantise(stored)
    if compressed:
        chosen = draw.index(compressed)
        smaller = compress(stored.index_select(0, chosen), quality.index_select(0, chosen))
        stored = stored.index_copy(0, chosen, _quantise(smaller))
    return stored


_WHITE = 10_000.0
"""Electrons of a white pixel at ISO 100: about a phone's sensor."""
_READ = 2.5
"""Standard deviation of the read noise in electrons."""


def photon_noise(images: Tensor, iso: Tensor, normal: Tensor) -> Tensor:
    """Add the shot noise and read noise of a sensitivity: variance of e + 2.5^2 for e electrons.

    A white pixel has 10,000 electrons at ISO 100, and inversely as many at other sensitivities. Images are
    decoded and encoded by a gamma of 2.2.

    Args:
        images: (B, 3, H, W), stored values in [0, 1], float.
        iso: (B,).
        normal: (B, 3, H, W), standard normal.

    Returns:
        (B, 3, H, W), at least 0.
    """
    white = (_WHITE * 100 / iso)[:, None, None, None]
    electrons = images.clamp(0, 1) ** 2.2 * white
    electrons = electrons + (electrons + _READ**2).sqrt() * normal
    return (electrons / white).clamp(min=0) ** (1 / 2.2)


def _quantise(images: Tensor) -> Tensor:
    return images.clamp(0, 1).mul(255).round_().div_(255)


_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of luminance at quality 50, ITU-T T.81 Table K.1."""


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """JPEG's quantisation of 8x8 blocks in the frequency domain, 4:4:4, with one table for Y, Cb and Cr.

    Args:
        images: (B, 3, H, W) in [0, 1], float.
        quality: (B,), on JPEG's scale of 1 to 100 as the IJG's library defines it; rounded.

    Returns:
        (B, 3, H, W), about [0, 1].
    """
    if images.is_cuda and images.dtype != torch.float64:
        # GPUs may round products to TF32, which would quantise coefficients differently from a CPU.
        return compress(images.double(), quality).to(images)
    height, width = images.shape[-2:]
    to_ycc = images.new_tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, images * 255 - 128)
    ycc = functional.pad(ycc, (0, -width % 8, 0, -height % 8), mode="replicate")
    padded = ycc.shape
    rows, columns = padded[2] // 8, padded[3] // 8
    blocks = ycc.reshape(-1, 3, rows, 8, columns, 8).transpose(3, 4)  # (B, 3, rows, columns, 8, 8)
    k = torch.arange(8, device=images.device, dtype=images.dtype)
    basis = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2  # (frequency, pixel): orthonormal DCT-II
    basis[0] /= math.sqrt(2)
    quality = quality.to(images).round()
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)[:, None, None]
    table = ((images.new_tensor(_LUMINANCE) * percent + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    blocks = basis.T @ ((basis @ blocks @ basis.T / table).round() * table) @ basis
    ycc = blocks.transpose(3, 4).reshape(padded)[..., :height, :width]
    return (torch.einsum("ij,bjhw->bihw", to_ycc.inverse(), ycc) + 128) / 255
