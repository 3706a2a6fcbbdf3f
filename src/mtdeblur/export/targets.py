"""The formats that a model can be exported to; a new one is a file and a line in `TARGETS`."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from torch.export import ExportedProgram

from mtdeblur.errors import require
from mtdeblur.export import onnx, openvino, pytorch
from mtdeblur.export.graphs import Graph

Write = Callable[[ExportedProgram, Graph, Path, Mapping[str, Any]], None]


class Target(NamedTuple):
    """A format.

    Attributes:
        suffix: of a graph's file.
        packages: that write and run it.
        write: writes a traced graph to a file, with facts for the file's metadata.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Write

    def versions(self) -> dict[str, str]:
        """Versions of the packages.

        Raises:
            UserError: if one is not installed.
        """
        for package in self.packages:
            require(package, "export", "this export")
        return {package: version(package) for package in self.packages}


TARGETS: Mapping[str, Target] = {
    "onnx": Target(".onnx", ("torch", *onnx.PACKAGES), onnx.write),
    "openvino": Target(".xml", ("torch", "onnx", "onnxscript", "openvino"), openvino.write),
    "torch": Target(".pt2", ("torch",), pytorch.write),
}
