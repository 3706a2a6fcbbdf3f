"""What every network of the registry must be, checked over small ones of each kind and switch."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtdeblur.networks.contract import members, pad_to_multiple, same_state
from mtdeblur.networks.cost import multiply_accumulates
from mtdeblur.networks.registry import NETWORKS, conversion, create_network, network_options
from mtdeblur.networks.unroll import Step, carry_out, default_steps, resize, unroll

SWITCHES = {
    "dmphn 1-2": ("dmphn", {"levels": 2}),
    "dmphn 1-2-4-8-16": ("dmphn", {"levels": 5}),
    "dmphn, Stack(3), converted": ("dmphn", {"stack": 3, "converted": True}),
    "maxim, one stage": ("maxim", {"tokens": (8, 4, 2, 2), "stages": 1}),
    "mtnaf, wide kernels": ("mtnaf", {"blocks": (1, 1, 2, 1, 1), "kernels": (3, 5, 7), "norm": False}),
    "mtnaf without RFM": ("mtnaf", {"blocks": (1, 1, 1, 1, 1), "recurrent": False}),
    "mtrnn without RFM": ("mtrnn", {"recurrent": False}),
    "mtrnn, residual to the estimate": ("mtrnn", {"residual": "estimate"}),
    "mtrnn, no residual": ("mtrnn", {"residual": "none"}),
    "mtrnn, kernel 5": ("mtrnn", {"width": 2, "kernel": 5}),
    "pss_nsc, converted, RFM": ("pss_nsc", {"scales": 1, "recurrent": True}),
    "scale_recurrent, grey": ("scale_recurrent", {"grey": True}),
    "scale_recurrent, LSTM": ("scale_recurrent", {"width": 8, "grey": True, "recurrent": True}),
}
PLAIN = {name: (name, {}) for name in NETWORKS}
CONVERTED = {f"{name}, converted": (name, options) for name in NETWORKS if (options := conversion(name))}
SMALL = {
    case: (name, NETWORKS[name].small | options)
    for case, (name, options) in (PLAIN | CONVERTED | SWITCHES).items()
}


@pytest.fixture(params=SMALL)
def network(request) -> nn.Module:
    """A small network whose every parameter is random, so that nothing hides behind a zero."""
    return randomised(*SMALL[request.param])


def randomised(name, options) -> nn.Module:
    torch.manual_seed(7)
    network = create_network(name, **options)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        nn.init.normal_(parameter, std=0.5 / fan_in**0.5)
    return network.eval()


def own_steps(network):
    """Those of its own approach at test time, two where they are all alike."""
    return default_steps(network) if network.contract.scales else (Step(),) * 2


def plans(network):
    """Ways to run it: by itself again and again, and through its own steps where they differ."""
    yield network, (Step(),) * 3
    if network.contract.scales:
        yield members(network), default_steps(network)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (8, 8), (37, 21)])
def test_any_size_from_one_pixel_up_comes_back_with_the_state_that_the_contract_names(network, size):
    blurred = torch.rand(2, 3, *size)
    estimate, state = blurred, None
    for step in own_steps(network):
        member = members(network)[step.network]
        with torch.no_grad():
            estimate, state = carry_out(member, step.scale, blurred, estimate, state)
        smaller = blurred[..., :: step.scale, :: step.scale]
        assert estimate.shape == smaller.shape
        assert torch.isfinite(estimate).all()
        padded = pad_to_multiple(smaller, member.contract.multiple).shape[-2:]
        assert [tuple(f.shape[-2:]) for f in state or ()] == [
            (padded[0] // scale, padded[1] // scale) for scale in member.contract.state_scales
        ]
        assert (state is not None) == bool(member.contract.state_scales)


def test_padding_repeats_the_last_row_and_column(network):
    blurred, *estimates = torch.rand(4, 1, 3, 13, 18).unbind()
    multiple = network.contract.multiple
    state = whole_state = None
    coarse = own_steps(network)[0].scale > 1
    for estimate, step in zip(estimates, own_steps(network), strict=False):
        member = network if coarse else members(network)[step.network]
        with torch.no_grad():
            smaller = member.contract.estimate_scale
            estimate = estimate[..., : -(-13 // smaller), : -(-18 // smaller)]
            cropped, state = member(blurred, estimate, state)
            whole = pad_to_multiple(blurred, multiple), pad_to_multiple(estimate, multiple // smaller)
            whole, whole_state = member(*whole, whole_state)
        torch.testing.assert_close(cropped, whole[..., :13, :18])


def test_pad_to_multiple_repeats_edges_and_leaves_fitting_pictures_alone():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(image, 4)
    assert padded[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_multiple(padded, 4) is padded


def test_a_batch_is_the_same_as_its_pictures_one_by_one(network):
    blurred = torch.rand(3, 3, 9, 14, dtype=torch.float64)
    network.double()
    for networks, steps in plans(network):
        with torch.no_grad():
            together = list(unroll(networks, blurred, steps))
            apart = zip(*(unroll(networks, b[None], steps) for b in blurred), strict=True)
            single = [torch.cat(step) for step in apart]
        for left, right in zip(together, single, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient_from_its_own_steps_or_two_iterations(network):
    """All but those that a network brings along and never runs: DeblurGAN-v2's need none."""
    blurred = torch.rand(1, 3, 16, 24)
    estimates = list(unroll(members(network), blurred, own_steps(network)))
    torch.stack(
        [(estimate - torch.rand_like(estimate)).abs().mean() for estimate in estimates]
    ).sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_the_same_input_gives_the_same_output(network):
    blurred = torch.rand(1, 3, 20, 12)
    for networks, steps in plans(network):
        with torch.no_grad():
            first, second = (list(unroll(networks, blurred, steps)) for _ in range(2))
        for left, right in zip(first, second, strict=True):
            assert torch.equal(left, right)


