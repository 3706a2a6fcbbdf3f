"""MAXIM's release for TensorFlow.js, its names written down from the paths of its Flax modules."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtdeblur.errors import UserError
from mtdeblur.networks.maxim import MAXIMConfig
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import load_network

SCOPE = "StatefulPartitionedCall/jax2tf_apply_/Wrapper/backbone/"
SMALL = {"width": 8, "tokens": (4, 2, 2, 2)}
Module = tuple[str, str, str]
"""Ours, theirs, and the kind: "conv", "transposed", "dense" or "norm"."""


def gate(ours: str, theirs: str) -> Iterator[Module]:
    yield f"{ours}.norm", f"{theirs}/LayerNorm_in", "norm"
    yield f"{ours}.expand", f"{theirs}/in_project", "dense"
    yield f"{ours}.grid", f"{theirs}/Dense_0", "dense"
    yield f"{ours}.block", f"{theirs}/Dense_1", "dense"
    yield f"{ours}.project", f"{theirs}/out_project", "dense"


def cross_gating(ours: str, theirs: str, doubles: bool = False) -> Iterator[Module]:
    if doubles:
        yield f"{ours}.up", f"{theirs}/ConvTranspose_0", "transposed"
    for number, which in enumerate("xy"):
        yield f"{ours}.project_{which}", f"{theirs}/Conv_{number}", "conv"
        yield f"{ours}.norm_{which}", f"{theirs}/LayerNorm_{which}", "norm"
        yield f"{ours}.in_{which}", f"{theirs}/in_project_{which}", "dense"
        yield f"{ours}.out_{which}", f"{theirs}/out_project_{which}", "dense"
        yield from gate(f"{ours}.gate_{which}", f"{theirs}/SplitHeadMultiAxisGating_{which}")


def trunk(ours: str, theirs: str, bottleneck: bool = False) -> Iterator[Module]:
    yield f"{ours}.project", f"{theirs}/{'input_proj' if bottleneck else 'Conv_0'}", "conv"
    for number in (0, 1):
        mix, mlp = f"{ours}.mix.{number}", f"{theirs}/SplitHeadMultiAxisGmlpLayer_{number}"
        yield f"{mix}.norm", f"{mlp}/LayerNorm_in", "norm"
        yield f"{mix}.expand", f"{mlp}/in_project", "dense"
        yield f"{mix}.project", f"{mlp}/out_project", "dense"
        for axis in ("Grid", "Block"):
            part, layer = f"{mix}.{axis.lower()}", f"{mlp}/{axis}GmlpLayer"
            yield f"{part}.norm", f"{layer}/LayerNorm", "norm"
            yield f"{part}.expand", f"{layer}/in_project", "dense"
            yield f"{part}.gate_norm", f"{layer}/{axis}GatingUnit/intermediate_layernorm", "norm"
            yield f"{part}.gate", f"{layer}/{axis}GatingUnit/Dense_0", "dense"
            yield f"{part}.project", f"{layer}/out_project", "dense"
        attend = f"{ours}.attend.{number}"
        block = f"{theirs}/channel_attention_block_1{'_' if bottleneck else ''}{number}"
        yield f"{attend}.norm", f"{block}/LayerNorm", "norm"
        for layer in (1, 2):
            if bottleneck:
                yield f"{attend}.dense{layer}", f"{block}/channel_mixing/Dense_{layer - 1}", "dense"
            else:
                yield f"{attend}.conv{layer}", f"{block}/conv{layer}", "conv"
        yield f"{attend}.attention.reduce", f"{block}/channel_attention/Conv_0", "conv"
        yield f"{attend}.attention.expand", f"{block}/channel_attention/Conv_1", "conv"


def stage(number: int, last: bool) -> Iterator[Module]:
    ours, theirs, before = f"stages.{number}", f"stage_{number}", f"stage_{number - 1}"
    for level in (0, 1, 2):
        encoder, decoder = f"{theirs}_encoder_block_{level}", f"{theirs}_decoder_block_{level}"
        yield f"{ours}.input.{level}", f"{theirs}_input_conv_{level}", "conv"
        yield from trunk(f"{ours}.encoder.{level}", encoder)
        yield f"{ours}.down.{level}", f"{encoder}/Conv_1", "conv"
        bridge_gate = f"{theirs}_cross_gating_block_{level}"
        yield from cross_gating(f"{ours}.bridge_gate.{level}", bridge_gate, doubles=True)
        for source in (0, 1, 2):
            joins = 18 * number + 3 * (2 - level)
            yield f"{ours}.bridge.{level}.{source}", f"UpSampleRatio_{joins + source}/Conv_0", "conv"
            yield f"{ours}.skip.{level}.{source}", f"UpSampleRatio_{joins + 11 - source}/Conv_0", "conv"
        yield f"{ours}.up.{level}", f"{decoder}/ConvTranspose_0", "transposed"
        yield from trunk(f"{ours}.decoder.{level}", f"{decoder}/UNetEncoderBlock_0")
        if number:
            supervised = f"{before}_supervised_attention_module_{level}"
            yield from cross_gating(f"{ours}.fuse.{level}", f"{theirs}_input_fuse_sam_{level}")
            yield from cross_gating(f"{ours}.cross.{level}", f"{encoder}/cross_gating_block")
            yield f"{ours}.supervise.{level}.feature", f"{supervised}/Conv_0", "conv"
            yield f"{ours}.supervise.{level}.attention", f"{supervised}/Conv_2", "conv"
            if level:
                yield f"{ours}.supervise.{level}.image", f"{supervised}/Conv_1", "conv"
    for block in (0, 1):
        yield from trunk(f"{ours}.bottleneck.{block}", f"{theirs}_global_block_{block}", bottleneck=True)
    picture = f"{theirs}_output_conv_0" if last else f"{theirs}_supervised_attention_module_0/Conv_1"
    yield f"{ours}.output", picture, "conv"


def released(network: nn.Module) -> tuple[list[dict], dict[str, Tensor]]:
    """The operations and the constants of a graph with a network's parameters."""
    state = network.state_dict()
    stages = network.config.stages
    modules = [module for s in range(stages) for module in stage(s, last=s == stages - 1)]
    expected = {f"{ours}.{kind}" for ours, _, _ in modules for kind in ("weight", "bias")}
    assert expected == set(state)
    nodes: list[dict] = []
    constants: dict[str, Tensor] = {
        "shape": torch.tensor([4, 4], dtype=torch.int32),
        "one": torch.tensor(1.0),
    }
    for number, (ours, theirs, kind) in enumerate(modules):
        path, weight, bias = SCOPE + theirs, state[f"{ours}.weight"], state[f"{ours}.bias"]
        if kind in ("conv", "transposed"):
            while weight.dim() < 4:
                weight = weight[..., None]
            name, weight = f"{path}/transpose_3", weight.permute(2, 3, 1, 0)
            taking = f"{path}/{'Conv2D' if kind == 'conv' else 'conv2d_transpose'}"
        elif kind == "dense":
            name, weight = f"StatefulPartitionedCall/jax2tf_arg_{number}/ReadVariableOp", weight.T
            taking = f"{path}/einsum/Einsum"
        else:
            name, taking = f"{path}/Reshape_2", f"{path}/jit_fn_/Mul_4"
            weight = weight.view(1, 1, 1, -1)
        adding = f"{path}/jit_fn_/AddV2{'_1' if kind == 'norm' else ''}"
        constants |= {name: weight, f"{path}/Reshape_3": bias.view(1, 1, 1, -1)}
        nodes.append({"name": taking, "input": ["shape", name]})
        nodes.append({"name": adding, "input": [taking, f"{path}/Reshape_3"]})
    return nodes, constants


