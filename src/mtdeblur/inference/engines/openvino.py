"""The engine OpenVINO: steps compiled for Intel and AMD processors, in float32, bfloat16 or int8.

Pictures are float32 at both ends and the residual is added in float32. Maps are channels-last in the memory
of PyTorch tensors, bfloat16 unless the precision is float32: nothing is copied between steps.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtdeblur.errors import require
from mtdeblur.inference.devices import fast_bfloat16
from mtdeblur.inference.engines import cache
from mtdeblur.inference.engines.graphs import Graph, Kind, facts_of
from mtdeblur.inference.memory import return_freed_memory
from mtdeblur.networks.graph import StepGraph

PRECISIONS = ("float32", "bfloat16", "int8")
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def runtime() -> Any:
    """The package `openvino`, without its usage reports to the vendor.

    Raises:
        UserError: if it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    return require("openvino", "openvino", "the engine openvino")


class OpenVINO:
    """Converts and compiles steps; both results are kept on disk.

    Args:
        precision: one of `PRECISIONS`.
        samples: for int8, the inputs of steps of real pictures, see `mtdeblur.inference.engines.int8`.
        notice: receives a line before quantisation, which takes minutes.
    """

    def __init__(
        self, precision: str, samples: Any = None, notice: Callable[[str], None] | None = None
    ) -> None:
        self._precision, self._samples, self._notice = precision, samples, notice
        ov = runtime()
        self._ov, self._core = ov, ov.Core()
        self._threads = torch.get_num_threads()
        properties = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        device = [self._core.get_property("CPU", name) for name in properties]
        quick = "bf16" if fast_bfloat16(torch.device("cpu")) else "f32"  # of what int8 does not quantise
        self._hint = _HINTS.get(precision, quick)
        self._facts = {"openvino": ov.__version__, "device": device, "precision": precision}
        self._models: dict[bool, Any] = {}
        self._known: dict[bool, Mapping[str, Any]] = {}

    def compile(self, kind: Kind, height: int, width: int) -> Graph:
        """Compile a step for a picture's size, or take it from the disk."""
        facts = {**self._facts_of(kind), "size": [height, width], "threads": self._threads}
        facts["hint"] = self._hint
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": self._hint,
        }
        compiled: Any = None
        if (blob := cache.read(facts)) is not None:
            try:
                compiled = self._core.import_model(blob, "CPU", settings)
            except RuntimeError:
                cache.forget(facts)
        if compiled is None:
            compiled = self._core.compile_model(self._sized(kind, height, width), "CPU", settings)
            cache.write(facts, compiled.export_model().getvalue())
        return _Compiled(self._ov, compiled)

    def prepare(self, kind: Kind) -> None:
        """Convert a step, and quantise it if the precision is int8, unless both are on the disk."""
        self._model(kind)

    def _model(self, kind: Kind) -> Any:
        """The converted step for any size."""
        given = kind.before is not None
        if given not in self._models:
            facts = self._facts_of(kind)
            self._models[given] = self._stored(facts) or self._make(kind, facts)
        return self._models[given]

    def _facts_of(self, kind: Kind) -> Mapping[str, Any]:
        given = kind.before is not None
        if given not in self._known:
            quantised: dict[str, Any] = {} if self._samples is None else self._samples.facts
            self._known[given] = {**self._facts, **facts_of(kind), **quantised}
        return self._known[given]

    def _stored(self, facts: Mapping[str, Any]) -> Any:
        content = cache.read(facts)
        if content is None:
            return None
        length = int.from_bytes(content[:8], "little")
        try:
            return self._core.read_model(content[8 : 8 + length], content[8 + length :])
        except RuntimeError:
            cache.forget(facts)
            return None

    def _make(self, kind: Kind, facts: Mapping[str, Any]) -> Any:
        model = convert(kind)
        if self._samples is not None:
            from mtdeblur.inference.engines.int8 import quantise

            if self._notice is not None:
                self._notice("quantising to int8, which takes some minutes, once for these weights")
                self._notice = None
            model = quantise(model, self._samples.of(kind))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "step.xml")
            self._ov.save_model(model, path, compress_to_fp16=False)
            text = path.read_bytes()
            cache.write(facts, len(text).to_bytes(8, "little") + text + path.with_suffix(".bin").read_bytes())
        return model

    def _sized(self, kind: Kind, height: int, width: int) -> Any:
        """The step for one size; pictures and maps are channels-last at both ends."""
        ov, model = self._ov, self._model(kind).clone()
        model.reshape(dict(zip(model.inputs, kind.shapes(height, width), strict=True)))
        steps = ov.preprocess.PrePostProcessor(model)
        for direction, number in ((steps.input, len(model.inputs)), (steps.output, len(model.outputs))):
            pictures = 2 if direction == steps.input else 1
            for index in range(number):
                direction(index).model().set_layout(ov.Layout("NCHW"))
                tensor = direction(index).tensor().set_layout(ov.Layout("NHWC"))
                if index >= pictures and self._precision != "float32":
                    tensor.set_element_type(ov.Type.bf16)
        return steps.build()


