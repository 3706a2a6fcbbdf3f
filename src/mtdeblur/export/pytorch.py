"""Export to `torch.export`: a `.pt2` for each graph."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from mtdeblur.export.graphs import Graph, quiet

FACTS = "mtdeblur.json"
"""Name of the metadata among the extra files of a `.pt2`."""


def write(program: ExportedProgram, graph: Graph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a traced graph; arguments as for `mtdeblur.export.onnx.write`."""
    with quiet():
        torch.export.save(program, path, extra_files={FACTS: json.dumps(dict(facts))})
