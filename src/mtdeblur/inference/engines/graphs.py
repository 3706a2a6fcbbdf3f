"""Networks as graphs that another runtime compiles, behind the contract of one step."""

import hashlib
import platform
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

import mtdeblur
from mtdeblur.networks.contract import ProgressiveNetwork, State, any_size, same_state
from mtdeblur.networks.graph import first_state
from mtdeblur.networks.unroll import Step

KEPT = 12
"""Number of compiled graphs that a network keeps in memory."""


class Kind(NamedTuple):
    """A step of one member as a graph.

    Attributes:
        network: the member, in PyTorch, float32, on the CPU.
        before: a small example of the state before the step; None for a first step.
        after: a small example of the state after it; None for a network without state.
    """

    network: ProgressiveNetwork
    before: State
    after: State

    def shapes(self, height: int, width: int) -> list[tuple[int, ...]]:
        """Shapes of blurred picture, estimate and maps for a picture (1, 3, height, width)."""
        contract = self.network.contract
        maps = zip(self.before or (), contract.state_scales, strict=True) if self.before else ()
        smaller = contract.estimate_scale
        return [
            (1, 3, height, width),
            (1, 3, height // smaller, width // smaller),
            *((1, part.shape[1], height // scale, width // scale) for part, scale in maps),
        ]


def kinds(members: Sequence[ProgressiveNetwork], steps: Sequence[Step]) -> dict[tuple[int, bool], Kind]:
    """The different steps of a plan, by number of the member and whether a state comes in."""
    found: dict[tuple[int, bool], Kind] = {}
    state: State = None
    for step in steps:
        key = (step.network, state is not None)
        if key not in found:
            network = members[step.network]
            found[key] = Kind(network, state, first_state(network, state))
        state = found[key].after
    return found


class Graph(Protocol):
    """A step that is compiled for one size."""

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Blurred picture, estimate and maps of one picture in; estimate and maps out."""
        ...

    def rest(self) -> None:
        """Free intermediate memory: another graph runs next."""
        ...


Compile = Callable[[Kind, int, int], Graph]
"""Compiles a step for a picture's height and width, multiples of the network's."""


class GraphNetwork:
    """A progressive network whose steps are compiled graphs, one for each size, when they are first needed.

    Args:
        kinds: its steps, by whether a state comes in.
        compile: compiles a step for a size.
        bytes_a_pixel: memory of a step.
    """

    one_size = True
    """Tiles of one size are best: each further size is compiled."""

    def __init__(self, kinds: Mapping[bool, Kind], compile: Compile, bytes_a_pixel: float = 0.0) -> None:
        self._kinds, self._compile, self.bytes_a_pixel = kinds, compile, bytes_a_pixel
        self.contract = next(iter(kinds.values())).network.contract
        self._graphs: OrderedDict[tuple[bool, int, int], Graph] = OrderedDict()
        self._last: Graph | None = None

    @torch.inference_mode()
    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration; (B, 3, H, W) float32 pictures on the CPU in and out."""
        given = state is not None
        graph = self._graph(given, *blurred.shape[-2:])
        inputs = [blurred, estimate, *(state or ())]
        pictures = [graph([part[n : n + 1] for part in inputs]) for n in range(blurred.shape[0])]
        outputs = pictures[0]
        if len(pictures) > 1:
            outputs = [torch.cat(parts) for parts in zip(*pictures, strict=True)]
        return outputs[0], same_state(self._kinds[given].after, outputs[1:])

    def _graph(self, given: bool, height: int, width: int) -> Graph:
        if given not in self._kinds:
            raise ValueError(f"this plan has no step {'with' if given else 'without'} a state")
        key = (given, height, width)
        if key not in self._graphs:
            self._graphs[key] = self._compile(self._kinds[given], height, width)
            if len(self._graphs) > KEPT:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        if self._last not in (None, graph):
            self._last.rest()
        self._last = graph
        return graph


def facts_of(kind: Kind) -> dict[str, Any]:
    """What a converted step depends on, as JSON: program, weights, network and states."""
    network: Any = kind.network
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    config = getattr(network, "config", None)
    return {
        "program": [mtdeblur.__version__, _sources()],
        "torch": torch.__version__,
        "weights": digest.hexdigest(),
        "network": f"{type(network).__name__} {getattr(network, 'number', 0)} {config!r}",
        "maps": [tuple(part.shape[1:2]) for part in kind.before or ()],
        "machine": [platform.system(), platform.machine()],
    }


@cache
def _sources() -> str:
    """Hash of the code that a converted step comes from."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for folder in (here, here.parents[1] / "networks"):
        for file in sorted(folder.glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
