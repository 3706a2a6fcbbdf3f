"""Weights that are not numbers are refused when they are loaded, whoever wrote them."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mtdeblur.errors import UserError
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.layouts.mtrnn import to_authors
from mtdeblur.weights.store import load_model, load_network, save_network

VALUES = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_a_file_with_one_such_number_is_refused_by_its_name(tmp_path, value, dtype):
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_network(good, create_network("mtnaf", width=4), dtype=dtype)
    with safe_open(good, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(good)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, bad, metadata=metadata)
    for read in (load_network, load_model):
        with pytest.raises(UserError, match=f"bad.safetensors: {name} has numbers that are not finite"):
            read(bad)


@pytest.mark.parametrize("value", VALUES)
def test_so_are_those_of_another_program(tmp_path, value):
    state = to_authors(create_network("mtrnn", width=4).state_dict())
    state["conv4_1.stem.0.bias"][0] = value
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt: .* not finite"):
        load_network(tmp_path / "model.pt")
