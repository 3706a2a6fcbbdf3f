"""Reading the named tensors of other programs' weights files; nothing but tensors is unpickled."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mtdeblur.errors import UserError

_WRAPPINGS = ("params_ema", "params", "state_dict", "G")
"""Keys under which programs store a state dict beside other things."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict that `torch.save` or safetensors wrote.

    Args:
        path: a file. What a state dict is wrapped in, and DataParallel's prefix of its names, are taken off.

    Raises:
        UserError: if the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    try:
        if path.suffix.lower() == ".safetensors":
            return load(path.read_bytes())
        return _state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except UnpicklingError:
        reason = "it is no PyTorch state dict, or holds more than tensors"
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
    except SafetensorError as error:
        reason = str(error)
    raise UserError(f"cannot load weights from {path}: {reason}")


def _state_dict(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a state dict")
    found = cast("Mapping[Any, Any]", content)
    found = next((found[key] for key in _WRAPPINGS if isinstance(found.get(key), Mapping)), found)
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"it holds more than tensors by their names: {name!r}")
    return {name.removeprefix("module."): value for name, value in found.items()}
