"""DMPHN against a restatement that follows each patch by name."""

import math

import pytest
import torch

from mtdeblur.networks.dmphn import GRIDS, cut, join
from mtdeblur.networks.registry import create_network


@pytest.mark.parametrize("grid", GRIDS)
def test_patches_come_row_by_row_and_go_back_into_their_places(grid):
    rows, columns = grid
    x = torch.arange(2 * 3 * 8 * 12).view(2, 3, 8, 12)
    patches = cut(x, grid)
    expected = [part for one in x for row in one.chunk(rows, dim=1) for part in row.chunk(columns, dim=2)]
    assert torch.equal(patches, torch.stack(expected))
    assert torch.equal(join(patches, grid), x)


def restated(stage, image, before=None, first=None, seen=lambda x: x):
    """One network 1-2-4 of a stack, from the description: top and bottom, left and right by name."""
    (e1, e2, e3), (d1, d2, d3) = stage.encoders, stage.decoders
    before = before or {"lv3_top": 0, "lv3_bottom": 0, "lv2": 0, "lv1": 0}
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    image = seen(image)
    features = {}
    residual = {}
    for name, half in (("top", image[..., :height, :]), ("bottom", image[..., height:, :])):
        left, right = e3(half[..., :width]), e3(half[..., width:])
        features[f"lv3_{name}"] = torch.cat([left, right], dim=3) + before[f"lv3_{name}"]
        residual[name] = d3(features[f"lv3_{name}"])

    def refined(picture, residual):
        return torch.cat([picture[:, :-3], picture[:, -3:] + residual], dim=1)

    top = e2(refined(image[..., :height, :], residual["top"])) + features["lv3_top"]
    bottom = e2(refined(image[..., height:, :], residual["bottom"])) + features["lv3_bottom"]
    features["lv2"] = torch.cat([top, bottom], dim=2) + before["lv2"]
    level2 = d2(features["lv2"]) + (0 if first is None else first)
    features["lv1"] = e1(refined(image, level2)) + features["lv2"] + before["lv1"]
    return d1(features["lv1"]), features


@torch.no_grad()
def test_a_stack_of_three_wires_patches_and_stages_as_described():
    torch.manual_seed(0)
    network = create_network("dmphn", width=4, stack=3).double()
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    first, features = restated(network.network.stages[0], image - 0.5)
    second, features = restated(network.network.stages[1], first, features, first)
    third, _ = restated(network.network.stages[2], second, features, first)
    output, _ = network(image, image)
    torch.testing.assert_close(output, third + 0.5, rtol=0, atol=1e-12)
    alone = create_network("dmphn", width=4).double()
    alone.network.stages[0].load_state_dict(network.network.stages[0].state_dict())
    torch.testing.assert_close(alone(image, image)[0], first + 0.5, rtol=0, atol=1e-12)


@torch.no_grad()
def test_converted_the_residuals_refine_the_estimate_and_the_blurred_input_is_seen_beside_it():
    torch.manual_seed(0)
    network = create_network("dmphn", width=4, converted=True).double()
    blurred, estimate = torch.rand(2, 1, 3, 16, 24, dtype=torch.float64)
    expected, _ = restated(
        network.network.stages[0], estimate - 0.5, seen=lambda x: torch.cat([blurred - 0.5, x], dim=1)
    )
    torch.testing.assert_close(network(blurred, estimate)[0], expected + 0.5, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("levels", "multiple"), [(1, 4), (2, 8), (3, 8), (4, 16), (5, 16)])
def test_sizes_divide_by_the_patches_and_the_encoder_s_strides(levels, multiple):
    assert create_network("dmphn", width=1, levels=levels).contract.multiple == multiple


def test_fresh_weights_are_drawn_as_released():
    network = create_network("dmphn")
    convolutions = [module for module in network.modules() if hasattr(module, "kernel_size")]
    assert len(convolutions) == 3 * (15 + 15)
    for module in convolutions:
        fan = module.kernel_size[0] ** 2 * module.out_channels
        spread = 0.5 * math.sqrt(2 / fan)
        assert module.weight.std().item() == pytest.approx(spread, rel=0.1)
        assert not module.bias.any()


@pytest.mark.parametrize("options", [{"levels": 0}, {"levels": 6}, {"stack": 0}])
def test_what_has_no_grid_of_patches_is_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        create_network("dmphn", **options)
