"""Exports run like the weights they were made from, and say what they are; nothing else is kept."""

import hashlib
import io
import json
import re
import shutil
import sys
import zipfile

import numpy as np
import onnxruntime
import openvino
import pytest
import torch

from mtdeblur.errors import UserError
from mtdeblur.evaluation.provenance import identify_weights
from mtdeblur.export import comparison
from mtdeblur.export.exporting import export
from mtdeblur.export.targets import TARGETS
from mtdeblur.inference.deblurrer import load
from mtdeblur.networks.contract import members
from mtdeblur.networks.registry import NETWORKS
from mtdeblur.networks.unroll import unroll
from mtdeblur.weights.exported.manifest import read_manifest
from mtdeblur.weights.store import load_model, load_network

SLOW = [pytest.param(target, marks=pytest.mark.slow) for target in ("onnx", "openvino")]


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("target", ["torch", *SLOW])
def test_an_export_deblurs_like_its_weights_also_in_tiles_and_with_more_steps(target, tiny, exported):
    for options in ({}, {"iterations": 4}, {"tile": 16}):
        expected = load(tiny, precision="float32", **options)(picture(61, 83))
        deblurrer = load(exported(target), **options)
        found = deblurrer(picture(61, 83))
        assert deblurrer.iterations == options.get("iterations", 2)
        assert deblurrer.engine == {"torch": "pytorch", "onnx": "onnxruntime"}.get(target, target)
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert (found != expected).mean() < 0.01


