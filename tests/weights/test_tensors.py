"""Other programs' files under any name, in any wrapping: what they are is told by what they hold."""

import io
import pickle
from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from mtdeblur.errors import UserError
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.layouts.mtrnn import to_authors
from mtdeblur.weights.store import advised_steps, load_model, load_network, save_network
from mtdeblur.weights.tensors import find_state, read_all, read_tensors


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return create_network("mtrnn", width=4)


@pytest.fixture(scope="module")
def theirs(network):
    return {name: value.contiguous() for name, value in to_authors(network.state_dict()).items()}


def same(found, network):
    expected = network.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def in_old_format(content):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def in_new_format(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["w", "w.ckpt", "w.bin", "w.pth.tar", "w.safetensors", "w.PTH", "w.json", "w.v1.2"]
)
@pytest.mark.parametrize("write", [in_new_format, in_old_format, save])
def test_the_content_tells_what_a_file_is(tmp_path, network, theirs, name, write):
    path = tmp_path / name
    path.write_bytes(write(theirs))
    assert find_weights(path) == path
    assert advised_steps(path) is None
    assert same(load_network(path), network)
    assert same(load_model(path, 2).network, network)


@pytest.mark.parametrize("name", ["w", "w.pth", "w.ckpt", "w.safetensors", "w.json"])
def test_our_own_file_is_ours_under_any_name(tmp_path, network, name):
    save_network(tmp_path / name, network, iterations=4, dtype=torch.float32)
    assert len(load_model(tmp_path / name).steps) == 4
    assert same(load_network(tmp_path / name), network)


class Malicious:
    def __reduce__(self):
        return print, ("this must never run",)


WRAPPINGS = {
    "params": lambda state: {"params": state},
    "state_dict and more": lambda state: {
        "epoch": 3,
        "state_dict": state,
        "optimizer": {"state": {0: {"m": 1}}},
    },
    "model": lambda state: {"model": state, "best": np.float64(31.5), "options": Namespace(lr=0.1)},
    "an unknown key": lambda state: {"my_deblurring_net": state},
    "two of them": lambda state: {"checkpoint": {"state_dict": state}},
    "averaged": lambda state: {
        "params": {name: value + 1 for name, value in state.items()},
        "params_ema": state,
    },
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    "Lightning": lambda state: {
        "state_dict": {f"model.{name}": value for name, value in state.items()}
        | {"loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
    },
    "both": lambda state: {"state_dict": {f"module.net_g.{name}": value for name, value in state.items()}},
    "half": lambda state: {"params": {name: value.half() for name, value in state.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_what_a_state_dict_is_wrapped_in_is_taken_off(tmp_path, network, theirs, wrapping):
    torch.save(WRAPPINGS[wrapping](theirs), tmp_path / "w.pth")
    found = load_network(tmp_path / "w.pth")
    assert {value.dtype for value in found.state_dict().values()} == {torch.float32}
    if wrapping == "half":
        torch.testing.assert_close(found.head.weight, network.head.weight, rtol=1e-3, atol=1e-3)
    else:
        assert same(found, network)


@pytest.mark.parametrize("prefix", ["", "module.", "params.", "model.net_g.", "state_dict.module."])
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"author": "somebody"}])
def test_safetensors_of_others_are_recognised_by_their_tensors(tmp_path, network, theirs, prefix, metadata):
    save_file({prefix + name: value for name, value in theirs.items()}, tmp_path / "w.safetensors", metadata)
    assert same(load_network(tmp_path / "w.safetensors"), network)


def test_a_folder_with_one_file_of_weights_is_these(tmp_path, network, theirs):
    save_file(theirs, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    torch.save({"state": {0: {"momentum": torch.zeros(3)}}, "lr": 0.1}, tmp_path / "optimizer.bin")
    (tmp_path / "optimizer.bin").unlink()
    assert same(load_network(tmp_path), network)
    torch.save(theirs, tmp_path / "another.pth")
    with pytest.raises(UserError, match="several networks, in another, model;"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"PK\3\4",
        b"\x80\2",
        pickle.dumps({"a": 1}),
        in_new_format({"a": 1}),
        in_new_format(torch.zeros(3)),
        save({"a": torch.zeros(3)}),
        save({"a": torch.zeros(3)})[:60],
    ],
)
@pytest.mark.parametrize("name", ["w", "w.pth", "w.safetensors"])
def test_anything_else_gets_one_line(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"cannot load weights from .*{name}: ") as caught:
        load_network(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert "header too large" not in str(caught.value)


def test_damaged_files_of_pytorch_get_one_line(tmp_path, theirs):
    zipped, plain = bytearray(in_new_format(theirs)), bytearray(in_old_format(theirs))
    at = zipped.rindex(b"data/")
    zipped[at] = 0xF6  # no UTF-8, which is what the archive says of its names
    entry = zipped.rindex(b"PK\1\2", 0, at)
    zipped[entry + 9] |= 8
    at = plain.rindex(b"X\x0f\x00\x00\x00") if b"X\x0f\x00\x00\x00" in plain else plain.rindex(b"14")
    plain[at + 6] ^= 1  # the key of a storage
    for name, content in (("new", zipped), ("old", plain)):
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"cannot load weights from .*{name}") as caught:
            load_network(path)
        assert "\n" not in str(caught.value)


@pytest.mark.fault("weights that run code")
def test_nothing_but_data_is_unpickled(tmp_path, capsys):
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps({"params": Malicious()}, protocol=2))
    with pytest.raises(UserError):
        load_network(tmp_path / "w.ckpt")
    assert capsys.readouterr().out == ""


@pytest.mark.fault("weights that run code")
@pytest.mark.parametrize("write", [in_new_format, in_old_format, pickle.dumps])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_no_format_runs_code(tmp_path, theirs, capsys, write, beside, name):
    (tmp_path / name).write_bytes(write({**(theirs if beside else {}), "more": Malicious()}))
    for load in (load_network, load_model, read_all):
        with pytest.raises(UserError) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_the_averaged_state_dict_is_found_first(tmp_path):
    one, two = torch.ones(1), torch.zeros(1)
    torch.save({"net": {"a.weight": one, "b": one}, "model_ema": {"a.weight": two}}, tmp_path / "w")
    tensors = read_all(tmp_path / "w")
    assert tensors.keys() == {"net.a.weight", "net.b", "model_ema.a.weight"}
    assert find_state(tensors, "a.weight") == {"a.weight": two}
    assert find_state(tensors, "weight.a") is None
    assert read_tensors(tmp_path / "w") == {"a.weight": two}
