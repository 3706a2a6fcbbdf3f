"""Export to OpenVINO IR: an `.xml` and a `.bin` for each graph, by way of ONNX."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from mtdeblur.errors import require
from mtdeblur.export import onnx
from mtdeblur.export.graphs import Graph


def write(program: ExportedProgram, graph: Graph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a traced graph; arguments as for `mtdeblur.export.onnx.write`, the `.bin` lies beside `path`.

    OpenVINO reads ONNX itself; its `convert_model` would report its use to the maker of OpenVINO.
    """
    openvino = require("openvino", "export", "export to OpenVINO")
    with tempfile.TemporaryDirectory() as folder:
        onnx.write(program, graph, Path(folder) / "graph.onnx", {})
        model = openvino.Core().read_model(str(Path(folder) / "graph.onnx"))
        for key, value in facts.items():
            model.set_rt_info(value if isinstance(value, str) else json.dumps(value), ["mtdeblur", key])
        openvino.save_model(model, str(path), compress_to_fp16=False)
