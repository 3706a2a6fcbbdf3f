"""Weights files: safetensors whose header says which network they belong to."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mtdeblur.errors import UserError
from mtdeblur.networks.registry import create_network, network_options
from mtdeblur.weights.authors import load_authors

FORMAT = "mtdeblur-1"


class Header(NamedTuple):
    """What a weights file says about itself.

    Attributes:
        network: name of the registered network.
        options: of that network.
        notes: free text.
        iterations: how many iterations serve these weights best, as measured; None where nobody has.
    """

    network: str
    options: dict[str, Any]
    notes: dict[str, str]
    iterations: int | None = None


def save_network(
    path: Path,
    network: nn.Module,
    *,
    notes: Mapping[str, str] | None = None,
    iterations: int | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a network's weights as one safetensors file, whole or not at all.

    Args:
        path: the file; its folder exists.
        network: one of the registry.
        notes: free text kept in the header, such as the recipe or the commit.
        iterations: how many iterations serve these weights best; None leaves it to the network's contract.
        dtype: floating point type in which the weights are stored.

    Raises:
        ValueError: if the network is not a registered one, or a weight does not fit into `dtype`.
        OSError: if the file cannot be written.
    """
    name, options = network_options(network)
    tensors = {key: _stored(key, value, dtype) for key, value in network.state_dict().items()}
    header = {
        "format": FORMAT,
        "network": name,
        "options": json.dumps(options, sort_keys=True),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
        "iterations": json.dumps(iterations),
    }
    _write_atomically(path, save(tensors, metadata=header))


def read_header(path: Path) -> Header:
    """What the file says about itself, without reading its tensors.

    Raises:
        UserError: if the file is missing, unreadable, damaged or not one of ours.
    """
    try:
        with _open(path) as file:
            return _header(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def best_iterations(path: Path) -> int | None:
    """How many iterations a weights file says serve it best; None where it does not say.

    Raises:
        UserError: if the file is missing, unreadable, damaged or not one of ours.
    """
    return None if path.suffix.lower() in (".pt", ".pth") else read_header(path).iterations


def load_network(source: str | Path) -> nn.Module:
    """Build the network that a weights file describes, with its weights.

    Args:
        source: a file that `save_network` wrote, or the authors' own checkpoint (`.pt` or `.pth`, see
            `mtdeblur.weights.authors`).

    Returns:
        The network in evaluation mode, its weights float32, on the CPU.

    Raises:
        UserError: if the file is missing, unreadable, damaged or not one of ours.
    """
    path = Path(source)
    if path.suffix.lower() in (".pt", ".pth"):
        return load_authors(path)
    header = read_header(path)
    try:
        network = create_network(header.network, **header.options)
        with _open(path) as file:
            network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return network.float().eval()


def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")


def _stored(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    if not value.is_floating_point():
        return value.cpu().contiguous()
    cast = value.detach().to("cpu", dtype).contiguous()
    if not torch.isfinite(cast).all():
        raise ValueError(f"weight {key} is not finite as {dtype}")
    return cast


def _header(metadata: Mapping[str, str]) -> Header:
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"its header lacks the format mark {FORMAT!r}, so it was not written by this program"
        )
    options: dict[str, Any] = dict(json.loads(metadata["options"]))
    for key, value in options.items():
        if isinstance(value, list):  # JSON knows no tuples
            options[key] = tuple(cast("list[Any]", value))
    return Header(
        metadata["network"],
        options,
        dict(json.loads(metadata["notes"])),
        json.loads(metadata.get("iterations", "null")),
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    if not path.exists():
        return UserError(f"there is no weights file {path}")
    reason = " ".join(str(error).split())
    return UserError(f"cannot load weights from {path}: {reason[:300]}")


def _write_atomically(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
