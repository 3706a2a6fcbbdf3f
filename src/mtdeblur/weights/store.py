"""Weights files: safetensors whose header says which network they belong to."""

import json
from collections.abc import Collection, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mtdeblur.errors import UserError, one_line, whole_number
from mtdeblur.files.atomic import write_atomically
from mtdeblur.networks.contract import Several, members
from mtdeblur.networks.registry import create_network, network_options
from mtdeblur.networks.unroll import Step, default_steps
from mtdeblur.weights.foreign import is_foreign, load_foreign
from mtdeblur.weights.tensors import OURS, check_finite, is_safetensors

FORMAT = f"{OURS}1"


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


class Loaded(NamedTuple):
    """A model with its weights.

    Attributes:
        network: in evaluation mode, its weights float32, on the CPU.
        steps: to carry out.
    """

    network: nn.Module
    steps: tuple[Step, ...]


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
        path: the file.
        network: one of the registry, or several of them.
        notes: free text kept in the header, such as the recipe or the commit.
        iterations: how many serve these weights best, or the steps themselves; None leaves it to the
            network's contract.
        dtype: floating point type in which the weights are stored.

    Raises:
        ValueError: if the network is not a registered one, or a weight does not fit into `dtype`.
        UserError: if the file cannot be written.
    """
    parts = list(network.networks) if isinstance(network, Several) else [network]
    described = [network_options(part) for part in parts]
    options = [options for _, options in described]
    tensors = {key: _stored(key, value, dtype) for key, value in network.state_dict().items()}
    header = {
        "format": FORMAT,
        "network": described[0][0],
        "options": json.dumps(options if len(options) > 1 else options[0], sort_keys=True, default=index),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
        "iterations": json.dumps(_brief(iterations), default=index),
    }
    write_atomically(path, save(tensors, metadata=header))


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
        source: a file that `save_network` wrote, or another program's released weights: a file or a folder
            whose layout is recognised, see `mtdeblur.weights.foreign`.

    Returns:
        The network in evaluation mode, its weights float32, on the CPU.

    Raises:
        UserError: if the file is missing, unreadable, damaged or of an unknown layout.
    """
    path = Path(source)
    return load_foreign(path) if is_foreign(path) else _load(path, None).network


def load_model(
    source: str | Path, iterations: SupportsIndex | None = None, *, or_fewer: bool = False
) -> Loaded:
    """Build the network that a weights file describes, for some of its steps.

    Of a model with several members, the weights of those that no step names are not read: such a member stays
    on PyTorch's "meta" device.

    Args:
        source: as for `load_network`.
        iterations: how many steps are wanted; None for those that the weights advise.
        or_fewer: take all of the steps of a model that has fewer.

    Raises:
        UserError: as `load_network` does, or if the model has no such number of steps.
    """
    path = Path(source)
    iterations = None if iterations is None else whole_number("iterations", iterations)
    if is_foreign(path):
        network = load_foreign(path)
        return Loaded(network, choose_steps(default_steps(network), None, iterations, or_fewer))
    return _load(path, iterations, or_fewer, only_needed=True)


def choose_steps(
    own: Sequence[Step], advised: Sequence[Step] | None, iterations: int | None, or_fewer: bool = False
) -> tuple[Step, ...]:
    """The steps to carry out: those that the weights advise, unless another number is wanted.

    Args:
        own: the network's own steps at test time.
        advised: what the weights advise; None if nothing.
        iterations: how many are wanted; None for what is advised.
        or_fewer: take all steps where the model has fewer than are wanted.

    Raises:
        UserError: if the model's steps differ from one another, so that it cannot have that many.
    """
    own = tuple(own)
    advised = own if advised is None else tuple(advised)
    if iterations is None or len(advised) == iterations:
        return advised
    if iterations < 1:
        raise UserError(f"the number of iterations must be at least 1, not {iterations}")
    longest = own if own[: len(advised)] == advised else advised
    if all(step == Step() for step in longest):
        return (Step(),) * iterations
    if iterations <= len(longest) and all(step.scale == 1 for step in longest):
        return longest[:iterations]
    if or_fewer and iterations > len(longest):
        return longest
    raise UserError(f"these weights go through {len(longest)} steps, each of its own kind, not {iterations}")


def _load(path: Path, iterations: int | None, or_fewer: bool = False, only_needed: bool = False) -> Loaded:
    try:
        with _open(path) as file:
            header = _header(file.metadata() or {})
            with torch.device("meta"):
                networks = [create_network(header.network, **options) for options in header.options]
                network = networks[0] if len(networks) == 1 else Several(networks)
            steps = choose_steps(default_steps(network), header.steps, iterations, or_fewer)
            left = _left_out(network, {step.network for step in steps}) if only_needed else set[str]()
            tensors = {key: file.get_tensor(key) for key in file.keys() if key not in left}  # noqa: SIM118
            if wrong := set(tensors) ^ (set(network.state_dict()) - left):
                raise ValueError(f"its tensors are not those of such a network: {', '.join(sorted(wrong))}")
            check_finite(tensors)
            network.load_state_dict(_in_float32(tensors), strict=False, assign=True)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return Loaded(network.eval(), steps)


def _left_out(network: nn.Module, needed: Collection[int]) -> set[str]:
    """Names of the tensors that only members have which are not needed."""
    parts = members(network)
    kept = {id(x) for number in needed if number < len(parts) for x in _tensors(parts[number])}
    other = {id(x) for number, part in enumerate(parts) if number not in needed for x in _tensors(part)}
    return {name for name, x in network.state_dict(keep_vars=True).items() if id(x) in other - kept}


def _tensors(member: object) -> list[Tensor]:
    return list(member.state_dict(keep_vars=True).values()) if isinstance(member, nn.Module) else []


def _in_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, which the file may change under."""
    dtypes = {name: torch.float32 if x.is_floating_point() else x.dtype for name, x in tensors.items()}
    return {name: x.to(dtypes[name], copy=True) for name, x in tensors.items()}


def _open(path: Path) -> Any:
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    if path.exists() and not is_safetensors(path):
        raise ValueError("it holds no weights: its content is neither that of safetensors nor PyTorch's")
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
    return UserError(f"cannot load weights from {path}: {one_line(error)}")
