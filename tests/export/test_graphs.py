"""Tracing of steps, and what replaces antialiased shrinking."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mtdeblur.export import onnx
from mtdeblur.export.graphs import shrink, step_graph, trace
from mtdeblur.networks.graph import first_state
from mtdeblur.networks.registry import create_network


@given(
    factor=st.sampled_from([2, 4]),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),  # PyTorch 2.13 repeats a row if the width is 1
    seed=st.integers(0, 2**16),
)
def test_shrinking_by_a_convolution_is_antialiased_bilinear_shrinking(factor, size, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 3, size[0] * factor, size[1] * factor, generator=generator, dtype=torch.float64)
    expected = functional.interpolate(image, size, mode="bilinear", antialias=True)
    torch.testing.assert_close(shrink(image, size), expected)


@pytest.mark.parametrize("first", [True, False])
def test_a_small_network_exported_to_onnx_gives_its_output_at_another_size(first, tmp_path):
    import onnxruntime

    torch.manual_seed(0)
    network = create_network("mtnaf", width=2, blocks=(0, 1, 1, 0, 0)).eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    state = first_state(network)
    graph = step_graph(network, None if first else state, state, (16, 24))
    onnx.write(trace(graph, 8), graph, tmp_path / "step.onnx", {"network": "mtnaf", "steps": [1]})

    session = onnxruntime.InferenceSession(tmp_path / "step.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"network": "mtnaf", "steps": "[1]"}
    assert [output.name for output in session.get_outputs()] == ["next_estimate", "next_f1", "next_f2"]
    inputs = step_graph(network, None if first else state, state, (40, 32)).inputs
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        expected = graph.module(*inputs.values())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-4, atol=1e-5)
