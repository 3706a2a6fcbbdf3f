"""A reader of TensorFlow.js models: `model.json` with a graph and constants, whose values are in shards."""

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from mtdeblur.weights.tensors import to_tensor

MODEL = "model.json"
_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class _Constant(BaseModel):
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Any = None


class _Group(BaseModel):
    """Constants in consecutive order in the shards of one group."""

    paths: tuple[str, ...]
    weights: tuple[_Constant, ...]


class _Node(BaseModel):
    """An operation of the graph, with the names of its inputs."""

    name: str
    input: tuple[str, ...] = ()


class _Graph(BaseModel):
    node: tuple[_Node, ...] = ()


class _Model(BaseModel):
    modelTopology: _Graph  # noqa: N815 - as the file has it
    weightsManifest: tuple[_Group, ...]  # noqa: N815


def is_model(path: Path) -> bool:
    """Whether a path is a model's JSON file, of any name, or a folder with a `model.json`."""
    file = _description(path)
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(64)
    text = b"\0" not in head and not head.startswith(b"\x80")  # first byte of a pickle
    return text and (head.lstrip().startswith(b"{") or file.suffix == ".json")


def model_parts(path: Path) -> list[Path]:
    """The model and its shards.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not a TensorFlow.js model.
    """
    file = _description(path)
    return sorted(
        [file, *(file.parent / name for group in _read(file).weightsManifest for name in group.paths)]
    )


def read_model(path: Path) -> dict[str, Tensor]:
    """Read a model's constants.

    A constant is identified by the operations that use it, because its own name may be only a number.

    Args:
        path: see `is_model`.

    Returns:
        Each constant as `OPERATION:POSITION` for every operation with it as input at that position, from 0;
        under its own name if it is unused.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is damaged or missing, or a constant's type is not supported.
    """
    file = _description(path)
    model = _read(file)
    constants: dict[str, Tensor] = {}
    for group in model.weightsManifest:
        constants |= _constants(group, file.parent)
    tensors: dict[str, Tensor] = {}
    unused = set(constants)
    for node in model.modelTopology.node:
        for position, source in enumerate(node.input):
            name = source.partition(":")[0]
            if name in constants:
                tensors[f"{node.name}:{position}"] = constants[name]
                unused.discard(name)
    return tensors | {name: constants[name] for name in unused}


def _description(path: Path) -> Path:
    return path / MODEL if path.is_dir() else path


def _read(file: Path) -> _Model:
    try:
        return _Model.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"{file.name} is damaged, or not a TensorFlow.js model: {place} {first['msg']}"
        ) from None


def _constants(group: _Group, folder: Path) -> dict[str, Tensor]:
    missing = [name for name in group.paths if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"there is no {missing[0]}, which {MODEL} refers to")
    data = b"".join((folder / name).read_bytes() for name in group.paths)
    constants: dict[str, Tensor] = {}
    start = 0
    for constant in group.weights:
        dtype = _DTYPES.get(constant.dtype)
        if dtype is None or constant.quantization is not None:
            raise ValueError(f"{constant.name} is stored as {constant.dtype} in a way that is not supported")
        end = start + math.prod(constant.shape) * dtype.itemsize
        if end > len(data):
            raise ValueError(f"the shards are truncated: {constant.name} is incomplete")
        constants[constant.name] = to_tensor(data[start:end], dtype, constant.shape)
        start = end
    if start < len(data):
        raise ValueError(f"the shards have {len(data) - start} bytes more than {MODEL} describes")
    return constants