def test_nothing_is_hidden_in_the_network_between_iterations(network):
    """Interrupting a picture for another one, or resuming from a copied state, changes nothing."""
    blurred, other = torch.rand(2, 1, 3, 16, 16).unbind()
    networks, steps = members(network), own_steps(network)
    estimate, state = blurred, None
    with torch.no_grad():
        for step, expected in zip(steps, list(unroll(networks, blurred, steps)), strict=True):
            kept = same_state(state, (f.clone() for f in state or ()))
            list(unroll(networks, other, steps))
            member = networks[step.network]
            estimate, state = carry_out(member, step.scale, blurred, estimate.clone(), kept)
            assert torch.equal(estimate, expected)


def test_later_iterations_use_the_estimate_and_the_state(network):
    blurred = torch.rand(1, 3, 16, 16)
    networks, (*before, last) = members(network), own_steps(network)
    estimate, state = blurred, None
    with torch.no_grad():
        for step in before:
            estimate, state = carry_out(networks[step.network], step.scale, blurred, estimate, state)

        def finish(estimate, state):
            return carry_out(networks[last.network], last.scale, blurred, estimate, state)[0]

        expected = finish(estimate, state)
        assert not torch.equal(finish(estimate + 0.1, state), expected)
        for changed in range(len(state or ())):
            other = same_state(state, (x + 0.1 * (i == changed) for i, x in enumerate(state)))
            assert not torch.equal(finish(estimate, other), expected)


def test_options_rebuild_the_network(network):
    name, options = network_options(network)
    again = create_network(name, **options)
    again.load_state_dict(network.state_dict())
    assert again.config == network.config
    blurred = torch.rand(1, 3, 8, 8)
    estimate = blurred[..., :: network.contract.estimate_scale, :: network.contract.estimate_scale]
    with torch.no_grad():
        assert torch.equal(again.eval()(blurred, estimate)[0], network(blurred, estimate)[0])


