"""Reading the named tensors of other programs' weights files, told by their content and not by their names.

Of PyTorch's files nothing is unpickled but tensors, numbers and plain containers of them.
"""

import math
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from mtdeblur.errors import UserError, one_line

OURS = "mtdeblur-"
"""What the format mark in the header of this program's own files begins with."""
SUFFIXES = (".pt", ".pth", ".pkl")
"""Of files that PyTorch wrote; damaged ones are told by them."""
_AVERAGED = ("params_ema", "state_dict_ema", "model_ema", "ema")
_WRAPPINGS = (
    *_AVERAGED,
    *("params", "state_dict", "model_state_dict", "model", "network", "net"),
    *("generator", "net_g", "netG", "G", "weights"),
)
"""Keys under which programs store a state dict beside other things, the ones that are preferred first."""
_DATA_PARALLEL = ("module", "_orig_mod")
"""Parts of names that wrappers of PyTorch put in: DataParallel, and what `torch.compile` gives."""


def is_pytorch(path: Path) -> bool:
    """Whether at a path is another program's file of PyTorch or safetensors, or a folder with one."""
    return bool(pytorch_parts(path))


def pytorch_parts(path: Path) -> list[Path]:
    """The file, or a folder's files that PyTorch or safetensors wrote for another program.

    Raises:
        OSError: if the folder cannot be read.
    """
    files = list(path.iterdir()) if path.is_dir() else [path]
    return sorted(file for file in files if file.is_file() and _is_others(file))


def is_safetensors(file: Path) -> bool:
    """Whether a file begins as safetensors do: with the length of a JSON object, and that.

    Raises:
        OSError: if it cannot be read.
    """
    head = _head(file)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size - 8


def read_pytorch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, see `read_all`; of a folder the state dicts of all its files, `FILE.NAME`.

    Raises:
        UserError: as `read_tensors` does.
    """
    if not path.is_dir():
        return read_all(path)
    states = {file.stem: read_tensors(file) for file in pytorch_parts(path)}
    return {f"{stem}.{name}": value for stem, state in states.items() for name, value in state.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict that `torch.save` or safetensors wrote.

    Args:
        path: a file. What a state dict is wrapped in is taken off.

    Raises:
        UserError: if the file is missing, damaged, or holds something else.
    """
    state = read_all(path)
    while True:
        found = next((key for key in _WRAPPINGS if any(name.startswith(f"{key}.") for name in state)), None)
        if found is None:
            return state
        state = _below(state, f"{found}.")


def find_state(tensors: Mapping[str, Tensor], mark: str) -> dict[str, Tensor] | None:
    """The state dict that has a parameter, whatever its names have before that; None if there is none.

    Args:
        tensors: as `read_all` gives them.
        mark: name of the parameter. Where several state dicts have it, averaged weights are preferred, then
            what comes first.
    """
    prefixes = [name.removesuffix(mark) for name in tensors if name == mark or name.endswith(f".{mark}")]
    prefixes.sort(key=lambda prefix: not set(_AVERAGED) & set(prefix.split(".")))
    return _below(tensors, prefixes[0]) if prefixes else None


def read_all(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, under the keys that lead to it: `params.conv.weight`.

    Args:
        path: a file of PyTorch or safetensors. What is no tensor is passed over.

    Raises:
        UserError: if the file is missing, damaged, or holds no tensors.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    try:
        if is_safetensors(path):
            content: Any = load(path.read_bytes())
        else:
            content = _load_pytorch(path)
        tensors = dict(_flat(content, ()))
        if not tensors:
            raise ValueError("it holds no state dict: no tensors by their names")
        return tensors
    except UnpicklingError:
        reason = "it is no PyTorch state dict, or holds more than tensors"
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        reason = one_line(error)
    except SafetensorError as error:
        reason = one_line(error)
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


def _load_pytorch(path: Path) -> Any:
    # From a stream, for of a path PyTorch would judge by its suffix.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unusual formats, which are read or refused all the same
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(file, map_location="cpu", weights_only=True)


def _flat(content: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor) and keys:
        parts = [part for key in keys for part in key.split(".")]
        yield ".".join(part for part in parts if part not in _DATA_PARALLEL), content
    elif isinstance(content, Mapping):
        for key, value in cast("Mapping[Any, Any]", content).items():
            if isinstance(key, str):
                yield from _flat(value, (*keys, key))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _is_others(file: Path) -> bool:
    """Whether a regular file holds weights of another program, or is called as if it did."""
    if is_safetensors(file):
        return not _is_ours(file)
    head = _head(file)
    if head.startswith(b"PK\3\4"):
        return _is_pytorch_archive(file) or file.suffix.lower() in SUFFIXES
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return pickled or head[257:262] == b"ustar" or file.suffix.lower() in SUFFIXES


def _is_ours(file: Path) -> bool:
    """Whether the header of safetensors has this program's mark, or cannot be read."""
    try:
        opening: Any = safe_open(file, framework="pt")
        with opening as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            return metadata.get("format", "").startswith(OURS)
    except SafetensorError:
        return True


def _is_pytorch_archive(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.split("/")[-1] == "data.pkl" for name in archive.namelist())
    except zipfile.BadZipFile:
        return True  # cut short


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(512)


def _harmless() -> list[Any]:
    """What checkpoints hold beside tensors, and what only makes data: NumPy's numbers, options of a run."""
    scalar: Any = np.float64(0).__reduce__()[0]
    rebuild: Any = np.zeros(1).__reduce__()[0]
    homes = ("numpy.core.multiarray", "numpy._core.multiarray")
    named = [(made, f"{home}.{name}") for home in homes for name, made in (("scalar", scalar),)]
    arrays = [(rebuild, f"{home}._reconstruct") for home in homes]
    kinds = {type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")}
    return [*named, *arrays, np.ndarray, np.dtype, *kinds, Namespace]
