import errno
import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import Several
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import Step
from mtdeblur.weights.store import (
    advised_steps,
    choose_steps,
    load_model,
    load_network,
    read_header,
    save_network,
)

OPTIONS = {"width": 8, "blocks": (1, 0, 1, 2, 0)}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(3)
    network = create_network("mtnaf", **OPTIONS)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def test_a_network_comes_back_with_its_options_and_weights_in_evaluation_mode(network, tmp_path):
    path = tmp_path / "small.safetensors"
    save_network(path, network, notes={"recipe": "none"}, dtype=torch.float32)
    loaded = load_network(str(path))
    assert loaded.config == network.config
    assert not loaded.training
    for (key, value), (other_key, other) in zip(
        network.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert key == other_key
        assert torch.equal(value, other)
    assert read_header(path).notes == {"recipe": "none"}
    assert read_header(path).network == "mtnaf"


def test_a_file_says_how_many_iterations_serve_it_best(network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(path, network)
    assert advised_steps(path) is None
    save_network(path, network, iterations=3)
    assert advised_steps(path) == (Step(),) * 3
    coarse_to_fine = (Step(4), Step(2), Step(1))
    save_network(path, network, iterations=coarse_to_fine)
    assert advised_steps(path) == coarse_to_fine
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "theirs.pt")
    assert advised_steps(tmp_path / "theirs.pt") is None  # the authors' checkpoints do not say


def test_several_networks_and_their_steps_come_back(tmp_path):
    path = tmp_path / "stacked.safetensors"
    networks = Several([create_network("mtrnn", width=4), create_network("mtrnn", width=4, recurrent="f2")])
    save_network(path, networks, iterations=(Step(1, 0), Step(1, 1)), dtype=torch.float32)
    loaded = load_network(path)
    assert isinstance(loaded, Several)
    assert [part.config.recurrent for part in loaded.networks] == [True, "f2"]
    assert [options["recurrent"] for options in read_header(path).options] == [True, "f2"]
    assert advised_steps(path) == (Step(1, 0), Step(1, 1))
    for key, value in networks.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dmphn", {"width": 2, "levels": 4, "stack": 2, "converted": True}),
        ("nafnet", {"width": 2, "encoder": (1, 2), "decoder": (2, 1)}),
        ("nafnet", {"width": 2, "encoder": (1,), "decoder": (1,), "middle": 0, "converted": True}),
    ],
)
def test_an_image_to_image_network_comes_back_plain_or_converted(name, options, tmp_path):
    network = create_network(name, **options)
    save_network(tmp_path / "a.safetensors", network, dtype=torch.float32)
    loaded = load_network(tmp_path / "a.safetensors")
    assert loaded.config == network.config
    assert loaded.contract == network.contract
    images = torch.rand(2, 1, 3, 9, 14)
    with torch.no_grad():
        assert torch.equal(loaded(*images)[0], network.eval()(*images)[0])


def test_weights_are_stored_as_float16_and_loaded_as_float32(network, tmp_path):
    path = tmp_path / "small.safetensors"
    save_network(path, network)
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    for value, loaded in zip(
        network.state_dict().values(), load_network(path).state_dict().values(), strict=True
    ):
        assert loaded.dtype == torch.float32
        assert torch.equal(value.half().float(), loaded)