def test_the_tail_is_the_convolution_that_runs_last_where_zeros_in_it_give_the_input_back(network):
    blurred, state, ran = torch.rand(1, 3, 16, 24), None, []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda module, *_: ran.append(module))
    for member in members(network):
        smaller = member.contract.estimate_scale
        with torch.no_grad():
            before = state
            estimate, state = member(blurred, blurred[..., ::smaller, ::smaller], before)
            assert not torch.equal(estimate, blurred)
            last, kept = ran[-1], [part.detach().clone() for part in ran[-1].parameters()]
            for part in last.parameters():
                part.zero_()
            zeroed, _ = member(blurred, blurred[..., ::smaller, ::smaller], before)
            for part, value in zip(last.parameters(), kept, strict=True):
                part.copy_(value)
        assert member.contract.tail is (last if torch.equal(zeroed, blurred) else None)


IN_BFLOAT16 = [
    case for case, (name, o) in SMALL.items() if "bfloat16" in create_network(name, **o).contract.precisions
]


@pytest.mark.parametrize("network", IN_BFLOAT16, indirect=True)
@pytest.mark.parametrize("way", ["weights", "autocast"])
def test_in_bfloat16_only_the_residual_is_rounded(network, way):
    blurred = torch.rand(1, 3, 16, 16)
    networks, steps = members(network), own_steps(network)
    with torch.no_grad():
        exact = list(unroll(networks, blurred, steps))
        if way == "weights":
            network.to(torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
            rounded = list(unroll(networks, blurred, steps))
    for left, right in zip(exact, rounded, strict=True):
        assert right.dtype == torch.float32
        residual = left - resize(blurred, *left.shape[-2:])
        assert (left - right).abs().max() < 0.05 * residual.abs().max()


@pytest.mark.parametrize(
    ("blurred", "estimate", "message"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 3, 0, 4), torch.zeros(1, 3, 0, 4), "not empty"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 8), "differ in shape"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "float"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_their_shape(network, blurred, estimate, message):
    if estimate.shape == blurred.shape:
        estimate = estimate[..., :: network.contract.estimate_scale, :: network.contract.estimate_scale]
    with pytest.raises(ValueError, match=message):
        network(blurred, estimate)


SEVERAL_SCALES = [
    case for case, (name, o) in SMALL.items() if max(create_network(name, **o).contract.scales or [1]) > 1
]


@pytest.mark.parametrize("network", SEVERAL_SCALES, indirect=True)
@pytest.mark.parametrize("size", [(33, 47), (30, 61), (32, 48)])
def test_a_picture_of_any_size_is_padded_once_for_all_scales(network, size):
    """As the authors' programs do: all scales lie on the grid of the padded picture."""
    network.double()
    blurred, steps = torch.rand(1, 3, *size, dtype=torch.float64), own_steps(network)
    multiple = max(step.scale for step in steps) * network.contract.multiple
    with torch.no_grad():
        found = list(unroll(members(network), blurred, steps))
        whole = list(unroll(members(network), pad_to_multiple(blurred, multiple), steps))
    for one, other, step in zip(found, whole, steps, strict=True):
        rows, columns = (-(-side // step.scale) for side in size)
        assert one.shape[-2:] == (rows, columns)
        torch.testing.assert_close(one, other[..., :rows, :columns])


def test_unknown_names_and_options_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=f"'unet'.* {', '.join(sorted(NETWORKS))}"):
        create_network("unet")
    with pytest.raises(
        ValueError, match=r"takes the options images, kernel, recurrent, residual, width, not depth"
    ):
        create_network("mtrnn", depth=3)
    with pytest.raises(ValueError, match="not in the registry"):
        network_options(nn.Identity())


@pytest.mark.parametrize("options", [{"residual": "both"}, {"kernel": 4}, {"width": 0}])
def test_options_outside_table_1_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        create_network("mtrnn", **options)


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("mtrnn", {}, 2_635_523),
        ("mtrnn", {"recurrent": False}, 2_594_371),
        ("mtnaf", {}, 1_088_428),
        ("dmphn", {}, 5_424_393),
        ("dmphn", {"levels": 2}, 3_616_262),
        ("dmphn", {"levels": 4}, 7_232_524),
        ("dmphn", {"levels": 5}, 9_040_655),
        ("dmphn", {"stack": 2}, 10_848_786),
        ("dmphn", {"stack": 3}, 16_273_179),
        ("dmphn", {"stack": 4}, 21_697_572),
        ("dmphn", {"converted": True}, 5_426_985),
        ("maxim", {}, 22_207_605),
        ("maxim", {"stages": 2}, 14_170_988),
        ("maxim", {"stages": 1}, 6_134_371),
        ("maxim", {"stages": 1, "converted": True}, 6_134_371 + 3 * 9 * (32 + 64 + 128)),
        ("nafnet", {}, 17_111_907),
        ("nafnet", {"converted": True}, 17_111_907 + 3 * 32 * 9),
        ("scale_recurrent", {}, 6_881_251),
        ("scale_recurrent", {"grey": True}, 6_876_449),
        ("scale_recurrent", {"grey": True, "recurrent": True}, 8_056_609),
        ("deblurgan_v2", {}, 3_312_707),
        ("deblurgan_v2", {"converted": True}, 3_312_707 + 3 * 32 * 9),
        ("pss_nsc", {}, 3_871_715),
        ("pss_nsc", {"scales": 1}, 3_357_345),
        ("pss_nsc", {"scales": 1, "recurrent": True}, 3_398_497),
        ("deepdeblur", {}, 11_721_321),
    ],
)
def test_parameter_counts(name, options, count):
    with torch.device("meta"):
        network = create_network(name, **options)
    assert sum(p.numel() for p in network.parameters()) == count


