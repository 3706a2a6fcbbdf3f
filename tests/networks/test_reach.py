"""How far one iteration sees, by poison: NaN put into an input comes out wherever that input is looked at.

Unlike a small perturbation, it never fades with distance, and in float64 every convolution is a plain sum.
"""

import pytest
import torch
from torch import Tensor, nn

from mtdeblur.networks.contract import State, same_state
from mtdeblur.networks.registry import NETWORKS, conversion, create_network

SWITCHES = {
    "mtrnn, kernel 5": ("mtrnn", {"width": 1, "kernel": 5}),
    "mtnaf, as deep as usual": ("mtnaf", {"width": 2, "blocks": (2, 2, 8, 2, 2)}),
    "mtnaf, uneven": ("mtnaf", {"width": 2, "blocks": (1, 0, 2, 3, 1)}),
    "mtnaf, wide kernels": ("mtnaf", {"width": 2, "blocks": (1, 1, 1, 0, 2), "kernels": (5, 3, 7)}),
    "mtnaf, shallow": ("mtnaf", {"width": 2, "blocks": (0, 0, 0, 0, 0)}),
    "scale_recurrent, LSTM": ("scale_recurrent", {"width": 1, "recurrent": True}),
    "pss_nsc, RFM": ("pss_nsc", {"width": 1, "recurrent": True}),
    "deepdeblur, as released": ("deepdeblur", {"width": 1, "blocks": 19}),
    "deepdeblur, as released, converted": ("deepdeblur", {"width": 1, "blocks": 19, "scales": 1}),
}
PLAIN = {name: (name, {}) for name in NETWORKS}
CONVERTED = {f"{name}, converted": (name, options) for name in NETWORKS if (options := conversion(name))}
SMALL = {
    case: (name, NETWORKS[name].small | options)
    for case, (name, options) in (PLAIN | CONVERTED | SWITCHES).items()
}
GLOBAL = [case for case, (name, o) in SMALL.items() if create_network(name, **o).contract.global_operation]
"""Networks that take in the whole picture at once, and say so."""


@pytest.fixture(params=[case for case in SMALL if case not in GLOBAL])
def network(request) -> nn.Module:
    return prepared(*SMALL[request.param])


def prepared(name, options) -> nn.Module:
    network = create_network(name, **options).double().eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)
    return network


@torch.no_grad()
def reach(network: nn.Module, mirrored: bool, upright: bool) -> int:
    """The furthest that a poisoned pixel, or state value, shows to its right, over every alignment.

    Mirrored and turned pictures give the other three directions. A state value counts as the square of pixels
    that it stands for, and its distance as that between the nearest pixels: what cutting tiles needs.
    """
    contract = network.contract
    scales = (1, contract.estimate_scale, *contract.state_scales)
    length = 2 * contract.halo + 4 * contract.multiple
    furthest = 0
    for which, scale in enumerate(scales):
        for first in range(contract.halo, contract.halo + contract.multiple, scale):
            inputs, state = clean_inputs(network, contract.multiple, length)
            inputs[which][..., : first // scale + 1] = torch.nan
            last_poisoned = first + scale - 1
            turned = [turn(x, mirrored, upright) for x in inputs]
            estimate, state = network(*turned[:2], same_state(state, turned[2:]))
            for output, output_scale in zip(
                (estimate, *(state or ())), (1, *contract.state_scales), strict=True
            ):
                seen = turn(output, mirrored, upright).isnan().any(dim=1).any(dim=1)[0].nonzero()
                if len(seen):  # a plain network does not look at the blurred image
                    furthest = max(furthest, int(seen.max()) * output_scale - last_poisoned)
    return furthest


def clean_inputs(network: nn.Module, height: int, width: int) -> tuple[list[Tensor], State]:
    """The images and the maps of the state, and a state of their kind."""
    blurred = torch.rand(1, 3, height, width, dtype=torch.float64)
    smaller = network.contract.estimate_scale
    estimate = blurred[..., ::smaller, ::smaller].clone()
    _, state = network(blurred, estimate)
    return [blurred, estimate, *(state or ())], state


def turn(x: Tensor, mirrored: bool, upright: bool) -> Tensor:
    """Its own inverse: mirror left and right, or swap height and width, or both at once."""
    if upright:
        x = x.transpose(-1, -2)
        return x.flip(-1, -2) if mirrored else x
    return x.flip(-1) if mirrored else x


@pytest.mark.parametrize("upright", [False, True], ids=["across", "down"])
@pytest.mark.parametrize("mirrored", [False, True], ids=["forwards", "backwards"])
def test_nothing_is_seen_from_further_away_than_the_halo(network, mirrored, upright):
    contract = network.contract
    measured = reach(network, mirrored, upright)
    assert measured <= contract.halo
    assert contract.halo - measured < 2 * contract.multiple, "the halo is larger than it need be"
    assert contract.halo % contract.multiple == 0
    assert contract.global_operation is None


def test_the_paper_s_network_sees_95_pixels():
    network = create_network("mtrnn", width=1).double().eval()
    assert max(reach(network, mirrored, False) for mirrored in (False, True)) == 95
    assert network.contract.halo == 96


@pytest.mark.parametrize("case", GLOBAL)
def test_a_global_operation_is_declared_and_real(case):
    """A picture that grows white far away changes near pixels: no halo would make tiles exact."""
    network = prepared(*SMALL[case])
    picture = torch.rand(1, 3, 512, 32, dtype=torch.float64)
    picture[..., 256:, :] = 1
    with torch.no_grad():
        short, _ = network(picture[..., :256, :], picture[..., :256, :])
        long, _ = network(picture, picture)
    near = slice(112, 144)
    assert not torch.allclose(short[..., near, :], long[..., near, :], rtol=1e-6, atol=0)
