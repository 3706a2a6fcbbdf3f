"""Descriptions of models as data, for other programs and for model cards."""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.files.atomic import reason
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.cost import Surveyed, multiply_accumulates, parameters
from mtdeblur.networks.registry import model_options
from mtdeblur.networks.unroll import Step, default_steps
from mtdeblur.weights.catalogue import Stopping, catalogue, find_weights
from mtdeblur.weights.exported.manifest import is_export, read_manifest
from mtdeblur.weights.exported.network import ExportedModel
from mtdeblur.weights.foreign import checkpoint_files, is_foreign, load_foreign
from mtdeblur.weights.hub import WEIGHTS
from mtdeblur.weights.store import read_header, skeleton

CONFIG = "config.json"
"""File with the description beside the weights, in the folder of a model or on the Hugging Face Hub."""
SIZE = (720, 1280)
"""Height and width of the picture for which `ModelDescription.flop_per_pixel` is counted."""


class ModelDescription(BaseModel):
    """What a model is and needs. Pictures are RGB in [0, 1], and results have their size.

    Attributes:
        library_name: the program that runs it.
        name: of the weights; of the network, if it describes one without weights.
        purpose: what it does.
        architecture: name of the registered network, see `mtdeblur.create_network`.
        options: of the network, one item for each member of a model of several.
        approach: "multi-temporal", "one-stage", "multi-scale" or "stacked".
        parameters: their number; None for an export.
        weights_bytes: size of the weights' files; None without weights.
        licence: of the weights, an SPDX identifier or words; None if unknown.
        original: paper and licence of the original program, if the network has one.
        training_data: one item a source, if known.
        input_channels: 3, RGB.
        output_channels: 3, RGB.
        multiple_of: heights and widths are padded to multiples of this; callers need not do it.
        minimum_size: smallest height and width of a picture in pixels.
        supports_half: whether it runs in float16 without visible loss.
        supports_bfloat16: whether it runs in bfloat16 without visible loss.
        iterations: default number of steps.
        halo: radius in pixels of what one step sees of the picture; None with a global operation.
        global_operation: an operation over the whole picture, which prevents exact tiles, or None.
        window: with a global operation, the best side of inference windows in pixels, if known.
        flop_per_pixel: floating point operations of all steps per pixel of a picture of 1280x720, two for a
            multiply-accumulate, of convolutions and matrix products; None if unknown.
        stopping: calibrated thresholds of early stopping; None if all steps run by default.
    """

    model_config = ConfigDict(frozen=True)

    library_name: Literal["mtdeblur"] = "mtdeblur"
    name: str
    purpose: str = "motion deblurring of photographs"
    architecture: str
    options: tuple[dict[str, Any], ...] = ()
    approach: str
    parameters: int | None
    weights_bytes: int | None = None
    licence: str | None = None
    original: str | None
    training_data: tuple[str, ...] = ()
    input_channels: int = 3
    output_channels: int = 3
    multiple_of: int
    minimum_size: int = 1
    supports_half: bool
    supports_bfloat16: bool
    iterations: int
    halo: int | None
    global_operation: str | None
    window: int | None
    flop_per_pixel: float | None
    stopping: Stopping | None = None


class Published(NamedTuple):
    """What is known about weights beyond their file.

    Attributes:
        name: of the weights; None if unknown.
        licence: an SPDX identifier or words; None if unknown.
        training_data: one item a source.
        stopping: thresholds of early stopping; None if not calibrated.
    """

    name: str | None = None
    licence: str | None = None
    training_data: tuple[str, ...] = ()
    stopping: Stopping | None = None


def origin(weights: str | Path, path: Path) -> str | Path:
    """What `published` takes: a name of the catalogue, or the path that `find_weights` found.

    Args:
        weights: as given.
        path: that they were found at.
    """
    return weights if isinstance(weights, str) and weights in catalogue() else path


def published(source: str | Path) -> Published:
    """What the catalogue, or `CONFIG` beside the weights, says.

    Args:
        source: a name of the catalogue, or a path that `find_weights` has found, see `origin`.

    Raises:
        UserError: if the file beside the weights is damaged.
    """
    entry = catalogue().get(source) if isinstance(source, str) else None
    if entry is not None:
        return Published(str(source), entry.licence, entry.training_data, entry.stopping)
    path = Path(source)
    if is_export(path):
        exported = read_manifest(path).source
        return Published(None, exported.licence, exported.training_data)
    beside = _read(path.with_name(CONFIG)) if path.name == WEIGHTS else None
    if beside is None:
        return Published()
    return Published(beside.name, beside.licence, beside.training_data, beside.stopping)


def describe(weights: str | Path) -> ModelDescription:
    """Describe weights.

    Args:
        weights: as for `mtdeblur.load`: a name, a path or a model on the Hugging Face Hub.

    Raises:
        UserError: if there are no such weights, or they cannot be read.
    """
    path = find_weights(weights)
    known = published(origin(weights, path))
    name = known.name or Path(weights).name
    if is_export(path):
        model, steps = ExportedModel(path), read_manifest(path).steps
    elif is_foreign(path):
        model, steps = load_foreign(path), None
    else:
        header = read_header(path)
        model, steps = skeleton(header), header.steps
    described = describe_network(name, model, steps)
    size = sum(file.stat().st_size for file in checkpoint_files(path))
    facts = {"licence": known.licence, "training_data": known.training_data, "stopping": known.stopping}
    return described.model_copy(update={"weights_bytes": size, **facts})


def describe_network(name: str, model: nn.Module, steps: tuple[Step, ...] | None = None) -> ModelDescription:
    """Describe a network without its weights.

    Args:
        name: of the description.
        model: one of the registry, several or an export; float32, in evaluation mode, on the CPU or on
            PyTorch's "meta" device.
        steps: that run by default; None for the network's own.
    """
    contract = cast("Contract", model.contract)
    steps = steps or default_steps(model)
    exported = isinstance(model, ExportedModel)
    architecture, options = ("export", []) if exported else model_options(model)
    return ModelDescription(
        name=name,
        architecture=architecture,
        options=tuple(options),
        approach=Surveyed(name, False, model, steps).approach,
        parameters=None if exported else parameters(model),
        original=contract.original,
        multiple_of=contract.multiple,
        supports_half="float16" in contract.precisions,
        supports_bfloat16="bfloat16" in contract.precisions,
        iterations=len(steps),
        halo=None if contract.global_operation else contract.halo,
        global_operation=contract.global_operation,
        window=contract.window,
        flop_per_pixel=None if exported else _flop_per_pixel(model, steps),
    )


def _flop_per_pixel(model: nn.Module, steps: tuple[Step, ...]) -> float:
    (number,) = multiply_accumulates(model, steps, SIZE)
    return 2 * number / (SIZE[0] * SIZE[1])


def _read(path: Path) -> ModelDescription | None:
    """The description in a file; None if there is none, or that of another program's model."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("library_name") != "mtdeblur":  # pyright: ignore[reportUnknownMemberType]
            return None
        return ModelDescription.model_validate(content)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    except (ValueError, ValidationError) as error:
        raise UserError(f"{path} is no description of a model: {one_line(error)}") from error
