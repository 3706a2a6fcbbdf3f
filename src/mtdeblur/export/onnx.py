"""Export to ONNX: one file for each graph, with the weights inside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from mtdeblur.errors import require
from mtdeblur.export.graphs import Graph, quiet

SUFFIX = ".onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write(program: ExportedProgram, graph: Graph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a traced graph.

    Args:
        program: the traced graph.
        graph: names of inputs and outputs.
        path: file to write.
        facts: for the model's metadata; values that are not text are written as JSON.

    Raises:
        UserError: if a package is missing.
    """
    for package in PACKAGES:
        require(package, "onnx", "export to ONNX")
    with quiet(), torch.no_grad():
        made: Any = torch.onnx.export(  # pyright: ignore[reportUnknownMemberType]
            program,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamo=True,
            verbose=False,
        )
    for key, value in facts.items():
        made.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    made.save(path, external_data=False)
