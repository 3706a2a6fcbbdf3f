"""The layout of DeepDeblur-PyTorch's released `MSResNet`: bodies and upscalings from the finest scale on."""

import re
from collections.abc import Mapping

from torch import Tensor

from mtdeblur.weights.layouts import Layout, Translation

_BODY = re.compile(r"body_models\.(\d+)\.body\.(\d+)(?:\.body\.([02]))?\.(weight|bias)")
_UPSCALING = re.compile(r"conv_end_models\.(\d+)\.uppath\.0\.(weight|bias)")
_CONVOLUTIONS = {"0": "conv1", "2": "conv2"}


def translate(state: Mapping[str, Tensor]) -> Translation:
    """Rename the parameters; ours count scales from the coarsest, and upscalings belong to the finer scale.

    Raises:
        ValueError: if a name is unknown.
    """
    bodies = {name: match for name in state if (match := _BODY.fullmatch(name))}
    scales = 1 + max(int(match[1]) for match in bodies.values())
    last = max(int(match[2]) for match in bodies.values())  # layer of a body: its last convolution
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if match := bodies.get(name):
            layer = int(match[2])
            if match[3]:
                place = f"blocks.{layer - 1}.{_CONVOLUTIONS[match[3]]}"
            else:
                place = "tail" if layer == last else "head"
            renamed[f"levels.{scales - 1 - int(match[1])}.{place}.{match[4]}"] = value
        elif match := _UPSCALING.fullmatch(name):
            renamed[f"levels.{scales - int(match[1])}.upscale.{match[2]}"] = value
        else:
            raise ValueError(f"{name} is no parameter of DeepDeblur")
    width = renamed["levels.0.head.weight"].shape[0]  # (width, 3, 5, 5)
    return Translation("deepdeblur", {"width": width, "blocks": last - 1, "scales": scales}, renamed)


LAYOUTS = (Layout("DeepDeblur-PyTorch's (model-1000.pt)", "body_models.0.body.0.weight", translate),)