def convert(kind: Kind) -> Any:
    """An OpenVINO model of a step, for pictures of any size whose sides are the network's multiples."""
    runtime()
    import warnings

    from torch.jit._trace import TracerWarning

    frontends = require("openvino.frontend", "openvino", "the engine openvino")
    decoders = require("openvino.frontend.pytorch.ts_decoder", "openvino", "the engine openvino")
    side = kind.network.contract.multiple
    example = tuple(torch.zeros(shape) for shape in kind.shapes(side, side))
    with warnings.catch_warnings(), torch.no_grad():
        # OpenVINO reads traced modules best; that tracing is deprecated, and every shape traced, is known.
        warnings.filterwarnings("ignore", r".*`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        jit: Any = torch.jit
        traced = jit.trace(StepGraph(kind.network), example, check_trace=False)
        decoder = decoders.TorchScriptPythonDecoder(traced)
        frontend = frontends.FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    passes = require("openvino.passes", "openvino", "the engine openvino")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())  # scaled weights, which cannot be quantised otherwise
    manager.run_passes(model)
    return model


class _Compiled:
    """A compiled step and its request."""

    def __init__(self, ov: Any, compiled: Any) -> None:
        self._ov, self._compiled = ov, compiled
        self._request = compiled.create_infer_request()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `Graph`."""
        outputs = [self._empty(port) for port in self._compiled.outputs]
        held: list[Tensor] = []  # the request does not keep shared memory alive
        for index, (tensor, port) in enumerate(zip(inputs, self._compiled.inputs, strict=True)):
            held.append(tensor.to(self._dtype(port)).contiguous(memory_format=torch.channels_last))
            self._request.set_input_tensor(index, self._shared(held[-1]))
        for index, tensor in enumerate(outputs):
            self._request.set_output_tensor(index, self._shared(tensor))
        self._request.infer()
        return outputs

    def rest(self) -> None:
        """See `Graph`."""
        self._compiled.release_memory()
        return_freed_memory()  # the next graph's blocks have other sizes

    def _empty(self, port: Any) -> Tensor:
        n, h, w, c = (int(side) for side in port.shape)
        return torch.empty((n, c, h, w), dtype=self._dtype(port), memory_format=torch.channels_last)

    def _dtype(self, port: Any) -> torch.dtype:
        return torch.bfloat16 if port.element_type == self._ov.Type.bf16 else torch.float32

    def _shared(self, tensor: Tensor) -> Any:
        """An OpenVINO tensor (N, H, W, C) in the memory of a channels-last tensor (N, C, H, W)."""
        pixels = tensor.permute(0, 2, 3, 1)
        if tensor.dtype == torch.bfloat16:  # NumPy has no such type
            bits = pixels.view(torch.int16).numpy()
            return self._ov.Tensor(bits, self._ov.Shape(list(pixels.shape)), self._ov.Type.bf16)
        return self._ov.Tensor(pixels.numpy(), shared_memory=True)
