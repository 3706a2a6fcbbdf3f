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
    bodies = {name: found for name in state if (found := _BODY.fullmatch(name))}
    scales = 1 + max(int(found[1]) for found in bodies.values())
    last = max(int(found[2]) for found in bodies.values())  # layer of a body: its last convolution
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if found := bodies.get(name):
            layer = int(found[2])
            if found[3]:
                place = f"blocks.{layer - 1}.{_CONVOLUTIONS[found[3]]}"
            else:
                place = "tail" if layer == last else "head"
            renamed[f"levels.{scales - 1 - int(found[1])}.{place}.{found[4]}"] = value
        elif found := _UPSCALING.fullmatch(name):
            renamed[f"levels.{scales - int(found[1])}.upscale.{found[2]}"] = value
        else:
            raise ValueError(f"{name} is no parameter of DeepDeblur")
    width = renamed["levels.0.head.weight"].shape[0]  # (width, 3, 5, 5)
    return Translation("deepdeblur", {"width": width, "blocks": last - 1, "scales": scales}, renamed)


LAYOUTS = (Layout("DeepDeblur-PyTorch's (model-1000.pt)", "body_models.0.body.0.weight", translate),)
