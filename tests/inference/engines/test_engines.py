import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mtdeblur.errors import UserError
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.engines import cache, choice, int8, onnxruntime, openvino
from mtdeblur.inference.engines.graphs import kinds
from mtdeblur.inference.tiling import TiledNetwork
from mtdeblur.networks.contract import members
from mtdeblur.networks.registry import NETWORKS, create_network
from mtdeblur.networks.unroll import Step, unroll

TINY = {"mtnaf": {"width": 4, "blocks": (1, 0, 1, 0, 1)}, "mtrnn": {"width": 4}}
OTHERS = {name: entry.small for name, entry in NETWORKS.items() if name not in (*TINY, "pss_nsc")}
PLAIN = {"device": "cpu", "precision": "float32", "engine": "pytorch"}


def network(name="mtnaf", options=None) -> nn.Module:
    """Random everywhere, the output layer included."""
    torch.manual_seed(5)
    made = create_network(name, **(options or TINY[name]))
    for parameter in made.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return made.eval()


def picture(height=21, width=34, batch=1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_close(engine: str, name: str, options, tolerance=2e-5) -> None:
    for size in ((21, 34), (3, 1)):
        blurred = picture(*size)
        steps = 3 if name in TINY else None
        expected = list(Deblurrer(network(name, options), iterations=steps, **PLAIN).estimates(blurred))
        other = Deblurrer(network(name, options), iterations=steps, **{**PLAIN, "engine": engine})
        assert other.engine == engine
        found = list(other.estimates(blurred))
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours - theirs).abs().max() < tolerance


@pytest.mark.parametrize("name", TINY)
def test_openvino_agrees_with_pytorch_over_several_steps_and_any_size(name):
    assert_close("openvino", name, TINY[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_openvino_agrees_with_pytorch_for_every_network(name):
    assert_close("openvino", name, OTHERS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TINY, "maxim", "nafnet"])
def test_onnxruntime_agrees_with_pytorch(name):
    assert_close("onnxruntime", name, {**OTHERS, **TINY}[name])


def test_pictures_of_a_batch_are_independent():
    engine = Deblurrer(network(), iterations=2, **{**PLAIN, "engine": "openvino"})
    both = picture(batch=2)
    *_, together = engine.estimates(both)
    *_, second = engine.estimates(both[1:])
    assert torch.equal(together[1:], second)


def test_tiles_of_a_compiled_network_equal_the_whole_picture_and_share_one_size(monkeypatch):
    compiled: list[tuple[int, int]] = []
    compile = openvino.OpenVINO.compile

    def recorded(self, kind, height, width):
        compiled.append((height, width))
        return compile(self, kind, height, width)

    monkeypatch.setattr(openvino.OpenVINO, "compile", recorded)
    blurred = picture(72, 151)
    expected = list(Deblurrer(network(), iterations=2, tile="off", **PLAIN).estimates(blurred))
    tiled = Deblurrer(network(), iterations=2, tile=16, **{**PLAIN, "engine": "openvino"})
    halo = tiled.contract.halo
    for ours, theirs in zip(tiled.estimates(blurred), expected, strict=True):
        assert (ours - theirs).abs().max() < 2e-5
    assert compiled == [(min(72, 16 + 2 * halo), min(152, 16 + 2 * halo))] * 2, "first and later steps"


def test_windows_of_one_size_move_inwards_without_changing_the_result():
    plain = network()
    blurred = picture(40, 131)
    tiled = TiledNetwork(plain, 16)
    tiled.one_size = True
    with torch.no_grad():
        for ours, theirs in zip(unroll(tiled, blurred, 2), unroll(plain, blurred, 2), strict=True):
            assert (ours - theirs).abs().max() < 2e-5


def test_bfloat16_rounds_only_the_residual():
    if "BF16" not in openvino.runtime().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    with torch.no_grad():
        still = network()
        still.tail.weight.zero_()
        still.tail.bias.zero_()
    blurred = picture()
    settings = {"iterations": 2, "device": "cpu", "precision": "bfloat16", "engine": "openvino"}
    for estimate in Deblurrer(still, **settings).estimates(blurred):
        assert torch.equal(estimate, blurred)
    expected = list(Deblurrer(network(), iterations=2, **PLAIN).estimates(blurred))
    rounded = Deblurrer(network(), **settings)
    for ours, theirs in zip(rounded.estimates(blurred), expected, strict=True):
        assert (ours - theirs).abs().max() < 0.02


def test_a_later_run_takes_the_compiled_steps_from_the_disk_and_rebuilds_rejected_ones(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    settings = {**PLAIN, "engine": "openvino", "iterations": 2}
    expected = list(Deblurrer(network(), **settings).estimates(picture()))
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(files) == 4, "the converted and the compiled form of two kinds of steps"

    def refuse(kind):
        raise AssertionError("converted again")

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "convert", refuse)
        found = Deblurrer(network(), **settings).estimates(picture())
        assert all(map(torch.equal, found, expected))
        with pytest.raises(UserError, match="converted again"):
            Deblurrer(network("mtrnn"), **settings)
        with torch.no_grad():
            other = network()
            other.head.bias += 1
        with pytest.raises(UserError, match="converted again"):
            Deblurrer(other, **settings)

    monkeypatch.setattr(cache, "read", lambda facts: b"from another version")
    found = Deblurrer(network(), **settings).estimates(picture())
    assert all(map(torch.equal, found, expected))


def test_auto_follows_the_contract_and_says_which_engine_runs(monkeypatch):
    assert Deblurrer(network("mtrnn"), device="cpu", precision="float32").engine == "openvino"
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    without = Deblurrer(network("mtrnn"), device="cpu", precision="float32")
    assert "by pytorch" in without.describe([])


def test_auto_falls_back_with_a_reason_if_a_network_cannot_be_converted(monkeypatch):
    def fail(kind):
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(openvino, "convert", fail)
    notices: list[str] = []
    fallen = Deblurrer(network("mtrnn"), device="cpu", precision="float32", notice=notices.append)
    assert fallen.engine == "pytorch"
    assert notices == ["openvino cannot convert this network (no such operation); PyTorch runs it instead"]
    with pytest.raises(
        UserError, match=r"openvino cannot convert .*no such operation.*use the engine pytorch"
    ):
        Deblurrer(network("mtrnn"), **{**PLAIN, "engine": "openvino"})


def test_auto_continues_in_pytorch_with_the_same_state_if_the_engine_fails_on_the_way(monkeypatch):
    expected = list(Deblurrer(network("mtrnn"), iterations=4, **PLAIN).estimates(picture()))
    calls = 0
    call = openvino._Compiled.__call__

    def failing(self, inputs):
        nonlocal calls
        calls += 1
        if calls > 2:
            raise RuntimeError("device lost")
        return call(self, inputs)

    monkeypatch.setattr(openvino._Compiled, "__call__", failing)
    notices: list[str] = []
    engine = Deblurrer(
        network("mtrnn"), iterations=4, device="cpu", precision="float32", notice=notices.append
    )
    for ours, theirs in zip(engine.estimates(picture()), expected, strict=True):
        assert (ours - theirs).abs().max() < 2e-5
    assert notices == ["openvino failed (device lost); PyTorch runs the network instead"]
    assert engine.engine == "pytorch"
    named = Deblurrer(network("mtrnn"), iterations=1, **{**PLAIN, "engine": "openvino"})
    with pytest.raises(UserError, match=r"openvino failed \(device lost\); use the engine pytorch"):
        deque(named.estimates(picture()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engine": "tensorrt"}, "engine 'tensorrt' is not one of auto, pytorch, openvino, onnxruntime"),
        (
            {"engine": "pytorch", "precision": "int8"},
            "pytorch does not offer the precision int8; use openvino",
        ),
        ({"engine": "onnxruntime", "precision": "bfloat16"}, "onnxruntime does not offer .* bfloat16"),
        ({"engine": "openvino", "device": "meta"}, "computes nothing"),
    ],
)
def test_combinations_that_do_not_exist_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        Deblurrer(network(), **wrong)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino.*pip install 'mtdeblur\[openvino\]'"):
        Deblurrer(network(), engine="openvino", device="cpu")
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"precision 'int8' needs .*pip install 'mtdeblur\[openvino\]'"):
        Deblurrer(network(), precision="int8", device="cpu")
    with pytest.raises(UserError, match="float32"):
        Deblurrer(create_network("dmphn", **NETWORKS["dmphn"].small), precision="int8", device="cpu")


