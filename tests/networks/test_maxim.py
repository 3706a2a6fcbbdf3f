"""MAXIM against a restatement of its specification by plain array operations, in float64."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from mtdeblur.networks.contract import inference_form, members
from mtdeblur.networks.maxim import StageMaps
from mtdeblur.networks.multi_axis import TokenMixing, change_level, join_tokens, split_tokens
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import default_steps, unroll

Weights = dict[str, Tensor]
SMALL = {"width": 8, "tokens": (4, 4, 2, 2)}


def small(seed: int = 1, **options) -> nn.Module:
    """A network whose every parameter is random, normalisations included."""
    torch.manual_seed(seed)
    network = create_network("maxim", **(SMALL | options))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7 / (parameter[0].numel() if parameter.dim() > 1 else 2) ** 0.5)
    return network.eval()


# The specification, by the names of the state dict; maps are (H, W, C).


def dense(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def convolution(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    y = conv2d(x.permute(2, 0, 1)[None], w[f"{name}.weight"], w[f"{name}.bias"], stride, 1)
    return y[0].permute(1, 2, 0)


def doubled(w: Weights, name: str, x: Tensor) -> Tensor:
    y = conv_transpose2d(x.permute(2, 0, 1)[None], w[f"{name}.weight"], w[f"{name}.bias"], 2)
    return y[0].permute(1, 2, 0)


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def mixed(w: Weights, name: str, x: Tensor, axis: str) -> Tensor:
    """Token by token, as the text has it."""
    matrix, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    side = round(len(bias) ** 0.5)
    height, width = x.shape[0] // side, x.shape[1] // side
    result = torch.empty_like(x)
    if axis == "block":
        for row, column in product(range(height), range(width)):
            place = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
            tokens = x[place].reshape(side * side, -1)
            result[place] = (matrix @ tokens + bias[:, None]).reshape(side, side, -1)
    else:
        for row, column in product(range(height), range(width)):
            place = (slice(row, None, height), slice(column, None, width))
            tokens = x[place].reshape(side * side, -1)
            result[place] = (matrix @ tokens + bias[:, None]).reshape(side, side, -1)
    return result


def gated_mlp(w: Weights, name: str, x: Tensor, axis: str) -> Tensor:
    u, v = gelu(dense(w, f"{name}.expand", norm(w, f"{name}.norm", x))).chunk(2, -1)
    v = mixed(w, f"{name}.gate", norm(w, f"{name}.gate_norm", v), axis)
    return x + dense(w, f"{name}.project", u * (v + 1))


def multi_axis(w: Weights, name: str, x: Tensor) -> Tensor:
    u, v = gelu(dense(w, f"{name}.expand", norm(w, f"{name}.norm", x))).chunk(2, -1)
    halves = [gated_mlp(w, f"{name}.grid", u, "grid"), gated_mlp(w, f"{name}.block", v, "block")]
    return x + dense(w, f"{name}.project", torch.cat(halves, -1))


def attention(w: Weights, name: str, x: Tensor) -> Tensor:
    n = norm(w, f"{name}.norm", x)
    if f"{name}.conv1.weight" in w:
        y = convolution(w, f"{name}.conv1", n)
        y = convolution(w, f"{name}.conv2", torch.where(y > 0, y, 0.2 * y))
    else:
        y = dense(w, f"{name}.dense2", gelu(dense(w, f"{name}.dense1", n)))
    scale = dense(w, f"{name}.attention.reduce", y.mean((0, 1))).clamp(min=0)
    return x + y / (1 + torch.exp(-dense(w, f"{name}.attention.expand", scale)))


def trunk(w: Weights, name: str, x: Tensor) -> Tensor:
    x = skip = dense(w, f"{name}.project", x)
    for number in range(2):
        x = attention(w, f"{name}.attend.{number}", multi_axis(w, f"{name}.mix.{number}", x))
    return x + skip


def gate(w: Weights, name: str, x: Tensor) -> Tensor:
    u, v = gelu(dense(w, f"{name}.expand", norm(w, f"{name}.norm", x))).chunk(2, -1)
    halves = [mixed(w, f"{name}.grid", u, "grid"), mixed(w, f"{name}.block", v, "block")]
    return dense(w, f"{name}.project", torch.cat(halves, -1))


def cross_gating(w: Weights, name: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if f"{name}.up.weight" in w:
        y = doubled(w, f"{name}.up", y)
    sx, sy = dense(w, f"{name}.project_x", x), dense(w, f"{name}.project_y", y)
    x = gelu(dense(w, f"{name}.in_x", norm(w, f"{name}.norm_x", sx)))
    y = gelu(dense(w, f"{name}.in_y", norm(w, f"{name}.norm_y", sy)))
    y_out = sy + dense(w, f"{name}.out_y", y * gate(w, f"{name}.gate_x", x))
    return sx + dense(w, f"{name}.out_x", x * gate(w, f"{name}.gate_y", y)) + y_out, y_out


def resized(x: Tensor, source: int, target: int) -> Tensor:
    """Every output pixel a weighted mean: a triangle as wide as the larger of the two grids' pixels."""
    for axis in (0, 1):
        length = x.shape[axis]
        scale = 2.0 ** (source - target)  # output pixels to an input pixel
        size, reach = round(length * scale), max(1.0, 1 / scale)
        middles = (torch.arange(size, dtype=torch.float64) + 0.5) / scale - 0.5
        distances = (middles[:, None] - torch.arange(length)).abs() / reach
        matrix = (1 - distances).clamp(min=0)
        x = torch.tensordot(matrix / matrix.sum(1, keepdim=True), x.movedim(axis, 0), 1).movedim(0, axis)
    return x


