"""Post-training quantisation to int8 by NNCF, calibrated over all steps of a plan."""

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mtdeblur.errors import UserError, require
from mtdeblur.inference.engines.graphs import Kind
from mtdeblur.inference.engines.openvino import runtime
from mtdeblur.media.formats import list_pictures
from mtdeblur.media.pictures import read_pixels
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, any_size
from mtdeblur.networks.unroll import Step, unroll

PACKAGED = Path(__file__).with_name("calibration.webp")
SIDE = 192
"""Side in pixels of the parts of pictures that calibrate."""
NUMBER = 16
"""Maximum number of such parts."""
_COSTLY = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")


def calibration_pictures(folder: Path | None = None) -> list[Tensor]:
    """Blurred pictures for calibration, (1, 3, h, w) float32 in [0, 1], with sides of at most 192 pixels.

    Args:
        folder: its pictures, spread over the folder, are cropped to their middle; by default packaged
            pictures: simulated exposures of public-domain photographs (`tools/calibration.py`).

    Raises:
        UserError: if the folder contains no readable pictures.
    """
    if folder is None:
        mosaic = read_pixels(PACKAGED)
        rows, columns = (range(0, side - SIDE + 1, SIDE) for side in mosaic.shape[:2])
        return [_tensor(mosaic[y : y + SIDE, x : x + SIDE]) for y in rows for x in columns]
    files = list_pictures(folder) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder} contains no pictures for the calibration of int8")
    chosen = files[:: -(-len(files) // NUMBER)]
    return [_tensor(_middle(read_pixels(file))) for file in chosen]


def _middle(pixels: NDArray[Any]) -> NDArray[Any]:
    top, left = (max(0, (side - SIDE) // 2) for side in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]


def _tensor(pixels: NDArray[Any]) -> Tensor:
    white = 65535 if pixels.dtype.name == "uint16" else 255
    return (torch.from_numpy(pixels.astype("float32")) / white).permute(2, 0, 1)[None].contiguous()  # pyright: ignore[reportUnknownMemberType]


class Samples:
    """Inputs of all steps of a plan for some pictures, computed when they are needed.

    Attributes:
        facts: of pictures and plan, for the cache.

    Args:
        members: of a model, in PyTorch, float32, on the CPU.
        steps: the plan.
        pictures: (1, 3, h, w) in [0, 1].
    """

    def __init__(
        self, members: Sequence[ProgressiveNetwork], steps: Sequence[Step], pictures: Sequence[Tensor]
    ) -> None:
        self._members, self._steps, self._pictures = members, steps, pictures
        digest = hashlib.sha256()
        for picture in pictures:
            digest.update(picture.contiguous().numpy().tobytes())
        self.facts = {"pictures": digest.hexdigest(), "steps": [list(step) for step in steps]}

    def of(self, kind: Kind) -> Iterable[list[NDArray[Any]]]:
        """The inputs of one kind of step at all its occurrences, as arrays; iterates as often as needed."""
        return _Inputs(self._recorded, kind)

    @torch.inference_mode()
    def _recorded(self, kind: Kind) -> Iterator[list[NDArray[Any]]]:
        seen: list[list[NDArray[Any]]] = []
        members = [_Recorder(member, kind, seen) for member in self._members]
        for picture in self._pictures:
            deque(unroll(members, picture, self._steps), maxlen=0)
            yield from seen
            seen.clear()


class _Inputs:
    def __init__(self, recorded: Any, kind: Kind) -> None:
        self._recorded, self._kind = recorded, kind

    def __iter__(self) -> Iterator[list[NDArray[Any]]]:
        return self._recorded(self._kind)


class _Recorder:
    """A member that records the inputs of its steps of one kind."""

    def __init__(self, network: ProgressiveNetwork, kind: Kind, seen: list[list[NDArray[Any]]]) -> None:
        self.contract: Contract = network.contract
        self._network, self._kind, self._seen = network, kind, seen

    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        if self._network is self._kind.network and (state is None) == (self._kind.before is None):
            self._seen.append([part.contiguous().numpy() for part in (blurred, estimate, *(state or ()))])
        return self._network(blurred, estimate, state)


def quantise(model: Any, samples: Iterable[list[NDArray[Any]]]) -> Any:
    """A quantised copy of a converted step.

    The layers that read or write pictures are left as they are, and so are those that read a concatenation:
    its parts have one scale, and their ranges may differ by orders of magnitude.

    Args:
        model: an OpenVINO model of any size.
        samples: its inputs for real pictures.

    Raises:
        UserError: if NNCF is not installed.
    """
    runtime()
    os.environ.setdefault("NNCF_CI", "1")  # no usage reports
    nncf = require("nncf", "openvino", "the precision int8")
    nncf.set_log_level("ERROR")
    number = sum(1 for _ in samples)
    with redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=number,
            ignored_scope=nncf.IgnoredScope(names=sorted(_left_out(model)), validate=False),
        )


def _left_out(model: Any) -> set[str]:
    """Names of the costly layers next to pictures, and of those that read a concatenation."""
    found = {
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() in _COSTLY and node.input_value(0).get_node().get_type_name() == "Concat"
    }

    def walk(nodes: list[Any], following: Any) -> None:
        seen: set[str] = set()
        while nodes:
            node = nodes.pop()
            name = node.get_friendly_name()
            if name in seen:
                continue
            seen.add(name)
            if node.get_type_name() in _COSTLY:
                found.add(name)
            else:
                nodes += following(node)

    def consumers(node: Any) -> list[Any]:
        return [target.get_node() for port in node.outputs() for target in port.get_target_inputs()]

    def sources(node: Any) -> list[Any]:
        return [port.get_source_output().get_node() for port in node.inputs()]

    walk([port.get_node() for port in model.inputs[:2]], consumers)
    walk([model.outputs[0].get_node()], sources)
    return found
