"""Weights files: safetensors with the network's name and options in the header."""

import json
from collections.abc import Collection, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.errors import UserError, one_line, whole_number
from mtdeblur.files.atomic import write_atomically
from mtdeblur.networks.contract import Several, members
from mtdeblur.networks.registry import create_network, model_options
from mtdeblur.networks.unroll import MOST_STEPS, Step, default_steps
from mtdeblur.weights.exported.manifest import is_export, read_manifest
from mtdeblur.weights.exported.network import ExportedModel
from mtdeblur.weights.foreign import is_foreign, load_foreign
from mtdeblur.weights.tensors import OURS, check_finite, is_safetensors

FORMAT = f"{OURS}1"
SCALE, LOW = ":scale", ":low"
"""Endings of the names of the scales and the low 4 bits of a tensor that is stored in 12 bits."""
LARGEST = 2047
"""Largest value in 12 bits."""


class Header(NamedTuple):
    """The header of a weights file.

    Attributes:
        network: name of the registered network.
        options: of each network of the model; usually one.
        notes: free text.
        steps: the best steps for these weights, as measured; None if not measured.
    """

    network: str
    options: tuple[dict[str, Any], ...]
    notes: dict[str, str]
    steps: tuple[Step, ...] | None = None


class Loaded(NamedTuple):
    """A model with its weights.

    Attributes:
        network: in evaluation mode, its weights float32, on the CPU.
        steps: at test time.
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
    compact: bool = False,
) -> None:
    """Write a network's weights atomically as one safetensors file.

    Args:
        path: the file.
        network: one of the registry, or several of them.
        notes: free text for the header, such as the recipe or the commit.
        iterations: the best number of iterations for these weights, or the steps themselves; None for the
            network's default.
        dtype: floating point type of the stored weights.
        compact: round tensors with two or more dimensions to 12 bits, with a scale for each output channel
            (the first dimension); a quarter smaller than float16.

    Raises:
        ValueError: if the network is not registered, or a weight is not finite or overflows in `dtype`.
        UserError: if the file cannot be written.
    """
    name, options = model_options(network)
    tensors: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        tensors |= _stored(key, value, dtype, compact)
    header = {
        "format": FORMAT,
        "network": name,
        "options": json.dumps(options if len(options) > 1 else options[0], sort_keys=True, default=index),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
        "iterations": json.dumps(_brief(iterations), default=index),
    }
    write_atomically(path, save(tensors, metadata=header))


def read_header(path: Path) -> Header:
    """Read a file's header without its tensors.

    Raises:
        UserError: if the file is missing, unreadable, damaged or not one of ours.
    """
    try:
        with _open(path) as file:
            return _header(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def skeleton(header: Header) -> nn.Module:
    """The network that a header describes, without tensors: on PyTorch's "meta" device, in evaluation mode.

    Raises:
        ValueError: if there is no such network, or an option is invalid.
    """
    with torch.device("meta"):
        networks = [create_network(header.network, **options) for options in header.options]
        return (networks[0] if len(networks) == 1 else Several(networks)).eval()


def advised_steps(path: Path) -> tuple[Step, ...] | None:
    """The best steps according to a weights file; None if it does not name any, as another program's.

    Raises:
        UserError: if a file of ours is missing, unreadable or damaged.
    """
    if is_export(path):
        return read_manifest(path).steps
    return None if is_foreign(path) else read_header(path).steps


def load_network(source: str | Path) -> nn.Module:
    """Build the network that a weights file describes, with its weights.

    Args:
        source: a file written by `save_network`, or another program's file or folder, see
            `mtdeblur.weights.foreign`.

    Returns:
        The network in evaluation mode, its weights float32, on the CPU.

    Raises:
        UserError: if the file is missing, unreadable, damaged or of an unknown layout, or an export, which
            has no tensors.
    """
    path = Path(source)
    if is_export(path):
        raise UserError(
            f"{path} is an export, which only deblurs: give the weights {read_manifest(path).source.name!r}"
        )
    return load_foreign(path) if is_foreign(path) else _load(path, None).network


def load_model(
    source: str | Path, iterations: SupportsIndex | None = None, *, or_fewer: bool = False
) -> Loaded:
    """Build the network that a weights file or an export describes, for some of its steps.

    Members of the model that no step uses are not read and remain on PyTorch's "meta" device.

    Args:
        source: as for `load_network`, or the folder of an export.
        iterations: number of steps; None for the steps that the weights advise.
        or_fewer: accept a model with fewer steps and take all of them.

    Raises:
        UserError: as `load_network` does, or if the model cannot run that number of steps.
    """
    path = Path(source)
    iterations = None if iterations is None else whole_number("iterations", iterations)
    if is_export(path):
        return _load_export(path, iterations, or_fewer)
    if is_foreign(path):
        network = load_foreign(path)
        return Loaded(network, choose_steps(default_steps(network), None, iterations, or_fewer))
    return _load(path, iterations, or_fewer, only_needed=True)


def choose_steps(
    default: Sequence[Step], advised: Sequence[Step] | None, iterations: int | None, or_fewer: bool = False
) -> tuple[Step, ...]:
    """The steps to run: those that the weights advise, or another number of them.

    Args:
        default: the network's default steps at test time.
        advised: steps that the weights advise, or None.
        iterations: number of steps; None for the advised steps.
        or_fewer: accept a model with fewer steps and take all of them.

    Raises:
        UserError: if the model's steps differ from one another, so that it cannot run that number.
    """
    default = tuple(default)
    advised = default if advised is None else tuple(advised)
    if iterations is None or len(advised) == iterations:
        return advised
    if iterations < 1:
        raise UserError(f"the number of iterations must be at least 1, not {iterations}")
    longest = default if default[: len(advised)] == advised else advised
    if all(step == Step() for step in longest):
        return (Step(),) * iterations
    if iterations <= len(longest) and all(step.scale == 1 for step in longest):
        return longest[:iterations]
    if or_fewer and iterations > len(longest):
        return longest
    raise UserError(f"these weights have {len(longest)} different steps and cannot run {iterations}")


def _load(path: Path, iterations: int | None, or_fewer: bool = False, only_needed: bool = False) -> Loaded:
    try:
        with _open(path) as file:
            header = _header(file.metadata() or {})
            network = skeleton(header)
            steps = choose_steps(default_steps(network), header.steps, iterations, or_fewer)
            if any(step.network >= len(members(network)) for step in steps):
                raise ValueError("it advises steps of networks that it does not have")
            unused = _unused(network, {step.network for step in steps}) if only_needed else set[str]()
            keys = [key for key in file.keys() if key.partition(":")[0] not in unused]  # noqa: SIM118
            tensors = _unpacked({key: file.get_tensor(key) for key in keys})
            if wrong := set(tensors) ^ (set(network.state_dict()) - unused):
                raise ValueError(f"missing or unexpected tensors: {', '.join(sorted(wrong))}")
            check_finite(tensors)
            network.load_state_dict(_in_float32(tensors), strict=False, assign=True)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return Loaded(network.eval(), steps)


def _load_export(path: Path, iterations: int | None, or_fewer: bool) -> Loaded:
    model = ExportedModel(path)
    default, advised = default_steps(model), model.manifest.steps
    longest = default if default[: len(advised)] == advised else advised
    available = model.available(longest)
    if available == len(longest):
        steps = choose_steps(default, advised, iterations, or_fewer)
    else:  # only the first of several different steps were exported
        wanted = len(advised) if iterations is None else iterations
        if wanted > available and not or_fewer:
            raise UserError(
                f"this export has {available} of the model's {len(longest)} steps and cannot run {wanted}: "
                "export it with more --iterations"
            )
        steps = longest[: min(wanted, available)]
    model.open(steps)
    return Loaded(model.eval(), steps)


def _unused(network: nn.Module, needed: Collection[int]) -> set[str]:
    """Names of the tensors that belong only to members that are not needed."""
    parts = members(network)
    kept = {id(x) for number in needed if number < len(parts) for x in _tensors(parts[number])}
    other = {id(x) for number, part in enumerate(parts) if number not in needed for x in _tensors(part)}
    return {name for name, x in network.state_dict(keep_vars=True).items() if id(x) in other - kept}


def _tensors(member: object) -> list[Tensor]:
    return list(member.state_dict(keep_vars=True).values()) if isinstance(member, nn.Module) else []


def _in_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float32 copies, independent of the memory-mapped file."""
    dtypes = {name: torch.float32 if x.is_floating_point() else x.dtype for name, x in tensors.items()}
    return {name: x.to(dtypes[name], copy=True) for name, x in tensors.items()}


