"""The loop against steps written out in plain PyTorch."""

import pytest
import torch
from torch.nn.functional import interpolate

from mtdeblur.networks.contract import Several, members
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import Step, default_steps, resize, unroll


def shrink(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return interpolate(image, (height, width), mode="bilinear", align_corners=False)


@torch.no_grad()
def test_a_coarser_scale_s_estimate_and_state_are_enlarged_for_the_next() -> None:
    torch.manual_seed(0)
    network, blurred = create_network("mtrnn", width=4), torch.rand(2, 3, 32, 48)
    coarse, middle, fine = unroll(members(network), blurred, [Step(4), Step(2), Step(1)])

    small = shrink(blurred, 8, 12)
    estimate, state = network(small, small, None)
    assert torch.equal(coarse, estimate)
    assert [tuple(part.shape[-2:]) for part in state] == [(4, 6), (2, 3)]
    state = type(state)(shrink(state.f1, 8, 12), shrink(state.f2, 4, 6))
    estimate, state = network(shrink(blurred, 16, 24), shrink(estimate, 16, 24), state)
    torch.testing.assert_close(middle, estimate)
    state = type(state)(shrink(state.f1, 16, 24), shrink(state.f2, 8, 12))
    torch.testing.assert_close(fine, network(blurred, shrink(estimate, 32, 48), state)[0])


@torch.no_grad()
def test_each_step_is_carried_out_by_its_own_network() -> None:
    torch.manual_seed(1)
    networks = [create_network("mtrnn", width=4, recurrent=False) for _ in range(2)]
    blurred = torch.rand(1, 3, 12, 12)
    first, second = unroll(members(Several(networks)), blurred, [Step(1, 1), Step(1, 0)])
    assert torch.equal(first, networks[1](blurred, blurred)[0])
    assert torch.equal(second, networks[0](blurred, first)[0])


@torch.no_grad()
def test_a_number_stands_for_so_many_full_steps() -> None:
    torch.manual_seed(2)
    network, blurred = create_network("mtrnn", width=4), torch.rand(1, 3, 12, 12)
    for one, other in zip(unroll(network, blurred, 3), unroll([network], blurred, [Step()] * 3), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="at least 1"):
        next(unroll(network, blurred, 0))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (7, 2), (9, 13)])
@torch.no_grad()
def test_sizes_at_a_scale_are_rounded_up(height: int, width: int) -> None:
    network = create_network("mtrnn", width=4)
    estimates = unroll(network, torch.rand(1, 3, height, width), [Step(4), Step(2), Step(1)])
    shapes = [tuple(estimate.shape[-2:]) for estimate in estimates]
    assert shapes == [(-(-height // scale), -(-width // scale)) for scale in (4, 2, 1)]


@torch.no_grad()
def test_the_images_of_the_step_before_are_carried_in_the_state() -> None:
    torch.manual_seed(3)
    network, blurred = create_network("mtrnn", width=4, images=4), torch.rand(1, 3, 12, 12)
    estimate, state = network(blurred, blurred)
    images = state.images / 255 + torch.tensor([0.4488, 0.4371, 0.4040]).repeat(2).view(1, 6, 1, 1)
    torch.testing.assert_close(images, torch.cat([blurred, blurred], dim=1))
    changed = state._replace(images=state.images + 1)
    assert not torch.allclose(network(blurred, estimate, state)[0], network(blurred, estimate, changed)[0])


@torch.no_grad()
def test_a_network_that_takes_in_f2_alone_does_not_see_f1() -> None:
    torch.manual_seed(4)
    network, blurred = create_network("mtrnn", width=4, recurrent="f2"), torch.rand(1, 3, 12, 12)
    estimate, state = network(blurred, blurred)
    expected = network(blurred, estimate, state)[0]
    assert torch.equal(network(blurred, estimate, state._replace(f1=state.f1 + 1))[0], expected)
    assert not torch.equal(network(blurred, estimate, state._replace(f2=state.f2 + 1))[0], expected)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = torch.rand(1, 3, 5, 6)
    assert resize(image, 5, 6) is image


@pytest.mark.parametrize(
    ("size", "wanted"), [((8, 12), (4, 6)), ((8, 12), (2, 3)), ((3, 5), (6, 10)), ((7, 1), (4, 3))]
)
def test_resized_by_corners_a_row_lies_where_tensorflow_1_took_it_from(size, wanted) -> None:
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = image
    for axis in (2, 3):
        before, after = size[axis - 2], wanted[axis - 2]
        rows = []
        for row in range(after):
            place = row * before / after
            first = int(place)
            second = min(first + 1, before - 1)
            share = place - first
            rows.append((1 - share) * expected.select(axis, first) + share * expected.select(axis, second))
        expected = torch.stack(rows, dim=axis)
    torch.testing.assert_close(resize(image, *wanted, corners=True), expected)


@torch.no_grad()
def test_a_network_says_how_pictures_are_brought_to_its_scales() -> None:
    network, blurred = create_network("scale_recurrent", width=2, corners=True), torch.rand(1, 3, 16, 32)
    coarse, _, _ = unroll(network, blurred, default_steps(network))
    small = blurred[..., ::4, ::4]
    torch.testing.assert_close(coarse, network(small, small)[0])
