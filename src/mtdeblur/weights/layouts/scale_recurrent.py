"""The layout of the released scale-recurrent network: a TensorFlow checkpoint of its colour model.

The models for grey images have the same names; the model with LSTM has further ones and is not supported.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mtdeblur.weights.layouts import Layout, Translation

_NAME = re.compile(r"g_net/(\w+)/(?:(conv[12])/)?(weights|biases)")
_KINDS = {"weights": "weight", "biases": "bias"}
_SINGLE = {
    "enc1_1": "head",
    "enc2_1": "down1.conv",
    "enc3_1": "down2.conv",
    "dec2_4": "up2",
    "dec1_4": "up1",
    "dec1_0": "tail",
}
_BLOCKS = {  # a decoder's blocks run from the last number to the first
    f"{theirs}{level}_{number}": f"{ours}{level}.{place}"
    for level in (1, 2, 3)
    for theirs, ours, numbers in (("enc", "encoder", (2, 3, 4)), ("dec", "decoder", (3, 2, 1)))
    for place, number in enumerate(numbers)
}
_NOT_THE_NETWORK = re.compile(r"global_step|beta[12]_power(_\d+)?|.*/Adam(_\d+)?")
"""State of the optimiser."""


def translate(state: Mapping[str, Tensor]) -> Translation:
    """Rename the parameters and permute kernels from (h, w, i, o) to (o, i, h, w).

    For a transposed convolution, o is the number of inputs, as in PyTorch.

    Raises:
        ValueError: if a name is unknown.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if _NOT_THE_NETWORK.fullmatch(name):
            continue
        match = _NAME.fullmatch(name)
        place = (_BLOCKS if match[2] else _SINGLE).get(match[1]) if match else None
        if match is None or place is None:
            raise ValueError(f"{name} is no parameter of the scale-recurrent network without LSTM")
        place = f"{place}.{match[2]}" if match[2] else place
        turned = value.permute(3, 2, 0, 1) if value.dim() == 4 else value  # (h, w, i, o) to (o, i, h, w)
        renamed[f"{place}.{_KINDS[match[3]]}"] = turned.contiguous()
    width, inputs = renamed["head.weight"].shape[:2]
    options = {"width": width, "grey": inputs == 2, "corners": True}
    return Translation("scale_recurrent", options, renamed)


LAYOUTS = (
    Layout(
        "the scale-recurrent network's (its TensorFlow checkpoint)",
        "g_net/enc1_1/weights",
        translate,
    ),
)