def stage(w: Weights, number: int, picture: Tensor, before) -> tuple[Tensor, tuple]:
    """One stage from its full-size picture and the pictures, encoder's and decoder's maps of the last one."""
    name = f"stages.{number}"
    pictures = [picture, picture[1::2, 1::2], picture[2::4, 2::4]]
    z = [convolution(w, f"{name}.input.{i}", pictures[i]) for i in range(3)]
    if before:
        last, encoders, decoders = before
        for i in range(3):
            sam = f"{name}.supervise.{i}"
            out = last if i == 0 else convolution(w, f"{sam}.image", decoders[i]) + pictures[i]
            weight = 1 / (1 + torch.exp(-convolution(w, f"{sam}.attention", out)))
            features = decoders[i] + convolution(w, f"{sam}.feature", decoders[i]) * weight
            z[i], _ = cross_gating(w, f"{name}.fuse.{i}", z[i], features)
    x, encoded = z[0], []
    for i in range(3):
        x = trunk(w, f"{name}.encoder.{i}", torch.cat([x, z[i]], -1))
        if before:
            x, _ = cross_gating(w, f"{name}.cross.{i}", x, encoders[i] + decoders[i])
        encoded.append(x)
        x = convolution(w, f"{name}.down.{i}", x, 2)
    for number in range(2):
        x = trunk(w, f"{name}.bottleneck.{number}", x)
    g, skips, decoded = x, [None] * 3, [None] * 3
    for i in (2, 1, 0):
        c = [dense(w, f"{name}.bridge.{i}.{j}", resized(encoded[j], j, i)) for j in (0, 1, 2)]
        skips[i], g = cross_gating(w, f"{name}.bridge_gate.{i}", torch.cat(c, -1), g)
    for i in (2, 1, 0):
        r = [dense(w, f"{name}.skip.{i}.{j}", resized(skips[j], j, i)) for j in (2, 1, 0)]
        x = trunk(w, f"{name}.decoder.{i}", torch.cat([doubled(w, f"{name}.up.{i}", x), *r], -1))
        decoded[i] = x
    estimate = convolution(w, f"{name}.output", x) + picture
    return estimate, (estimate, encoded, decoded)


@pytest.mark.parametrize("options", [{}, {"width": 4, "tokens": (8, 4, 4, 2)}], ids=str)
def test_every_stage_is_the_one_specified(options):
    network = small(**options).double()
    blurred = torch.rand(1, 3, 32, 64, dtype=torch.float64)
    before = None
    with torch.no_grad():
        for number, found in enumerate(unroll(members(network), blurred, default_steps(network))):
            picture = blurred[0].permute(1, 2, 0)
            expected, before = stage(network.state_dict(), number, picture, before)
            torch.testing.assert_close(found[0].permute(1, 2, 0), expected, rtol=1e-9, atol=1e-9)
            assert (found - blurred).abs().mean() > 0.01


@pytest.mark.parametrize("axis", ["block", "grid"])
def test_tokens_are_cut_and_joined_as_specified(axis):
    x = torch.rand(2, 12, 20, 3, dtype=torch.float64)
    layer = TokenMixing(4, axis).double()
    with torch.no_grad():
        found = layer(x)
        for picture, result in zip(x, found, strict=True):
            expected = mixed({"a.weight": layer.weight, "a.bias": layer.bias}, "a", picture, axis)
            torch.testing.assert_close(result, expected)
    assert torch.equal(join_tokens(split_tokens(x, 4, axis), axis), x)


@pytest.mark.parametrize(("source", "target"), list(product(range(3), range(3))))
def test_maps_change_their_level_as_specified(source, target):
    x = torch.rand(2, 32 >> source, 48 >> source, 5, dtype=torch.float64)
    found = change_level(x, source, target)
    for picture, result in zip(x, found, strict=True):
        torch.testing.assert_close(result, resized(picture, source, target))
    rounded = change_level(x.bfloat16(), source, target)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), found, rtol=0, atol=0.01)


def test_a_later_stage_needs_the_state_of_the_one_before():
    blurred = torch.rand(1, 3, 16, 16)
    for member in members(small())[1:]:
        for form in (member, inference_form(member, torch.float32)):
            with pytest.raises(ValueError, match="needs the state of stage"):
                form(blurred, blurred)


def test_a_picture_may_leave_after_any_stage():
    """A network of fewer stages holds the first ones, and gives their estimates."""
    three, blurred = small(), torch.rand(1, 3, 20, 24)
    steps = default_steps(three)
    with torch.no_grad():
        estimates = list(unroll(members(three), blurred, steps))
        for stages in (1, 2, 3):
            fewer = small(seed=2, stages=stages)
            state = {k: v for k, v in three.state_dict().items() if int(k.split(".")[1]) < stages}
            fewer.load_state_dict(state)
            found = list(unroll(members(fewer), blurred, default_steps(fewer)))
            assert torch.equal(torch.stack(found), torch.stack(estimates[:stages]))
            assert torch.equal(list(unroll(members(three), blurred, steps[:stages]))[-1], found[-1])


def test_what_a_stage_hands_on_is_named_by_level():
    with torch.no_grad():
        _, state = members(small())[0](*[torch.rand(1, 3, 32, 48)] * 2)
    assert isinstance(state, StageMaps)
    shapes = [(1, 8, 32, 48), (1, 16, 16, 24), (1, 32, 8, 12)]
    assert [tuple(part.shape) for part in state] == shapes * 2


@pytest.mark.parametrize("options", [{"stages": 0}, {"stages": 2, "converted": True}])
def test_stages_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="stages must be at least 1"):
        create_network("maxim", **options)
