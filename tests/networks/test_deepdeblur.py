"""Nah's network: the pyramid as its authors have it."""

import pytest
import torch
from torch.nn import functional

from mtdeblur.networks.registry import create_network


def body(level, x):
    x = level.head(x)
    for block in level.blocks:
        x = x + block.conv2(block.conv1(x).relu())
    return level.tail(x)


@torch.no_grad()
def test_carried_out_scale_by_scale_it_is_the_authors_pyramid():
    torch.manual_seed(4)
    model = create_network("deepdeblur", width=4, blocks=2).double()
    blurred = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    pyramid = [functional.interpolate(blurred, scale_factor=1 / s, mode="bilinear") for s in (4, 2, 1)]
    estimate = pyramid[0]
    found = []
    for member, image in zip(model.members, pyramid, strict=True):
        estimate, state = member(image, estimate)
        assert state is None
        found.append(255 * estimate)

    coarse, middle, fine = model.levels
    images = [255 * image - 127.5 for image in pyramid]
    first = body(coarse, images[0])
    upscaled = functional.pixel_shuffle(middle.upscale(first), 2)
    second = body(middle, torch.cat([images[1], upscaled], dim=1))
    upscaled = functional.pixel_shuffle(fine.upscale(second), 2)
    third = body(fine, torch.cat([images[2], upscaled], dim=1))
    for one, other in zip(found, (first, second, third), strict=True):
        torch.testing.assert_close(one, other + 127.5, rtol=0, atol=1e-9)


@torch.no_grad()
def test_converted_it_is_one_finer_body_that_takes_the_estimate_as_it_is():
    network = create_network("deepdeblur", width=4, blocks=1, scales=1).double()
    blurred, estimate = torch.rand(2, 1, 3, 7, 5, dtype=torch.float64)
    expected = body(network.levels[0], torch.cat([255 * blurred - 127.5, 255 * estimate - 127.5], dim=1))
    torch.testing.assert_close(network(blurred, estimate)[0], (expected + 127.5) / 255)


def test_the_coarsest_body_looks_at_the_blurred_image_alone():
    coarsest = create_network("deepdeblur", width=4, blocks=1).members[0]
    blurred, estimate = torch.rand(2, 1, 3, 8, 8)
    assert torch.equal(coarsest(blurred, blurred)[0], coarsest(blurred, estimate)[0])


def test_a_network_of_no_scale_is_refused():
    with pytest.raises(ValueError, match="scales must be at least 1, not 0"):
        create_network("deepdeblur", scales=0)