def test_a_batch_is_run_picture_by_picture(tiny, exported):
    blurred = torch.rand(3, 3, 16, 24)
    expected = list(load(tiny, precision="float32").estimates(blurred))
    for one, other in zip(load(exported("torch")).estimates(blurred), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("target", ["torch", *SLOW])
def test_the_manifest_says_what_the_export_is_and_how_it_was_checked(target, tiny, exported):
    folder = exported(target)
    manifest = read_manifest(folder)
    assert (manifest.target, manifest.network, len(manifest.steps)) == (target, "mtnaf", 2)
    assert manifest.source.sha256 == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert set(manifest.packages) == set(TARGETS[target].packages)
    contract, original = manifest.members[0].facts(), load_network(tiny).contract
    assert (contract.multiple, contract.halo, contract.state_scales) == (8, original.halo, (4, 8))
    assert (contract.devices, contract.precisions) == (("cpu",), ("float32",))
    assert {path.name for path in folder.iterdir()} == {*manifest.files, "export.json"}
    assert all(found.max_abs <= 1e-4 for found in manifest.measured)
    steps = [found for found in manifest.measured if found.file is None]
    assert len({(found.height, found.width) for found in steps}) == 2
    assert len(identify_weights(str(folder))[1]) == 64


@pytest.mark.slow
def test_the_graphs_carry_the_facts_themselves(exported):
    session = onnxruntime.InferenceSession(
        exported("onnx") / "step-next.onnx", providers=["CPUExecutionProvider"]
    )
    stored = session.get_modelmeta().custom_metadata_map
    assert json.loads(stored["source"])["name"] == "tiny.safetensors"
    assert json.loads(stored["members"])[0]["contract"]["multiple"] == 8
    model = openvino.Core().read_model(exported("openvino") / "step-next.xml")
    assert model.get_rt_info(["mtdeblur", "network"]).astype(str) == "mtnaf"


def test_an_unrolled_graph_gives_all_estimates(tiny, exported):
    blurred = torch.rand(1, 3, 40, 24)
    network, steps = load_model(tiny)
    run = torch.export.load(exported("torch") / "unrolled.pt2").module()
    with torch.no_grad():
        for one, other in zip(run(blurred), unroll(members(network), blurred, steps), strict=True):
            torch.testing.assert_close(one, other)


def test_an_export_runs_on_the_cpu_in_float32_alone(exported):
    with pytest.raises(UserError, match="float32"):
        load(exported("torch"), precision="bfloat16")
    with pytest.raises(UserError, match=r"run on cpu only|computes nothing"):
        load(exported("torch"), device="meta")


def test_an_export_has_no_weights_to_train_or_to_export(exported, tmp_path):
    with pytest.raises(UserError, match=r"give the weights 'tiny\.safetensors'"):
        load_network(exported("torch"))
    with pytest.raises(UserError, match="is an export already"):
        export(exported("torch"), tmp_path / "again", "torch")


def truncate(folder):
    path = folder / "step-next.pt2"
    path.write_bytes(path.read_bytes()[:-100])


def tamper(folder):
    path = folder / "step-first.pt2"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rename_target(folder):
    text = (folder / "export.json").read_text()
    (folder / "export.json").write_text(text.replace('"torch",', '"other",', 1))


def leave_the_folder(folder):
    text = (folder / "export.json").read_text()
    (folder / "export.json").write_text(text.replace('"step-first.pt2"', '"../step-first.pt2"'))


def change(*keys_and_value):
    """Set a value in the metadata."""
    *path, last, value = keys_and_value

    def write(folder):
        whole = content = json.loads((folder / "export.json").read_text())
        for key in path:
            content = content[key]
        content[last] = value
        (folder / "export.json").write_text(json.dumps(whole))

    return write


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "damaged: step-next.pt2"),
        (tamper, "damaged: step-first.pt2"),
        (lambda folder: (folder / "step-first.pt2").unlink(), "step-first.pt2"),
        (lambda folder: (folder / "export.json").write_text("{"), "export.json"),
        (lambda folder: (folder / "export.json").write_text('{"format": "mtdeblur-export-2"}'), "format"),
        (lambda folder: (folder / "export.json").unlink(), "layout"),
        (rename_target, "target"),
        (leave_the_folder, "first"),
        (change("steps", [[1, 1], [1, 0]]), "steps"),
        (change("steps", [[0, 0]]), "steps"),
        (change("members", 0, "contract", "iterations", 10**9), "steps"),
    ],
)
def test_a_damaged_export_is_refused_in_one_line(damage, said, exported, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported("torch"), folder)
    damage(folder)
    with pytest.raises(UserError, match=said) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_a_state_may_have_any_names(exported, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported("torch"), folder)
    names = json.loads((folder / "export.json").read_text())["members"][0]["state"]
    change("members", 0, "state", ["class", "a b", *names][: len(names)])(folder)
    np.testing.assert_array_equal(load(folder)(picture(20, 24)), load(exported("torch"))(picture(20, 24)))