MEAN_SHIFTS = 3 * 2 * 9  # the authors' 1x1 convolutions that shift the mean colour: subtractions here


@pytest.mark.parametrize(("name", "flop_per_pixel"), [("mtrnn", 736_374 - MEAN_SHIFTS), ("mtnaf", 62_784)])
def test_cost_of_one_iteration(name, flop_per_pixel):
    network, blurred = create_network(name), torch.rand(1, 3, 32, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(blurred, blurred)
    assert counter.get_total_flops() == flop_per_pixel * 32 * 64


@pytest.mark.parametrize("steps", [[Step()] * 3, [Step(4), Step(2), Step(), Step(2)], None], ids=str)
def test_the_cost_surveyed_is_that_of_every_step_carried_out(network, steps):
    steps = steps or own_steps(network)
    blurred = torch.rand(1, 3, 45, 75)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        list(unroll(members(network), blurred, steps))
    (count,) = multiply_accumulates(network, steps, (45, 75))
    assert 2 * count == counter.get_total_flops()


def test_an_untrained_mtnaf_is_the_identity():
    blurred = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        for estimate in unroll(create_network("mtnaf"), blurred, 3):
            assert torch.equal(estimate, blurred)


@pytest.mark.parametrize(
    ("name", "options", "giga"),
    [
        ("scale_recurrent", {}, 1174),
        ("scale_recurrent", {"grey": True}, 3505),
        ("scale_recurrent", {"grey": True, "recurrent": True}, 3773),
        ("deblurgan_v2", {}, 38.9),
        ("dmphn", {}, 687),
        ("pss_nsc", {}, 3307),
        ("deepdeblur", {}, 4724),
    ],
)
def test_multiply_accumulates_of_a_720p_picture_in_its_own_approach(name, options, giga):
    with torch.device("meta"):
        network, blurred = create_network(name, **options), torch.rand(1, 3, 720, 1280)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        list(unroll(members(network), blurred, default_steps(network)))
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, rel=0.005)