def _open(path: Path) -> Any:
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    if path.exists() and not is_safetensors(path):
        raise ValueError("it is neither a safetensors nor a PyTorch file")
    return safe_open(path, framework="pt")


def _stored(key: str, value: Tensor, dtype: torch.dtype, compact: bool) -> dict[str, Tensor]:
    """A tensor as it is stored: in 12 bits as its high 8 bits, its low 4 bits and its scales."""
    value = value.detach().cpu()
    if not value.is_floating_point():
        return {key: value.contiguous()}
    compact &= value.dim() > 1
    cast = value.float() if compact else value.to(dtype)
    if not torch.isfinite(cast).all():
        raise ValueError(f"weight {key} is not finite as {dtype}")
    if not compact:
        return {key: cast.contiguous()}
    scale = cast.flatten(1).abs().amax(dim=1) / LARGEST  # (output channels,)
    steps = cast / _along_first(scale, cast).clamp(min=torch.finfo(torch.float32).tiny)
    whole = steps.round().to(torch.int16).contiguous()
    low = functional.pad((whole & 15).flatten().byte(), (0, whole.numel() % 2))
    return {
        key: (whole >> 4).to(torch.int8),
        f"{key}{LOW}": low[::2] | low[1::2] << 4,
        f"{key}{SCALE}": scale,
    }


