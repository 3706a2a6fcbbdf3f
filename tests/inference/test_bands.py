"""Row bands against the whole picture, and how much of it is in memory."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtdeblur.inference.bands import allowed, unroll_bands
from mtdeblur.inference.strips import TensorSource
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import Step, unroll

CASES = {
    "mtnaf": ("mtnaf", {"width": 4, "blocks": (0, 1, 0, 0, 1)}),
    "mtnaf without RFM": ("mtnaf", {"width": 4, "blocks": (1, 0, 0, 0, 0), "recurrent": False}),
    "mtrnn": ("mtrnn", {"width": 2}),
    "mtrnn with the step's images in its state": ("mtrnn", {"width": 2, "images": 4}),
}


def randomised(name, options) -> nn.Module:
    """Random everywhere: the residual has the size of the picture's values."""
    torch.manual_seed(11)
    network = create_network(name, **options)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() == 4 else 1
        nn.init.normal_(parameter, std=0.7 / fan_in**0.5)
    return network.eval()


NETWORKS = {name: randomised(*case) for name, case in CASES.items()}


@torch.no_grad()
def in_bands(network, blurred: Tensor, tile, iterations: int, *, spooled: bool) -> list[Tensor]:
    """All estimates; the strips of each must be its rows in order."""
    found: list[list[Tensor]] = [[] for _ in range(iterations)]
    source, steps = TensorSource(blurred), [Step()] * iterations
    for strip in unroll_bands([network], source, steps, tile, range(iterations), spooled=spooled):
        assert strip.start == sum(rows.shape[-2] for rows in found[strip.step])
        found[strip.step].append(strip.rows.clone())
    return [torch.cat(rows, dim=-2) for rows in found]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=st.sampled_from(sorted(CASES)),
    height=st.integers(1, 150),
    width=st.integers(1, 90),
    rows=st.integers(1, 100),
    columns=st.integers(20, 100),
    iterations=st.integers(1, 3),
    spooled=st.booleans(),
    one_size=st.booleans(),
)
def test_bands_of_any_size_change_nothing(case, height, width, rows, columns, iterations, spooled, one_size):
    network = Watched(NETWORKS[case])
    network.one_size = one_size
    rows += 30 if height > 4 * rows else 0
    blurred = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * 100 + width))
    with torch.no_grad():
        expected = list(unroll(network, blurred, iterations))
    assert (expected[0] - blurred).abs().max() > 1e-3, "the network does nothing that could go wrong"
    found = in_bands(network, blurred, (rows, columns), iterations, spooled=spooled)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    multiple = network.contract.multiple
    padded = {tuple(-(-side // multiple) for side in size) for size in network.sizes[iterations:]}
    assert len(padded) == 1 or not one_size


def test_a_halo_that_is_too_small_shows():
    network = NETWORKS["mtnaf"]
    watched = Watched(network)
    watched.contract = replace(network.contract, halo=0)
    blurred = torch.rand(1, 3, 64, 64)
    *_, expected = unroll(network, blurred, 2)
    *_, found = in_bands(watched, blurred, (16, 64), 2, spooled=False)
    assert (expected - found).abs().max() > 1e-3


class Watched:
    """Passes on to a network, and keeps the heights that it was asked for and the largest tile."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.contract = network, network.contract
        self.one_size = False
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, blurred, estimate, state=None):
        self.sizes.append(tuple(blurred.shape[-2:]))
        return self.network(blurred, estimate, state)


@pytest.mark.parametrize(("bfloat16", "one_size"), [(False, False), (True, False), (False, True)])
def test_kept_rows_do_not_grow_with_the_height(monkeypatch, bfloat16, one_size):
    """The rows between the iterations are two halos each, plus one band, whatever the height.

    With windows of one size it is one band more for each iteration.
    """
    from mtdeblur.inference import bands

    network = NETWORKS["mtnaf"].contract and randomised(*CASES["mtnaf"])
    network = network.bfloat16() if bfloat16 else network
    network.one_size = one_size
    halo = network.contract.halo
    most: dict[int, int] = {}
    run = bands._Pipeline.run
    for height in (160, 320):
        most[height] = 0

        def watched(self, step, rows, height=height):
            run(self, step, rows)
            kept = sum(part.maps[0].shape[-2] for part in self.kept if part.maps)
            assert sum(x.untyped_storage().nbytes() for part in self.kept for x in part.kind or ()) < 1000
            most[height] = max(most[height], kept)

        monkeypatch.setattr(bands._Pipeline, "run", watched)
        in_bands(network, torch.rand(1, 3, height, 24), (16, 24), 3, spooled=False)
    assert most[160] == most[320]
    assert most[160] <= 2 * 2 * halo + 3 * 16 + halo + (2 * 16 if one_size else 0)


def test_no_more_than_a_tile_and_its_halo_is_ever_looked_at():
    watched = Watched(NETWORKS["mtnaf"])
    in_bands(watched, torch.rand(1, 3, 150, 200), (24, 40), 2, spooled=False)
    halo = watched.contract.halo
    assert max(height for height, _ in watched.sizes) == 24 + 2 * halo
    assert max(width for _, width in watched.sizes) == 40 + 2 * halo


def test_what_cannot_run_in_bands():
    network = NETWORKS["mtnaf"]
    assert allowed([network], [Step()] * 3)
    assert not allowed([network], [Step(2), Step(1)])
    watched = Watched(network)
    watched.contract = replace(network.contract, global_operation="the mean", halo=0)
    assert not allowed([watched], [Step()])
    other = randomised("mtrnn", {"width": 2})
    assert not allowed([network, other], [Step(1, 0), Step(1, 1)])
    assert allowed([network, other], [Step(1, 1)])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("mtnaf", {"width": 16}), ("mtrnn", {"width": 8})])
def test_two_megapixels_agree_within_1e_5_in_float32(name, options):
    network = randomised(name, options).to(memory_format=torch.channels_last)
    blurred = torch.rand(1, 3, 1153, 1735)
    with torch.no_grad():
        expected = list(unroll(network, blurred, 2))
    for one, other in zip(in_bands(network, blurred, (256, 512), 2, spooled=False), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
