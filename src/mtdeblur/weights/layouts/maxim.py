"""The layout of MAXIM's release for TensorFlow.js: a graph exported from Flax.

A parameter is identified by the operation that uses it, whose name contains the path of its Flax module.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mtdeblur.weights.layouts import Layout, Translation

_SCOPE = "StatefulPartitionedCall/jax2tf_apply_/Wrapper/backbone/"
_OPERATION = r"(Conv2D|conv2d_transpose)|einsum/(Einsum)|jit_fn_/Mul_\d+|jit_fn_/(AddV2)(?:_\d+)?"
_NAME = re.compile(rf"{_SCOPE}(.+)/(?:{_OPERATION}):1")


def _supervised(match: re.Match[str]) -> str:
    """Name in supervised attention, which belongs to the next stage, except for the full-size output."""
    stage, level, convolution = (int(number) for number in match.groups())
    if convolution == 1 and level == 0:
        return f"stages.{stage}.output"
    return f"stages.{stage + 1}.supervise.{level}.{('feature', 'image', 'attention')[convolution]}"


def _resized(match: re.Match[str]) -> str:
    """Name of a resizing: in each stage nine that join encoders, then nine for skips in reverse order."""
    stage, rest = divmod(int(match[1]), 18)
    join, number = divmod(rest, 9)
    level, source = 2 - number // 3, number % 3
    return f"stages.{stage}.skip.{level}.{2 - source}" if join else f"stages.{stage}.bridge.{level}.{source}"


_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # applied in order: first names that depend on their context
    (r"stage_(\d)_supervised_attention_module_(\d)/Conv_([012])", _supervised),
    (r"UpSampleRatio_(\d+)/Conv_0", _resized),
    (r"(input_fuse_sam_\d|cross_gating_block(?:_\d)?)/Conv_0", r"\1/project_x"),
    (r"(input_fuse_sam_\d|cross_gating_block(?:_\d)?)/Conv_1", r"\1/project_y"),
    (r"(encoder_block_\d|UNetEncoderBlock_0)/Conv_0", r"\1/project"),
    (r"SplitHeadMultiAxisGating_([xy])/Dense_0", r"gate_\1/grid"),
    (r"SplitHeadMultiAxisGating_([xy])/Dense_1", r"gate_\1/block"),
    (r"(?:Grid|Block)GatingUnit/Dense_0", "gate"),
    (r"(?:Grid|Block)GatingUnit/intermediate_layernorm", "gate_norm"),
    (r"channel_attention/Conv_0", "attention/reduce"),
    (r"channel_attention/Conv_1", "attention/expand"),
    (r"channel_mixing/Dense_0", "dense1"),
    (r"channel_mixing/Dense_1", "dense2"),
    # parts of a stage
    (r"stage_(\d)_input_conv_", r"stages.\1.input."),
    (r"stage_(\d)_input_fuse_sam_", r"stages.\1.fuse."),
    (r"stage_(\d)_encoder_block_(\d)/Conv_1", r"stages.\1.down.\2"),
    (r"stage_(\d)_encoder_block_(\d)/cross_gating_block", r"stages.\1.cross.\2"),
    (r"stage_(\d)_encoder_block_", r"stages.\1.encoder."),
    (r"stage_(\d)_global_block_", r"stages.\1.bottleneck."),
    (r"stage_(\d)_cross_gating_block_", r"stages.\1.bridge_gate."),
    (r"stage_(\d)_decoder_block_(\d)/ConvTranspose_0", r"stages.\1.up.\2"),
    (r"stage_(\d)_decoder_block_(\d)/UNetEncoderBlock_0", r"stages.\1.decoder.\2"),
    (r"stage_(\d)_output_conv_0", r"stages.\1.output"),
    # parts of blocks
    (r"SplitHeadMultiAxisGmlpLayer_", "mix."),
    (r"channel_attention_block_1_?(\d)", r"attend.\1"),
    (r"SplitHeadMultiAxisGating_", "gate_"),
    (r"GridGmlpLayer", "grid"),
    (r"BlockGmlpLayer", "block"),
    (r"ConvTranspose_0", "up"),
    (r"LayerNorm_([xy])", r"norm_\1"),
    (r"LayerNorm(?:_in)?", "norm"),
    (r"in_project_([xy])", r"in_\1"),
    (r"out_project_([xy])", r"out_\1"),
    (r"in_project", "expand"),
    (r"out_project|input_proj", "project"),
    (r"/", "."),
)


def translate(state: Mapping[str, Tensor]) -> Translation:
    """Rename the parameters; integers and single numbers, from which the graph computes shapes, are left out.

    Args:
        state: constants under `OPERATION:POSITION`, see `mtdeblur.weights.tfjs`.

    Raises:
        ValueError: if a name is unknown.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point() or value.numel() == 1:
            continue
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name} is no parameter of MAXIM")
        path, convolution, dense, bias = match.groups()
        for theirs, ours in _RULES:
            path = re.sub(theirs, ours, path)
        if convolution:  # (h, w, i, o) to (o, i, h, w); transposed (h, w, o, i) to (i, o, h, w)
            value = value.permute(3, 2, 0, 1)
            if value.shape[2:] == (1, 1):
                value = value.flatten(1)
        elif dense:
            value = value.T  # (i, o) to (o, i)
        else:
            value = value.flatten()
        kind = "bias" if bias else "weight"
        renamed[f"{path}.{kind}"] = value.contiguous()
    return Translation("maxim", _options(renamed), renamed)


def _options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    mixing = [f"encoder.{level}" for level in range(3)] + ["bottleneck.0"]
    tokens = [state[f"stages.0.{place}.mix.0.grid.gate.bias"].numel() for place in mixing]
    return {
        "width": state["stages.0.input.0.bias"].numel(),
        "tokens": tuple(math.isqrt(number) for number in tokens),
        "stages": len({name.split(".")[1] for name in state}),
    }


LAYOUTS = (
    Layout(
        "MAXIM's for TensorFlow.js (a folder with model.json)",
        f"{_SCOPE}stage_0_input_conv_0/Conv2D:1",
        translate,
    ),
)
