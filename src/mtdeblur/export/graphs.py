"""Graphs of a model's steps, traced by `torch.export`: the source of every export.

Heights and widths of the pictures are multiples of the network's multiple; any such size, or one fixed size.
"""

import logging
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mtdeblur.networks.contract import ProgressiveNetwork, State
from mtdeblur.networks.graph import StepGraph

Size = tuple[int, int]
"""Height and width in pixels."""


class Graph(NamedTuple):
    """A module with its example inputs.

    Attributes:
        module: with tensors in and a tuple of tensors out.
        inputs: example inputs by name, in order.
        outputs: names of the outputs.
        scales: for each input, the picture's size divided by its own.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    scales: Sequence[int]


def step_graph(network: ProgressiveNetwork, before: State, after: State, size: Size) -> Graph:
    """The graph of one step.

    Args:
        network: a PyTorch network or a member of a model, float32, on the CPU.
        before: a state of the previous step, of any size; None for a first step.
        after: a state that this step returns, of any size; None for a network without state.
        size: of the example inputs, multiples of `Contract.multiple`.

    Raises:
        ValueError: if the network is no module, see `StepGraph`.
    """
    contract = network.contract
    channels = (3, 3, *(part.shape[1] for part in before or ()))
    scales = (1, contract.estimate_scale, *(contract.state_scales if before else ()))
    names = ("blurred", "estimate", *state_names(before))
    shapes = [(1, c, size[0] // s, size[1] // s) for c, s in zip(channels, scales, strict=True)]
    inputs = {name: torch.rand(shape) for name, shape in zip(names, shapes, strict=True)}
    outputs = [f"next_{name}" for name in ("estimate", *state_names(after))]
    return Graph(StepGraph(network), inputs, outputs, scales)


def state_names(state: State) -> tuple[str, ...]:
    """Names of a state's maps."""
    names: tuple[str, ...] = getattr(state, "_fields", ())
    return names


def trace(graph: Graph, multiple: int | None) -> ExportedProgram:
    """Trace a graph.

    Args:
        graph: its module is in evaluation mode.
        multiple: of the pictures' height and width; None for the size of the example inputs alone.
    """
    arguments = tuple(graph.inputs.values())
    dims = None if multiple is None else [_dims(multiple // scale) for scale in graph.scales]
    shapes: Any = dims
    if dims is not None and isinstance(graph.module, StepGraph):  # the maps are one variadic argument
        named = {"blurred": dims[0], "estimate": dims[1]}
        shapes = named | ({"maps": tuple(dims[2:])} if dims[2:] else {})
    with quiet(), torch.no_grad(), _PlainShrinking():
        return torch.export.export(graph.module, arguments, dynamic_shapes=shapes)


def _dims(multiple: int) -> dict[int, Any]:
    height, width = Dim("height", min=1), Dim("width", min=1)
    return {2: multiple * height, 3: multiple * width} if multiple > 1 else {2: height, 3: width}


@contextmanager
def quiet() -> Generator[None]:
    """Silence remarks of the exporter that a user can do nothing about."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")  # torchvision is not installed
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # PyTorch copies its own deprecated class.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        log.setLevel(level)


class _PlainShrinking(TorchFunctionMode):
    """Replaces antialiased shrinking by a convolution: OpenVINO ignores the antialiasing of a resize."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.interpolate and kwargs.get("antialias"):
            return shrink(args[0], kwargs["size"])
        return func(*args, **kwargs)


def shrink(image: Tensor, size: Sequence[int]) -> Tensor:
    """Shrink as `interpolate` does bilinearly with antialiasing, by an even factor.

    Args:
        image: (B, C, H, W), float.
        size: height and width of the result: H and W divided by an even number.
    """
    factor = int(image.shape[-2] // size[0])
    rising = torch.arange(1, 2 * factor, 2, dtype=image.dtype)
    triangle = torch.cat([rising, rising.flip(0)]) / (2 * factor**2)
    kernel = torch.outer(triangle, triangle)[None, None]  # (1, 1, 2 factor, 2 factor), adds up to 1

    def convolve(x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = kernel.expand(channels, -1, -1, -1)
        return functional.conv2d(x, weight, stride=factor, padding=factor // 2, groups=channels)

    return convolve(image) / convolve(torch.ones_like(image[:, :1]))  # the border has fewer neighbours
