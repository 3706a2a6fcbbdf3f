"""The share of a change that motion blur explains: kernels that are known come back."""

from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtdeblur.inference.reblur import explained, fit_kernel


def texture(height: int = 96, width: int = 120, seed: int = 0) -> Tensor:
    """Rectangles of random colours: edges at all places."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.full((3, height, width), 0.5)
    for _ in range(60):
        top, left, tall, wide = (
            int(torch.randint(1, limit, (), generator=generator)) for limit in (height, width, 30, 30)
        )
        picture[:, top : top + tall, left : left + wide] = torch.rand(3, 1, 1, generator=generator)
    return picture


def moved(sharp: Tensor, path: list[tuple[int, int]]) -> Tensor:
    """The mean of the picture at each of the places, by cyclic shifts."""
    return torch.stack([sharp.roll(place, dims=(1, 2)) for place in path]).mean(dim=0)


@settings(max_examples=5, deadline=None)
@given(
    path=st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=6, unique=True),
    seed=st.integers(0, 100),
)
def test_the_kernel_of_a_path_is_found_and_explains_all(path, seed):
    sharp = texture(seed=seed)
    blurred = moved(sharp, path)
    kernel = fit_kernel(blurred.mean(dim=0), sharp.mean(dim=0), 13)
    assert kernel.min() >= 0
    assert float(kernel.sum()) == pytest.approx(1)
    grid = torch.arange(13.0) - 6
    centre = (kernel.sum(1) @ grid, kernel.sum(0) @ grid)
    for found, offsets in zip(centre, zip(*path, strict=True), strict=True):
        assert abs(float(found) + fmean(offsets)) < 0.5  # correlation: flipped
    inside = (slice(None), slice(16, -16), slice(16, -16))
    assert explained(blurred[inside], sharp[inside]) > 0.75


def test_invented_texture_noise_and_contrast_are_explained_badly():
    blurred = texture()
    ripples = 0.06 * torch.sin(torch.arange(120) * 0.9).expand(3, 96, 120)
    noise = 0.05 * torch.randn(3, 96, 120, generator=torch.Generator().manual_seed(1))
    local = 0.1 * functional.interpolate(
        torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(2)), (96, 120), mode="bicubic"
    )
    honest = explained(moved(blurred, [(0, n) for n in range(-4, 5)]), blurred)
    for invented in (ripples, noise, local[0]):
        assert explained(blurred, blurred + invented) < 0.6 < honest


def test_no_change_and_tiny_pictures_are_all_explained():
    picture = texture()
    assert explained(picture, picture) == 1
    assert explained(picture[:, :2, :2], picture[:, 4:6, 4:6]) == 1
    assert 0 <= explained(picture[:, :9, :12], picture[:, 20:29, 20:32]) <= 1
