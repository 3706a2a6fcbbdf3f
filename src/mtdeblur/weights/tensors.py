"""Reading the named tensors of other programs' weights files; nothing but tensors is unpickled."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mtdeblur.errors import UserError, one_line

_WRAPPINGS = ("params_ema", "params", "state_dict", "G")
"""Keys under which programs store a state dict beside other things."""


SUFFIXES = (".pt", ".pth", ".pkl")
"""Of files that PyTorch wrote."""


def is_pytorch(path: Path) -> bool:
    """Whether a path is that of a file that PyTorch wrote, or of a folder with one."""
    return bool(pytorch_parts(path))


def pytorch_parts(path: Path) -> list[Path]:
    """The file, or a folder's files that PyTorch wrote.

    Raises:
        OSError: if the folder cannot be read.
    """
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES)


def read_pytorch(path: Path) -> dict[str, Tensor]:
    """The state dict of a file; of a folder that of all its files, under `FILE.NAME`.

    Raises:
        UserError: as `read_tensors` does.
    """
    if not path.is_dir():
        return read_tensors(path)
    states = {file.stem: read_tensors(file) for file in pytorch_parts(path)}
    return {f"{stem}.{name}": value for stem, state in states.items() for name, value in state.items()}


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
        reason = one_line(error)
    except SafetensorError as error:
        reason = str(error)
    raise UserError(f"cannot load weights from {path}: {reason}")


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights of which no picture can be made.

    Raises:
        ValueError: if one is not a number or infinite.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
            raise ValueError(
                f"{name} has numbers that are not finite (NaN or infinity), as after a training run that has "
                "diverged; take weights from before"
            )


def to_tensor(data: bytes, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """Raw numbers, the least significant byte first, as a tensor of their own.

    Raises:
        ValueError: if there are more or fewer than the shape has.
    """
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are no {dtype} of the shape {tuple(shape)}")
    if not data:
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def _state_dict(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a state dict")
    found = cast("Mapping[Any, Any]", content)
    found = next((found[key] for key in _WRAPPINGS if isinstance(found.get(key), Mapping)), found)
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"it holds more than tensors by their names: {name!r}")
    return {name.removeprefix("module."): value for name, value in found.items()}
