"""Weights files: safetensors whose header says which network they belong to."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import Several
from mtdeblur.networks.registry import create_network, network_options
from mtdeblur.networks.unroll import Step
from mtdeblur.weights.foreign import is_foreign, load_foreign

FORMAT = "mtdeblur-1"


class Header(NamedTuple):
    """What a weights file says about itself.

    Attributes:
        network: name of the registered network.
        options: of each network of the model; mostly there is one.
        notes: free text.
        steps: the steps that serve these weights best, as measured; None where nobody has.
    """

    network: str
    options: tuple[dict[str, Any], ...]
    notes: dict[str, str]
    steps: tuple[Step, ...] | None = None


def save_network(
    path: Path,
    network: nn.Module,
    *,
    notes: Mapping[str, str] | None = None,
    iterations: int | Sequence[Step] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a network's weights as one safetensors file, whole or not at all.

    Args:
        path: the file; its folder exists.
        network: one of the registry, or several of them.
        notes: free text kept in the header, such as the recipe or the commit.
        iterations: how many serve these weights best, or the steps themselves; None leaves it to the
            network's contract.
        dtype: floating point type in which the weights are stored.

    Raises:
        ValueError: if the network is not a registered one, or a weight does not fit into `dtype`.
        OSError: if the file cannot be written.
    """
    parts = list(network.networks) if isinstance(network, Several) else [network]
    described = [network_options(part) for part in parts]
    options = [options for _, options in described]
    tensors = {key: _stored(key, value, dtype) for key, value in network.state_dict().items()}
    header = {
        "format": FORMAT,
        "network": described[0][0],
        "options": json.dumps(options if len(options) > 1 else options[0], sort_keys=True),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
        "iterations": json.dumps(_brief(iterations)),
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


def advised_steps(path: Path) -> tuple[Step, ...] | None:
    """The steps that a weights file says serve it best; None where it, or another program's, does not say.

    Raises:
        UserError: if a file of ours is missing, unreadable or damaged.
    """
    return None if is_foreign(path) else read_header(path).steps


def load_network(source: str | Path) -> nn.Module:
    """Build the network that a weights file describes, with its weights.

    Args:
        source: a file that `save_network` wrote, or another program's released weights: a file (`.pt`, `.pth`
            or `.pkl`) or a folder, whose layout is recognised (see `mtdeblur.weights.foreign`).

    Returns:
        The network in evaluation mode, its weights float32, on the CPU.

    Raises:
        UserError: if the file is missing, unreadable, damaged or of an unknown layout.
    """
    path = Path(source)
    if is_foreign(path):
        return load_foreign(path)
    header = read_header(path)
    try:
        networks = [create_network(header.network, **options) for options in header.options]
        network = networks[0] if len(networks) == 1 else Several(networks)
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
    found: Any = json.loads(metadata["options"])
    networks = cast("list[Any]", found if isinstance(found, list) else [found])
    return Header(
        metadata["network"],
        tuple(_options(options) for options in networks),
        dict(json.loads(metadata["notes"])),
        _steps(json.loads(metadata.get("iterations", "null"))),
    )


def _options(found: Any) -> dict[str, Any]:
    options: dict[str, Any] = dict(found)
    for key, value in options.items():
        if isinstance(value, list):  # JSON knows no tuples
            options[key] = tuple(cast("list[Any]", value))
    return options


def _brief(steps: int | Sequence[Step] | None) -> object:
    """Steps as the header has them: their number where all are full steps of one network."""
    if isinstance(steps, Sequence) and all(step == Step() for step in steps):
        return len(steps)
    return steps


def _steps(found: Any) -> tuple[Step, ...] | None:
    if found is None or isinstance(found, int):
        return None if found is None else (Step(),) * found
    return tuple(Step(int(scale), int(network)) for scale, network in found)


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
