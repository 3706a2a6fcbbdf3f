"""The layout of the released NAFNet: one file written by BasicSR."""

import re
from collections.abc import Mapping

from torch import Tensor

from mtdeblur.weights.layouts import Layout, Translation

_PARTS = {
    "conv1": "expand1",
    "conv2": "depthwise",
    "sca.1": "attention",
    "conv3": "project1",
    "conv4": "expand2",
    "conv5": "project2",
    "norm1": "norm1",
    "norm2": "norm2",
}
_OUTSIDE = re.compile(r"(intro|ending|downs\.\d+|ups\.\d+)(?:\.0)?\.(weight|bias)")
_BLOCK = re.compile(r"((?:encoders|decoders)\.\d+|middle_blks)\.(\d+)\.(.+)")


def translate(state: Mapping[str, Tensor]) -> Translation:
    """Rename the parameters; the scales of a block's residuals lose their first axis.

    Raises:
        ValueError: if a name is unknown.
    """
    renamed: dict[str, Tensor] = {}
    blocks: dict[str, int] = {}  # of each stage
    for name, value in state.items():
        if outside := _OUTSIDE.fullmatch(name):
            renamed[f"network.{outside[1]}.{outside[2]}"] = value
            continue
        block = _BLOCK.fullmatch(name)
        if block is None:
            raise ValueError(f"{name} is no parameter of NAFNet")
        stage = block[1].replace("middle_blks", "middle")
        blocks[stage] = max(blocks.get(stage, 0), int(block[2]) + 1)
        part, _, kind = block[3].rpartition(".")
        if kind in ("beta", "gamma"):
            renamed[f"network.{stage}.{block[2]}.{kind}"] = value[0]  # (1, c, 1, 1) to (c, 1, 1)
        elif part in _PARTS:
            renamed[f"network.{stage}.{block[2]}.{_PARTS[part]}.{kind}"] = value
        else:
            raise ValueError(f"{name} is no parameter of NAFNet")
    stages = range(sum(stage.startswith("encoders") for stage in blocks))
    options = {
        "width": state["intro.weight"].shape[0],
        "encoder": tuple(blocks[f"encoders.{stage}"] for stage in stages),
        "middle": blocks["middle"],
        "decoder": tuple(blocks[f"decoders.{stage}"] for stage in stages),
    }
    return Translation("nafnet", options, renamed)


LAYOUTS = (Layout("NAFNet's (such as NAFNet-GoPro-width32.pth)", "middle_blks.0.conv1.weight", translate),)
