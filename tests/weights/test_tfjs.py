"""Models of TensorFlow.js: each constant by the operation that takes it in; what is damaged gets one line."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdeblur.errors import UserError
from mtdeblur.evaluation.provenance import identify_weights
from mtdeblur.weights.foreign import checkpoint_files
from mtdeblur.weights.store import advised_steps, load_network
from mtdeblur.weights.tfjs import read_model

SOME = {
    "kernel": torch.arange(6.0).view(2, 3),
    "bias": torch.ones(3),
    "size": torch.tensor(7, dtype=torch.int32),
}
NODES = [
    {"name": "in", "op": "Placeholder"},
    {"name": "net/MatMul", "op": "MatMul", "input": ["in", "kernel"]},
    {"name": "net/Add", "op": "AddV2", "input": ["net/MatMul", "bias:0"]},
    {"name": "net/Again", "op": "Mul", "input": ["bias", "net/Add", "^in"]},
]

constants = st.builds(
    lambda shape, dtype, seed: (
        torch.rand(shape, generator=torch.Generator().manual_seed(seed)).mul(9).to(dtype)
    ),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from([torch.float32, torch.int32, torch.uint8, torch.bool]),
    st.integers(0, 99),
)


names = st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@given(st.dictionaries(names, constants, max_size=9), st.integers(1, 50))
def test_whatever_is_written_is_read(write_model, tmp_path_factory, written, shard):
    folder = tmp_path_factory.mktemp("model")
    used = list(written)[::2]
    nodes = [{"name": f"node {number}", "input": ["", name]} for number, name in enumerate(used)]
    write_model(folder, nodes, written, shard=shard)
    expected = {f"node {number}:1": written[name] for number, name in enumerate(used)}
    expected |= {name: written[name] for name in list(written)[1::2]}
    found = read_model(folder)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_constant_is_called_after_each_operation_that_takes_it_in(write_model, tmp_path):
    write_model(tmp_path, NODES, SOME)
    found = read_model(tmp_path / "model.json")
    assert found.keys() == {"net/MatMul:1", "net/Add:1", "net/Again:0", "size"}
    assert torch.equal(found["net/MatMul:1"], SOME["kernel"])
    assert torch.equal(found["net/Again:0"], SOME["bias"])


def test_the_model_and_its_shards_are_the_weights(write_model, tmp_path):
    write_model(tmp_path, NODES, SOME, shard=20)
    (tmp_path / "README.bin").write_bytes(b"beside the weights")
    files = ["group1-shard1of2.bin", "group1-shard2of2.bin", "model.json"]
    assert [file.name for file in checkpoint_files(tmp_path)] == files
    (tmp_path / "all").write_bytes(b"".join((tmp_path / file).read_bytes() for file in files))
    assert identify_weights(str(tmp_path))[1] == identify_weights(str(tmp_path / "all"))[1]
    assert advised_steps(tmp_path / "model.json") is None


def test_another_model_is_answered_with_the_known_layouts(write_model, tmp_path):
    write_model(tmp_path, NODES, SOME)
    with pytest.raises(UserError, match="their layout is none of those known"):
        load_network(tmp_path)


CHANGES = {
    "no JSON": lambda text: text[:-9],
    "other JSON": lambda text: '{"paths": []}',
    "a list": lambda text: "[]",
    "no shape": lambda text: text.replace('"shape": [3], ', ""),
    "quantised": lambda text: text.replace(
        '"shape": [3],', '"shape": [3], "quantization": {"dtype": "uint8"},'
    ),
    "an unknown type": lambda text: text.replace("int32", "string"),
    "a larger shape": lambda text: text.replace('"shape": []', '"shape": [2]'),
    "a smaller shape": lambda text: text.replace('"shape": [3]', '"shape": [2]'),
    "a shape below zero": lambda text: text.replace('"shape": [3]', '"shape": [-3]'),
}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no JSON", r"model\.json is damaged, or not a TensorFlow\.js model: .*EOF"),
        (
            "other JSON",
            r"model\.json is damaged, or not .*: modelTopology Field required",
        ),
        ("a list", r"model\.json is damaged, or not a TensorFlow\.js model"),
        ("no shape", r"weightsManifest\.0\.weights\.1\.shape Field required"),
        ("quantised", r"bias is stored as float32"),
        ("an unknown type", r"size is stored as string"),
        ("a larger shape", r"the shards are truncated: size"),
        ("a smaller shape", r"the shards have 4 bytes more than model\.json"),
        ("a shape below zero", r"the shape \(-3,\)"),
        ("a missing shard", r"there is no group1-shard2of2\.bin, .*model\.json"),
        ("a short shard", r"the shards are truncated: size"),
        ("a long shard", r"the shards have 1 bytes more than"),
    ],
)
def test_what_cannot_be_read_gets_one_line(write_model, tmp_path, broken, message):
    write_model(tmp_path, NODES, SOME, shard=20)
    model, last = tmp_path / "model.json", tmp_path / "group1-shard2of2.bin"
    if broken in CHANGES:
        model.write_text(CHANGES[broken](json.dumps(json.loads(model.read_text()))))
    elif broken == "a missing shard":
        last.unlink()
    else:
        content = last.read_bytes()
        last.write_bytes(content[:-1] if broken == "a short shard" else content + b"?")
    with pytest.raises(UserError, match=message) as caught:
        load_network(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_files_of_a_model_that_is_none_cannot_be_listed(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(UserError, match="not a TensorFlow"):
        identify_weights(str(tmp_path))