class Malicious:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.fault("weights that run code")
@pytest.mark.parametrize("place", ["data/sample_inputs/model.pt", "data/weights/weight_1"])
def test_no_object_in_an_exported_program_is_unpickled(place, exported, tmp_path, capsys):
    folder = tmp_path / "export"
    shutil.copytree(exported("torch"), folder)
    program = folder / "step-first.pt2"
    with zipfile.ZipFile(program) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    malicious = io.BytesIO()
    torch.save(Malicious(), malicious)
    members[f"step-first/{place}"] = malicious.getvalue()
    config = "step-first/data/weights/model_weights_config.json"
    members[config] = re.sub(
        rb'("weight_1", "is_param": \w+, "use_pickle": )false', rb"\1true", members[config]
    )
    assert (b'"use_pickle": true' in members[config]) or "sample" in place
    with zipfile.ZipFile(program, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    change("files", program.name, hashlib.sha256(program.read_bytes()).hexdigest())(folder)
    with pytest.raises(UserError, match="cannot open the export") as refused:
        load(folder)
    assert "\n" not in str(refused.value)
    assert "never run" not in capsys.readouterr().out


def test_an_export_that_differs_from_pytorch_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    right = TARGETS["torch"]

    def write_wrongly(program, graph, path, facts):
        bias = program.state_dict["network.tail.bias"]
        program.state_dict["network.tail.bias"] = torch.nn.Parameter(bias + 0.01)
        right.write(program, graph, path, facts)

    monkeypatch.setitem(TARGETS, "torch", right._replace(write=write_wrongly))
    with pytest.raises(UserError, match=r"differs from PyTorch by 0\.01 at step 1"):
        export(tiny, tmp_path / "wrong", "torch")
    assert not list(tmp_path.iterdir())


def test_existing_folders_are_never_replaced(tiny, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="it exists"):
        export(tiny, tmp_path / "mine", "torch")


def test_a_missing_runtime_is_named_with_its_extra(tiny, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino: pip install 'mtdeblur\[export\]'"):
        export(tiny, tmp_path / "ir", "openvino")
    shutil.copytree(exported("torch"), tmp_path / "onnx")
    text = (tmp_path / "onnx" / "export.json").read_text()
    (tmp_path / "onnx" / "export.json").write_text(text.replace('"torch",', '"onnx",', 1))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime: pip install 'mtdeblur\[onnx\]'"):
        load(tmp_path / "onnx")


def test_scales_that_share_one_module_are_refused(save, tmp_path):
    weights = save(tmp_path / "shared.safetensors", "pss_nsc", **NETWORKS["pss_nsc"].small)
    with pytest.raises(UserError, match="cannot be exported"):
        export(weights, tmp_path / "out", "torch")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(17, 30), (1, 1)])
def test_without_scikit_image_the_pictures_have_the_spectrum_of_photographs(size, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    one, *others = comparison.pictures(8, size)
    assert one.shape == (1, 3, *size)
    assert not others
    assert bool(((one >= 0) & (one <= 1)).all())


@pytest.mark.slow
def test_an_export_for_one_size_takes_no_other(tiny, tmp_path):
    export(tiny, tmp_path / "fixed", "onnx", size=(30, 41))
    deblurrer = load(tmp_path / "fixed")
    assert deblurrer.contract.size == (32, 48)
    assert deblurrer.estimate_seconds([(30, 41)]) > 0
    found, expected = deblurrer(picture(30, 41)), load(tiny, precision="float32")(picture(30, 41))
    assert np.abs(found.astype(int) - expected).max() <= 1
    with pytest.raises(UserError, match="48x32 pixels"):
        deblurrer(picture(33, 41))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_stages_of_maxim_are_exported_one_by_one(target, save, tmp_path):
    options = {**NETWORKS["maxim"].small, "stages": 2}
    weights = save(tmp_path / "maxim.safetensors", "maxim", **options)
    export(weights, tmp_path / "both", target, size=(32, 48))
    suffix = TARGETS[target].suffix
    names = {path.name for path in (tmp_path / "both").iterdir()}
    assert {f"step-1{suffix}", f"step-2{suffix}"} <= names
    found = list(load(tmp_path / "both").progress(picture(30, 41)))
    expected = list(load(weights, precision="float32").progress(picture(30, 41)))
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    shutil.rmtree(tmp_path / "both")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"pss_nsc", "maxim"}))
def test_every_traceable_network_is_exported_to_onnx_for_any_size(name, save, tmp_path):
    weights = save(tmp_path / "weights.safetensors", name, **NETWORKS[name].small)
    export(weights, tmp_path / "onnx", "onnx")
    network, steps = load_model(weights)
    again, same = load_model(tmp_path / "onnx")
    assert same == steps
    for height, width in ((91, 70), (64, 133)):
        blurred = torch.rand(1, 3, height, width)
        with torch.no_grad():
            expected = list(unroll(members(network), blurred, steps))
        for one, other in zip(unroll(members(again), blurred, steps), expected, strict=True):
            # Random weights make values up to 30,000; float32 is accurate to a share of the largest.
            assert (one - other).abs().max() < 5e-5 * other.abs().max()
