"""Runtimes of exports, on the CPU in float32; a new target is a function and two lines at the end."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtdeblur.errors import require

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""Runs a graph: contiguous float32 tensors on the CPU in and out, in the order of the graph."""
_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def open_onnx(path: Path) -> Run:
    """Open an ONNX file in ONNX Runtime.

    Raises:
        UserError: if ONNX Runtime is not installed.
    """
    runtime = require("onnxruntime", "onnx", "this export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [_tensor(value) for value in session.run(None, given)]

    return run


def open_openvino(path: Path) -> Run:
    """Open the `.xml` of an OpenVINO IR; the `.bin` lies beside it.

    Raises:
        UserError: if OpenVINO is not installed.
    """
    openvino = require("openvino", "openvino", "this export")
    exact = {  # by default OpenVINO computes in bfloat16 where the processor can
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", exact)
    request = compiled.create_infer_request()
    number = len(compiled.outputs)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        request.infer([value.numpy() for value in inputs], share_inputs=True)
        outputs = (request.get_output_tensor(index).data for index in range(number))
        return [_tensor(value.copy()) for value in outputs]  # the next run overwrites them

    return run


def open_torch(path: Path) -> Run:
    """Open a program saved by `torch.export.save`; pickled objects other than tensors are refused."""
    with _tensors_only():
        module: Any = torch.export.load(path).module()

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return list(module(*inputs))

    return run


@contextmanager
def _tensors_only() -> Generator[None]:
    """Let `torch.load` unpickle tensors alone, whatever its callers ask for."""
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before


def _tensor(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values)  # pyright: ignore[reportUnknownMemberType]


RUNTIMES: Mapping[str, Callable[[Path], Run]] = {
    "onnx": open_onnx,
    "openvino": open_openvino,
    "torch": open_torch,
}
"""Target to the function that opens a graph; its errors are the runtime's own, of any type."""
ENGINES: Mapping[str, str] = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "pytorch"}
"""Target to the name of the engine that runs it."""
