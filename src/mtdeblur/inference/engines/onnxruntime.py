"""The engine ONNX Runtime: steps in float32, on processors that OpenVINO does not support."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from mtdeblur.errors import require
from mtdeblur.inference.engines import cache
from mtdeblur.inference.engines.graphs import Graph, Kind, facts_of
from mtdeblur.networks.graph import StepGraph

PRECISIONS = ("float32",)
Size = tuple[int, int]
"""Height and width in pixels."""


class ONNXRuntime:
    """Converts steps to ONNX and runs them; the converted steps are kept on disk.

    A step is converted once for all sizes. That takes PyTorch minutes for a network that mixes tokens of the
    whole picture, so a network with a global operation is converted for each size.
    """

    def __init__(self) -> None:
        self._ort = require("onnxruntime", "onnx", "the engine onnxruntime")
        self._sessions: dict[tuple[bool, Size | None], Any] = {}

    def compile(self, kind: Kind, height: int, width: int) -> Graph:
        """A session of the step."""
        return _Session(self._of(kind, (height, width) if _fixed(kind) else None))

    def prepare(self, kind: Kind) -> None:
        """Convert a step for all sizes, unless it is on the disk or needs one for each size."""
        if not _fixed(kind):
            self._of(kind, None)

    def _of(self, kind: Kind, size: Size | None) -> Any:
        key = kind.before is not None, size
        if key not in self._sessions:
            facts = {"onnxruntime": self._ort.__version__, "size": size, **facts_of(kind)}
            self._sessions[key] = self._stored(facts) or self._made(kind, size, facts)
        return self._sessions[key]

    def _stored(self, facts: dict[str, Any]) -> Any:
        content = cache.read(facts)
        try:
            return None if content is None else self._session(content)
        except Exception:  # the runtime's own errors have no common class
            cache.forget(facts)
            return None

    def _made(self, kind: Kind, size: Size | None, facts: dict[str, Any]) -> Any:
        content = convert(kind, size)
        cache.write(facts, content)
        return self._session(content)

    def _session(self, content: bytes) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        return self._ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _fixed(kind: Kind) -> bool:
    return kind.network.contract.global_operation is not None


def convert(kind: Kind, size: Size | None = None) -> bytes:
    """An ONNX model of a step.

    Args:
        kind: the step.
        size: height and width of the pictures, multiples of the network's; None for all such sizes.
    """
    import logging
    import warnings

    for package in ("onnx", "onnxscript"):
        require(package, "onnx", "the engine onnxruntime")
    contract = kind.network.contract
    scales = [1, contract.estimate_scale, *(contract.state_scales if kind.before else ())]
    height, width = Dim("height", min=1), Dim("width", min=1)

    def sides(scale: int) -> dict[int, Any]:
        factor = contract.multiple // scale
        return {2: factor * height, 3: factor * width} if factor > 1 else {2: height, 3: width}

    dynamic = [sides(scale) for scale in scales]
    shapes: dict[str, Any] = {"blurred": dynamic[0], "estimate": dynamic[1]}
    if kind.before:
        shapes["maps"] = tuple(dynamic[2:])
    sizes = size or (4 * contract.multiple, 6 * contract.multiple)
    example = tuple(torch.zeros(shape) for shape in kind.shapes(*sizes))
    log = logging.getLogger("torch.onnx._internal.exporter._registration")  # torchvision is not needed
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)  # its own
            program = torch.export.export(
                StepGraph(kind.network), example, dynamic_shapes=None if size else shapes
            )
            made: Any = torch.onnx.export(program, dynamo=True, verbose=False)  # pyright: ignore[reportUnknownMemberType]
    finally:
        log.setLevel(level)
    return made.model_proto.SerializeToString()


class _Session:
    """A step in a session."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [port.name for port in session.get_inputs()]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `Graph`."""
        arrays = (part.to(torch.float32).contiguous().numpy() for part in inputs)
        outputs = self._session.run(None, dict(zip(self._names, arrays, strict=True)))
        return [torch.from_numpy(part) for part in outputs]  # pyright: ignore[reportUnknownMemberType]

    def rest(self) -> None:
        """See `Graph`; the session keeps its memory for the next step."""