def test_compact_weights_are_within_half_a_step_of_their_output_channel(network, tmp_path):
    path = tmp_path / "a.safetensors"
    with torch.no_grad():
        next(network.parameters())[0] = 0  # a channel without a scale
    save_network(path, network, compact=True)
    loaded = load_network(path).state_dict()
    for key, value in network.state_dict().items():
        assert loaded[key].dtype is torch.float32
        if value.dim() > 1:
            rows = value.flatten(1).double().numpy()
            half_a_step = abs(rows).max(axis=1, keepdims=True) / 2047 / 2
            assert (abs(loaded[key].flatten(1).double().numpy() - rows) <= 1.001 * half_a_step).all()
        else:
            assert torch.equal(loaded[key], value.half().float())
    stored = load_file(path)
    for key, value in network.state_dict().items():
        parts = [tensor.nbytes for name, tensor in stored.items() if name in (key, f"{key}:low")]
        assert sum(parts) == (-(-3 * value.numel() // 2) if value.dim() > 1 else 2 * value.numel())


@pytest.mark.parametrize("part", [":scale", ":low"])
def test_compact_weights_with_a_missing_part_are_refused(part, network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(path, network, compact=True)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    missing = next(key for key in tensors if key.endswith(part))
    del tensors[missing]
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(UserError, match=f"{missing} is missing"):
        load_network(path)


def test_a_weight_beyond_float16_is_refused_and_nothing_is_written(network, tmp_path):
    path = tmp_path / "small.safetensors"
    save_network(path, network)
    before = path.read_bytes()
    with torch.no_grad():
        network.head.bias[0] = 1e6
    with pytest.raises(ValueError, match=r"head\.bias"):
        save_network(path, network)
    assert path.read_bytes() == before


@pytest.mark.fault("full disk")
def test_a_failed_write_leaves_the_old_file_and_no_litter(network, tmp_path, monkeypatch):
    path = tmp_path / "small.safetensors"
    save_network(path, network)
    before = path.read_bytes()

    def fail(file):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=r"small\.safetensors: no space"):
        save_network(path, network, notes={"a": "b"})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def rewritten(path, tensors, **changes):
    header = {
        "format": "mtdeblur-1",
        "network": "mtnaf",
        "options": json.dumps(OPTIONS),
        "notes": "{}",
    } | changes
    save_file(tensors, path, metadata={key: value for key, value in header.items() if value is not None})


BROKEN = {
    "missing": lambda path, good, tensors: None,
    "empty": lambda path, good, tensors: path.write_bytes(b""),
    "text": lambda path, good, tensors: path.write_text("not weights at all\n" * 9),
    "truncated": lambda path, good, tensors: path.write_bytes(good[: len(good) // 2]),
    "truncated header": lambda path, good, tensors: path.write_bytes(good[:20]),
    "a folder": lambda path, good, tensors: path.mkdir(),
    "no header": lambda path, good, tensors: save_file(tensors, path),
    "another format": lambda path, good, tensors: rewritten(path, tensors, format="mtdeblur-99"),
    "unknown network": lambda path, good, tensors: rewritten(path, tensors, network="unet"),
    "unknown option": lambda path, good, tensors: rewritten(path, tensors, options='{"depth": 3}'),
    "wrong option type": lambda path, good, tensors: rewritten(path, tensors, options='{"width": "wide"}'),
    "options are no mapping": lambda path, good, tensors: rewritten(path, tensors, options="[1]"),
    "options are no JSON": lambda path, good, tensors: rewritten(path, tensors, options="{"),
    "too few blocks": lambda path, good, tensors: rewritten(path, tensors, options='{"blocks": [1]}'),
    "no options": lambda path, good, tensors: rewritten(path, tensors, options=None),
    "other shapes": lambda path, good, tensors: rewritten(path, tensors, options='{"width": 16}'),
    "no iterations": lambda path, good, tensors: rewritten(path, tensors, iterations="0"),
    "too many iterations": lambda path, good, tensors: rewritten(path, tensors, iterations="2147483648"),
    "a step without a scale": lambda path, good, tensors: rewritten(path, tensors, iterations="[[0, 0]]"),
    "a step without a network": lambda path, good, tensors: rewritten(path, tensors, iterations="[[1, 5]]"),
    "missing tensors": lambda path, good, tensors: rewritten(path, {"head.bias": tensors["head.bias"]}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_cannot_be_loaded_gets_one_line_that_names_it(what, network, tmp_path):
    path = tmp_path / "small.safetensors"
    save_network(path, network)
    good, tensors = path.read_bytes(), load_file(path)
    path.unlink()
    BROKEN[what](path, good, tensors)
    with pytest.raises(UserError) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_members_that_steps_name_are_read(tmp_path):
    path = tmp_path / "three.safetensors"
    three = Several([create_network("mtnaf", **OPTIONS) for _ in range(3)])
    save_network(path, three, iterations=[Step(1, number) for number in range(3)], dtype=torch.float32)
    loaded, steps = load_model(path, 2)
    assert steps == (Step(1, 0), Step(1, 1))
    for number, (read, written) in enumerate(zip(loaded.networks, three.networks, strict=True)):
        for parameter, expected in zip(read.parameters(), written.parameters(), strict=True):
            assert parameter.is_meta == (number == 2)
            assert parameter.is_meta or torch.equal(parameter, expected)
    assert not any(parameter.is_meta for parameter in load_network(path).parameters())


def test_what_a_file_lacks_or_has_too_much_is_named(network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(path, network)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    for change, name in (({"head.bias": None}, "head.bias"), ({"neck.bias": torch.zeros(1)}, "neck.bias")):
        changed = {key: value for key, value in (tensors | change).items() if value is not None}
        save_file(changed, path, header)
        with pytest.raises(UserError, match=name):
            load_network(path)


ONE, OTHER = (Step(), Step()), (Step(1, 0), Step(1, 1), Step(1, 2))
COARSE = (Step(4), Step(2), Step(1))


@pytest.mark.parametrize(
    ("own", "advised", "wanted", "chosen"),
    [
        (ONE, None, None, ONE),
        (ONE, None, 5, (Step(),) * 5),
        (ONE * 3, ONE, 1, (Step(),)),
        (ONE * 3, ONE, 7, (Step(),) * 7),
        (OTHER, OTHER[:2], None, OTHER[:2]),
        (OTHER, OTHER[:2], 3, OTHER),
        (OTHER, None, 1, OTHER[:1]),
        (ONE, OTHER[:2], 2, OTHER[:2]),
        (COARSE, None, 3, COARSE),
    ],
)
def test_steps_are_those_advised_unless_another_number_is_wanted(own, advised, wanted, chosen):
    assert choose_steps(own, advised, wanted) == chosen


@pytest.mark.parametrize(("own", "wanted"), [(OTHER, 4), (COARSE, 2), (COARSE, 5), (ONE, 0)])
def test_a_number_that_a_model_cannot_have_is_refused_or_cut_on_demand(own, wanted):
    with pytest.raises(UserError, match=str(wanted)):
        choose_steps(own, None, wanted)
    if wanted > len(own):
        assert choose_steps(own, None, wanted, or_fewer=True) == own