def _unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names in the network; those stored in 12 bits as float32.

    Raises:
        ValueError: if a part of one is missing.
    """
    values = {key: value for key, value in tensors.items() if ":" not in key}
    for key, value in values.items():
        if value.dtype is not torch.int8:
            continue
        for part in (LOW, SCALE):
            if f"{key}{part}" not in tensors:
                raise ValueError(f"{key}{part} is missing")
        low = torch.stack([tensors[f"{key}{LOW}"] & 15, tensors[f"{key}{LOW}"] >> 4], dim=1)
        low = low.flatten()[: value.numel()].view(value.shape)
        values[key] = (16.0 * value + low) * _along_first(tensors[f"{key}{SCALE}"], value)
    return values


def _along_first(scale: Tensor, value: Tensor) -> Tensor:
    """Scales (N,) in a shape that multiplies a tensor (N, ...)."""
    return scale.view(-1, *(1,) * (value.dim() - 1))


def _header(metadata: Mapping[str, str]) -> Header:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its header has no format mark {FORMAT!r}, so it was not written by this program")
    options: Any = json.loads(metadata["options"])
    networks = cast("list[Any]", options if isinstance(options, list) else [options])
    return Header(
        metadata["network"],
        tuple(map(_options, networks)),
        dict(json.loads(metadata["notes"])),
        _steps(json.loads(metadata.get("iterations", "null"))),
    )


def _options(content: Any) -> dict[str, Any]:
    options: dict[str, Any] = dict(content)
    for key, value in options.items():
        if isinstance(value, list):  # JSON has no tuples
            options[key] = tuple(cast("list[Any]", value))
    return options


def _brief(steps: int | Sequence[Step] | None) -> object:
    """Steps for the header: only their number if all are full steps of one network."""
    if isinstance(steps, Sequence) and all(step == Step() for step in steps):
        return len(steps)
    return steps


def _steps(content: Any) -> tuple[Step, ...] | None:
    if content is None:
        return None
    number = content if isinstance(content, int) else len(content)
    if not 1 <= number <= MOST_STEPS:
        raise ValueError(f"{number} are no number of iterations")
    if isinstance(content, int):
        return (Step(),) * content
    steps = tuple(Step(int(scale), int(network)) for scale, network in content)
    if any(step.scale < 1 or step.network < 0 for step in steps):
        raise ValueError("it advises steps that do not exist")
    return steps


def _unreadable(path: Path, error: Exception) -> UserError:
    if not path.exists():
        return UserError(f"there is no weights file {path}")
    return UserError(f"cannot load weights from {path}: {one_line(error)}")
