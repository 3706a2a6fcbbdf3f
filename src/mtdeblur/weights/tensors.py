"""Readers of other programs' PyTorch and safetensors files, whose format is detected from the content.

Only tensors, numbers and plain containers of them are unpickled.
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
from mtdeblur.files.archives import DAMAGED

OURS = "mtdeblur-"
"""Prefix of the format mark in the header of this program's own files."""
SUFFIXES = (".pt", ".pth", ".pkl")
"""Suffixes of PyTorch files, which identify damaged ones."""
_AVERAGED = ("params_ema", "state_dict_ema", "model_ema", "ema")
_WRAPPINGS = (
    *_AVERAGED,
    *("params", "state_dict", "model_state_dict", "model", "network", "net"),
    *("generator", "net_g", "netG", "G", "weights"),
)
"""Keys of state dicts in checkpoints, by priority."""
_DATA_PARALLEL = ("module", "_orig_mod")
"""Parts of names that DataParallel and `torch.compile` insert."""


def is_pytorch(path: Path) -> bool:
    """Whether a path is another program's PyTorch or safetensors file, or a folder with one."""
    return bool(pytorch_parts(path))


def pytorch_parts(path: Path) -> list[Path]:
    """Other programs' PyTorch and safetensors files: the file itself, or those in a folder.

    Raises:
        OSError: if the folder cannot be read.
    """
    files = list(path.iterdir()) if path.is_dir() else [path]
    return sorted(file for file in files if file.is_file() and _is_others(file))


def is_safetensors(file: Path) -> bool:
    """Whether a file begins like safetensors: with the length of a JSON object and the object.

    Raises:
        OSError: if it cannot be read.
    """
    head = _head(file)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size - 8


def read_pytorch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, see `read_all`; for a folder, the state dicts of all its files as `FILE.NAME`.

    Raises:
        UserError: as `read_tensors` does.
    """
    if not path.is_dir():
        return read_all(path)
    states = {file.stem: read_tensors(file) for file in pytorch_parts(path)}
    return {f"{stem}.{name}": value for stem, state in states.items() for name, value in state.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict written by `torch.save` or safetensors.

    Args:
        path: a file; a state dict inside a checkpoint is unwrapped.

    Raises:
        UserError: if the file is missing, damaged, or contains no state dict.
    """
    state = read_all(path)
    while True:
        wrapping = next(
            (key for key in _WRAPPINGS if any(name.startswith(f"{key}.") for name in state)), None
        )
        if wrapping is None:
            return state
        state = _below(state, f"{wrapping}.")


def find_state(tensors: Mapping[str, Tensor], mark: str) -> dict[str, Tensor] | None:
    """The state dict with a parameter, below any prefix; None if there is none.

    Args:
        tensors: from `read_all`.
        mark: name of the parameter. If several state dicts have it, averaged weights are preferred, then the
            first.
    """
    prefixes = [name.removesuffix(mark) for name in tensors if name == mark or name.endswith(f".{mark}")]
    prefixes.sort(key=lambda prefix: not set(_AVERAGED) & set(prefix.split(".")))
    return _below(tensors, prefixes[0]) if prefixes else None


def read_all(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by their path of keys, such as `params.conv.weight`.

    Args:
        path: a PyTorch or safetensors file; other content than tensors is ignored.

    Raises:
        UserError: if the file is missing, damaged, or contains no tensors.
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
            raise ValueError("it contains no state dict: there are no named tensors")
        return tensors
    except UnpicklingError:
        reason = "it is not a PyTorch state dict, or contains other objects than tensors"
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        reason = one_line(error)
    except SafetensorError as error:
        reason = one_line(error)
    raise UserError(f"cannot load weights from {path}: {reason}")


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite.

    Raises:
        ValueError: if a weight is NaN or infinite.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
            raise ValueError(
                f"{name} has numbers that are not finite (NaN or infinity), as after a diverged run; use "
                "earlier weights"
            )


def to_tensor(data: bytes, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """A tensor from a copy of raw little-endian numbers.

    Raises:
        ValueError: if the number of bytes does not fit the shape.
    """
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are no {dtype} of the shape {tuple(shape)}")
    if not data:
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def _load_pytorch(path: Path) -> Any:
    # From a stream, because PyTorch treats some suffixes of a path specially.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unusual formats
        with torch.serialization.safe_globals(_harmless()):
            try:
                return torch.load(file, map_location="cpu", weights_only=True)
            except (UnpicklingError, MemoryError, OSError):
                raise
            except Exception as error:  # of any type, if the file is damaged
                raise ValueError(one_line(error)) from error


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
    """Whether a regular file contains weights of another program, or has the suffix of such a file."""
    if is_safetensors(file):
        return not _is_ours(file)
    head = _head(file)
    if head.startswith(b"PK\3\4"):
        return _is_pytorch_archive(file) or file.suffix.lower() in SUFFIXES
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return pickled or head[257:262] == b"ustar" or file.suffix.lower() in SUFFIXES


def _is_ours(file: Path) -> bool:
    """Whether a safetensors header has this program's mark, or cannot be read."""
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
    except DAMAGED:
        return True


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(512)


def _harmless() -> list[Any]:
    """Harmless types in checkpoints besides tensors: NumPy's numbers and arrays, options of a run."""
    scalar: Any = np.float64(0).__reduce__()[0]
    rebuild: Any = np.zeros(1).__reduce__()[0]
    homes = ("numpy.core.multiarray", "numpy._core.multiarray")
    scalars = [(scalar, f"{home}.scalar") for home in homes]
    arrays = [(rebuild, f"{home}._reconstruct") for home in homes]
    kinds = {type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")}
    return [*scalars, *arrays, np.ndarray, np.dtype, *kinds, Namespace]