def test_calibration_sees_every_step_of_the_plan_as_it_occurs():
    plain = network()
    pictures = [picture(16, 24), picture(9, 8)]
    parts = members(plain)
    steps = (Step(),) * 4
    found = kinds(parts, steps)
    samples = int8.Samples(parts, steps, pictures)
    first = list(samples.of(found[0, False]))
    later = list(samples.of(found[0, True]))
    assert (len(first), len(later)) == (2, 6)
    assert len(list(samples.of(found[0, True]))) == 6, "it can be read again"
    with torch.no_grad():
        expected = list(unroll(plain, pictures[0], 4))
    for sample, estimate in zip(later[:3], expected, strict=False):
        assert np.allclose(sample[1], estimate.numpy(), atol=1e-6)
        assert len(sample) == 4


@pytest.mark.slow
def test_int8_is_close_to_float32_and_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(int8, "calibration_pictures", lambda folder: [picture(32, 32), picture(32, 32)])
    settings = {"iterations": 2, "device": "cpu", "precision": "int8"}
    notices: list[str] = []
    quantised = Deblurrer(network(), notice=notices.append, **settings)
    assert (quantised.engine, quantised.precision, len(notices)) == ("openvino", "int8", 1)
    blurred = picture(32, 40)
    expected = list(Deblurrer(network(), iterations=2, **PLAIN).estimates(blurred))
    found = list(quantised.estimates(blurred))
    for ours, theirs in zip(found, expected, strict=True):
        change = (theirs - blurred).square().mean()
        assert 0 < (ours - theirs).square().mean() < 0.03 * change, "15 dB below the residual"
    monkeypatch.setattr(int8, "quantise", lambda *_: pytest.fail("quantised again"))
    assert all(map(torch.equal, Deblurrer(network(), **settings).estimates(blurred), found))


def test_calibration_pictures_are_packaged_or_a_folder_s(tmp_path):
    packaged = int8.calibration_pictures()
    assert len(packaged) == 16
    assert all(part.shape == (1, 3, 192, 192) and 0 <= part.min() < part.max() <= 1 for part in packaged)
    assert [part.shape[-2:] for part in int8.calibration_pictures(Path("examples"))] == [(192, 192)]
    with pytest.raises(UserError, match="no pictures"):
        int8.calibration_pictures(tmp_path)


def test_precisions_of_the_engines_are_those_that_choice_knows():
    assert choice.PRECISIONS["openvino"] == openvino.PRECISIONS
    assert choice.PRECISIONS["onnxruntime"] == onnxruntime.PRECISIONS
