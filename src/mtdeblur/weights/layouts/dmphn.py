"""The layout of the released DMPHN: a folder with a state dict for every encoder and decoder.

Files are `encoder_lv1.pkl`, `decoder_lv1.pkl` and so on, where level 1 is the whole picture; those of a stack
are `encoder_s1_lv1.pkl` and so on. Layer numbers count activations too; every residual block has parameters
in its layers 0 and 2.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mtdeblur.weights.layouts import Layout, Translation

_LAYERS = {
    "encoder": {1: "0", 2: "1.0", 3: "1.1", 5: "2", 6: "3.0", 7: "3.1", 9: "4", 10: "5.0", 11: "5.1"},
    "decoder": {13: "0.0", 14: "0.1", 16: "1", 17: "2.0", 18: "2.1", 20: "3", 21: "4.0", 22: "4.1", 24: "5"},
}
_CONVOLUTIONS = {"": "", "0.": "conv1.", "2.": "conv2."}
_NAME = re.compile(r"(encoder|decoder)_(?:s(\d+)_)?lv(\d+)\.layer(\d+)\.(0\.|2\.|)(weight|bias)")


def translate(state: Mapping[str, Tensor]) -> Translation:
    """Rename the parameters.

    Args:
        state: all files' parameters under `FILE.NAME`.

    Raises:
        ValueError: if a name is unknown.
    """
    renamed: dict[str, Tensor] = {}
    levels = stack = 1
    for name, value in state.items():
        match = _NAME.fullmatch(name)
        layer = _LAYERS[match[1]].get(int(match[4])) if match else None
        if match is None or layer is None:
            raise ValueError(f"{name} is no parameter of DMPHN")
        stage, level = int(match[2] or 1), int(match[3])
        levels, stack = max(levels, level), max(stack, stage)
        place = f"network.stages.{stage - 1}.{match[1]}s.{level - 1}"
        renamed[f"{place}.{layer}.{_CONVOLUTIONS[match[5]]}{match[6]}"] = value
    first = renamed["network.stages.0.encoders.0.0.weight"]  # (width, 3, 3, 3)
    options = {"levels": levels, "stack": stack, "width": first.shape[0]}
    return Translation("dmphn", options, renamed)


_NAMES = "DMPHN's (a folder with encoder_lv1.pkl, decoder_lv1.pkl ..., of a stack encoder_s1_lv1.pkl ...)"
LAYOUTS = (
    Layout(_NAMES, "encoder_lv1.layer1.weight", translate),
    Layout(_NAMES, "encoder_s1_lv1.layer1.weight", translate),
)
