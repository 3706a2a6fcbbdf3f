from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtdeblur.inference.tiling import TiledNetwork
from mtdeblur.networks.contract import RecurrentMaps
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import unroll

# Shallow cells have small halos, so that small pictures already hold several tiles.
SHALLOW = {
    "mtnaf": ("mtnaf", {"width": 4, "blocks": (0, 1, 0, 0, 1)}),
    "mtnaf without RFM": ("mtnaf", {"width": 4, "blocks": (1, 0, 0, 0, 0), "recurrent": False}),
}


def randomised(name, options) -> nn.Module:
    """Random everywhere, the output layer included: the residual has the size of the picture's values."""
    torch.manual_seed(11)
    network = create_network(name, **options)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() == 4 else 1
        nn.init.normal_(parameter, std=0.7 / fan_in**0.5)
    return network.eval()


NETWORKS = {name: randomised(*case).double() for name, case in SHALLOW.items()}


@torch.no_grad()
def assert_tiled_equals_untiled(
    network, blurred: Tensor, tile: int, iterations: int, tolerance: float
) -> None:
    tiled = TiledNetwork(network, tile)
    steps = zip(unroll(network, blurred, iterations), unroll(tiled, blurred, iterations), strict=True)
    for expected, found in steps:
        assert (expected - blurred).abs().mean() > 0.01, "the network does nothing that could go wrong"
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=st.sampled_from(sorted(SHALLOW)),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.integers(1, 100),
    batch=st.integers(1, 2),
)
def test_tiles_of_any_size_over_a_picture_of_any_size_change_nothing(case, height, width, tile, batch):
    network = NETWORKS[case]
    if height * width / tile**2 > 20:
        tile += 20
    generator = torch.Generator().manual_seed(height * 100 + width)
    blurred = torch.rand(batch, 3, height, width, dtype=torch.float64, generator=generator)
    assert_tiled_equals_untiled(network, blurred, tile, 3, 1e-11)


@pytest.mark.parametrize(("name", "options"), [("mtnaf", {"width": 4}), ("mtrnn", {"width": 4})])
def test_the_registered_depths_tile_exactly(name, options):
    network = randomised(name, options).double()
    blurred = torch.rand(1, 3, 70, 410, dtype=torch.float64)
    assert_tiled_equals_untiled(network, blurred, 100, 3, 1e-11)


def test_the_state_is_stitched_as_well():
    network, blurred = NETWORKS["mtnaf"], torch.rand(1, 3, 61, 83, dtype=torch.float64)
    with torch.no_grad():
        _, expected = network(blurred, blurred)
        _, found = TiledNetwork(network, 24)(blurred, blurred)
        assert isinstance(found, RecurrentMaps)
        torch.testing.assert_close(found, expected)
        second, _ = TiledNetwork(network, 32)(blurred, blurred, expected)
        torch.testing.assert_close(second, network(blurred, blurred, expected)[0])


class Watched:
    """Passes on to a network and keeps the sizes that it was asked for."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.contract, self.sizes = network, network.contract, []

    def __call__(self, blurred, estimate, state=None):
        self.sizes.append(tuple(blurred.shape[-2:]))
        return self.network(blurred, estimate, state)


def test_no_more_than_a_tile_and_its_halo_is_ever_looked_at():
    watched = Watched(NETWORKS["mtnaf"])
    blurred = torch.rand(1, 3, 118, 150, dtype=torch.float64)
    with torch.no_grad():
        TiledNetwork(watched, 37)(blurred, blurred)
    side = 40 + 2 * watched.contract.halo  # 37 rounded up to the multiple of 8
    assert len(watched.sizes) == 3 * 4
    assert max(height for height, _ in watched.sizes) == side == max(width for _, width in watched.sizes)


def test_a_halo_that_is_one_multiple_too_small_shows():
    """The comparison above would notice: with less halo the tiles no longer agree."""
    watched = Watched(randomised("mtnaf", {"width": 4, "blocks": (0, 0, 0, 0, 0)}).double())
    blurred = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    assert_tiled_equals_untiled(watched, blurred, 16, 1, 1e-11)
    watched.contract = replace(watched.contract, halo=0)
    with pytest.raises(AssertionError, match="not close"):
        assert_tiled_equals_untiled(watched, blurred, 16, 1, 1e-11)


def test_a_network_that_takes_in_the_whole_picture_is_refused_with_the_reason():
    watched = Watched(NETWORKS["mtnaf"])
    watched.contract = replace(watched.contract, global_operation="channel attention over the picture's mean")
    with pytest.raises(ValueError, match="channel attention over the picture's mean"):
        TiledNetwork(watched, 64)


@pytest.mark.parametrize("tile", [0, -8])
def test_a_tile_of_no_size_is_refused(tile):
    with pytest.raises(ValueError, match=f"not {tile}"):
        TiledNetwork(NETWORKS["mtnaf"], tile)


def test_pictures_that_do_not_fit_are_refused_as_by_the_network():
    with pytest.raises(ValueError, match="differ in shape"):
        TiledNetwork(NETWORKS["mtnaf"], 8)(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 16))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "tile"),
    [
        ("mtnaf", {}, 500),
        ("mtnaf", {"width": 16}, 333),
        ("mtrnn", {"width": 8}, 640),
    ],
)
def test_two_megapixels_agree_within_1e_5_in_float32(name, options, tile):
    network = randomised(name, options).to(memory_format=torch.channels_last)
    blurred = torch.rand(1, 3, 1153, 1735)
    assert_tiled_equals_untiled(network, blurred, tile, 2, 1e-5)