@pytest.fixture(scope="module", params=[1, 3])
def network(request) -> nn.Module:
    torch.manual_seed(6)
    network = create_network("maxim", stages=request.param, **SMALL)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


def test_a_release_is_recognised_and_every_parameter_finds_its_place(write_model, tmp_path, network):
    write_model(tmp_path, *released(network), shard=100_000)
    loaded = load_network(tmp_path)
    assert loaded.config == MAXIMConfig(stages=network.config.stages, **SMALL)
    assert not loaded.training
    for (name, value), other in zip(network.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def renamed(before: str, after: str):
    def change(nodes):
        for node in nodes:
            node["name"] = node["name"].replace(before, after)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nodes: nodes.pop(), r"Reshape_3 is no parameter of MAXIM"),
        (renamed("input_conv_1/Conv2D", "input_conv_1/Conv3D"), r"Conv3D:1 is no parameter"),
        (renamed("encoder_block_2/Conv_1", "encoder_block_2/Conv_7"), r"stages\.0\.down\.2\.weight"),
        (renamed("encoder_block_2/Conv_1", "encoder_block_1/Conv_1"), r"stages\.0\.down\.2\.weight"),
        (renamed("input_conv_0/jit_fn_", "input_conv_7/jit_fn_"), r"stages\.0\.input\.0\.bias"),
    ],
)
def test_a_graph_that_does_not_fit_gets_one_line(write_model, tmp_path, change, message):
    nodes, constants = released(create_network("maxim", stages=1, **SMALL))
    change(nodes)
    write_model(tmp_path, nodes, constants, shard=100_000)
    with pytest.raises(UserError, match=message) as caught:
        load_network(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


RELEASE = os.environ.get("MTDEBLUR_MAXIM")


@pytest.mark.slow
@pytest.mark.skipif(RELEASE is None, reason="MTDEBLUR_MAXIM names no folder with the release")
def test_the_release_is_what_ships():
    network = load_network(Path(str(RELEASE)))
    assert network.config == MAXIMConfig()
    state, shipped = network.state_dict(), load_network(find_weights("maxim-gopro")).state_dict()
    assert len(state) == 2750
    assert sum(math.prod(value.shape) for value in state.values()) == 22_207_605
    for (name, value), other in zip(state.items(), shipped.items(), strict=True):
        assert name == other[0]
        if value.dim() > 1:  # rounded to 12 bits of each output channel
            step = value.half().float().flatten(1).abs().amax(dim=1) / 2047
            assert ((value - other[1]).abs().flatten(1).amax(dim=1) <= step).all(), name
        else:
            assert torch.equal(value.half().float(), other[1]), name
