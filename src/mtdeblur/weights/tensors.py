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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a flat state dict that `torch.save` or safetensors wrote.

    Raises:
        UserError: if the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    try:
        if path.suffix.lower() == ".safetensors":
            return load(path.read_bytes())
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, LookupError, SafetensorError) as error:
        raise UserError(f"cannot load weights from {path}: {' '.join(str(error).split())[:300]}") from None
    except UnpicklingError:
        raise UserError(
            f"cannot load weights from {path}: it is no PyTorch state dict, or holds more than tensors"
        ) from None
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not a state dict")
    named = cast("Mapping[str, Any]", loaded)
    if other := [name for name, value in named.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path} is no state dict: {other[0]} is no tensor")
    return dict(named)
