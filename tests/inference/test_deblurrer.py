import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import mtdeblur
from mtdeblur.errors import UserError
from mtdeblur.inference import devices
from mtdeblur.inference.deblurrer import Deblurrer, load
from mtdeblur.inference.devices import choose_precision, fast_bfloat16
from mtdeblur.inference.parts import Parts
from mtdeblur.networks.contract import Contract, Several
from mtdeblur.networks.mtnaf import MTNAF, MTNAFConfig
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import Step, default_steps, unroll
from mtdeblur.weights.catalogue import Stopping, catalogue, find_weights, offered
from mtdeblur.weights.store import save_network

PLAIN = {"device": "cpu", "precision": "float32"}


def small_network(**options) -> nn.Module:
    torch.manual_seed(2)
    network = MTNAF(MTNAFConfig(width=4, blocks=(1, 1, 1, 1, 1), **options))
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() == 4 else 1
        nn.init.normal_(parameter, std=0.4 / fan_in**0.5)
    return network.eval()


def picture(dtype, height=21, width=34) -> np.ndarray:
    values = np.random.default_rng(4).random((height, width, 3))
    if dtype == np.float32:
        return values.astype(np.float32)
    return (values * np.iinfo(dtype).max).round().astype(dtype)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_a_picture_comes_back_as_the_network_s_last_estimate_rounded_and_clamped(dtype, white):
    image = picture(dtype)
    blurred = torch.from_numpy((image / np.float64(white)).transpose(2, 0, 1)[None]).float()
    with torch.no_grad():
        *_, expected = unroll(small_network(), blurred, 4)
    assert expected.min() < 0, "clamping is put to the test"
    assert expected.max() > 1
    expected = expected.clamp(0, 1)[0].permute(1, 2, 0).double().numpy() * white
    result = Deblurrer(small_network(), iterations=4, **PLAIN)(image)
    assert result.dtype == dtype
    assert result.shape == image.shape
    allowed = 1e-5 if dtype == np.float32 else 0.5 + 1e-5 * white
    assert np.abs(result - expected).max() <= allowed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_network_that_adds_nothing_gives_every_value_back_bit_for_bit(dtype, precision):
    if dtype == np.float32:
        image = picture(dtype)
    else:
        image = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(16, -1, 1).repeat(3, axis=2)
    deblurrer = Deblurrer(
        MTNAF(MTNAFConfig(width=4, blocks=(0, 0, 0, 0, 0))), device="cpu", precision=precision
    )
    assert np.array_equal(deblurrer(image), image)


def test_progress_gives_every_iteration_and_ends_with_the_result():
    deblurrer, image = Deblurrer(small_network(), iterations=3, **PLAIN), picture(np.uint8)
    steps = list(deblurrer.progress(image))
    assert len(steps) == 3
    assert np.array_equal(steps[-1], deblurrer(image))
    assert not np.array_equal(steps[0], steps[1])
    assert np.array_equal(Deblurrer(small_network(), iterations=1, **PLAIN)(image), steps[0])


@pytest.mark.parametrize(("tile", "in_turn"), [("off", True), (16, False)])
def test_watched_rows_are_those_of_the_result(tile, in_turn):
    deblurrer = Deblurrer(small_network(), iterations=2, tile=tile, **PLAIN)
    image, told, seen = picture(np.uint8, 70, 40), [], {}

    def watch(step, estimate, rows):
        told.append((step, rows))
        seen[step, rows] = estimate[:rows].copy()

    results = list(deblurrer.progress(image, watch=watch))
    assert deblurrer.in_turn(70, 40) == in_turn
    assert {step for step, _ in told} == {0, 1}
    assert {(0, 70), (1, 70)} <= set(told)
    assert (len(told) == 2) == in_turn
    for (step, rows), estimate in seen.items():
        assert (estimate == results[step][:rows]).all()


def test_iterations_come_from_the_contract_unless_given():
    assert Deblurrer(small_network(), **PLAIN).iterations == 6
    assert len(list(Deblurrer(small_network(), **PLAIN).progress(picture(np.uint8, 8, 8)))) == 6
    assert Deblurrer(small_network(), iterations=2, **PLAIN).iterations == 2


def test_estimates_of_a_batch_are_clamped_floats_and_leave_gradient_mode_alone():
    deblurrer = Deblurrer(small_network(), iterations=2, **PLAIN)
    blurred = torch.rand(2, 3, 13, 9)
    before = blurred.clone()
    for estimate in deblurrer.estimates(blurred):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert estimate.dtype == torch.float32
        assert estimate.shape == blurred.shape
        assert 0 <= estimate.min() < estimate.max() <= 1
    assert torch.equal(blurred, before)


def test_the_given_array_is_not_changed_and_need_be_neither_writable_nor_contiguous():
    deblurrer, image = Deblurrer(small_network(), iterations=1, **PLAIN), picture(np.uint8)
    image.setflags(write=False)
    flipped = image[::-1, ::-1]
    expected = deblurrer(np.ascontiguousarray(flipped))
    assert np.array_equal(deblurrer(flipped), expected)
    floats = picture(np.float32)
    kept = floats.copy()
    deblurrer(floats)
    assert np.array_equal(floats, kept)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (9, 7)])
def test_any_size_from_one_pixel_up(size):
    assert Deblurrer(small_network(), iterations=2, **PLAIN)(picture(np.uint8, *size)).shape == (*size, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(4, np.uint8), r"\(H, W, 3\)"),
        (np.zeros((4, 4, 2), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "not empty"),
        (np.zeros((0, 4, 4, 3), np.uint8), "not empty"),
        (np.zeros((2, 4, 4, 2), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.full((4, 4, 3), 255, np.float32), r"in \[0, 1\]"),
        (np.full((4, 4, 3), 255.0), r"in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan, np.float32), r"in \[0, 1\]"),
    ],
)
def test_arrays_of_another_kind_are_refused_at_once(image, message):
    deblurrer = Deblurrer(small_network(), iterations=1, **PLAIN)
    with pytest.raises(ValueError, match=message):
        deblurrer(image)
    with pytest.raises(ValueError, match=message):
        deblurrer.progress(image)


def test_tiles_change_nothing():
    image = picture(np.float32, 90, 81)
    off = Deblurrer(small_network(), iterations=2, tile="off", **PLAIN)
    assert off.parts(9000, 8100) == Parts("whole")
    for tile in (40, "56"):
        tiled = Deblurrer(small_network(), iterations=2, tile=tile, **PLAIN)
        assert tiled.parts(90, 81) == Parts("bands", int(tile), int(tile))
        np.testing.assert_allclose(tiled(image), off(image), rtol=0, atol=1e-5)
        for found, expected in zip(tiled.progress(image), off.progress(image), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


class Attention(MTNAF):
    """A network that says that it takes in the whole picture."""

    @property
    def contract(self) -> Contract:
        return replace(super().contract, global_operation="channel attention", window=self.window)

    window: int | None = None


def test_a_network_with_a_global_operation_runs_over_the_windows_it_likes(monkeypatch):
    network, image = Attention(MTNAFConfig(width=4, blocks=(0, 0, 0, 0, 0))), picture(np.uint8, 50, 34)

    def side(tile):
        deblurrer = Deblurrer(network, iterations=1, tile=tile, **PLAIN)
        assert np.array_equal(deblurrer(image), image)  # it adds nothing
        return deblurrer.window(50, 34)

    monkeypatch.setattr(Attention, "window", 24)
    for tile, expected in (("auto", 24), (16, 16), (17, 24), ("off", None), (64, None)):
        assert side(tile) == expected
    monkeypatch.setattr(Attention, "window", None)
    assert side("auto") is None


def test_the_share_of_the_work_that_is_done_is_reported():
    image = picture(np.uint8)
    whole = Deblurrer(small_network(), iterations=4, **PLAIN)
    windows = Deblurrer(Attention(MTNAFConfig(width=4)), iterations=2, tile=16, **PLAIN)
    for deblurrer in (whole, windows):
        shares: list[float] = []
        list(deblurrer.progress(image, shares.append))
        assert len(shares) >= deblurrer.iterations
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_early_stopping_is_chosen_by_auto_and_by_weights_that_have_thresholds(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_network(path, small_network(), iterations=2)
    assert load(path).stopping is None
    assert load(path, iterations="auto").stopping == Stopping()
    assert load(path, iterations="auto").iterations == 2
    assert load(path, iterations="3").iterations == 3
    assert load(quality="good", device="cpu").stopping == catalogue()["maxim-mixed"].stopping
    assert load(quality="good", device="cpu").describe([]).startswith("maxim-mixed: at most 1 step,")
    assert load(quality="good", iterations=1, device="cpu").stopping is None
    with pytest.raises(UserError, match="not often"):
        load(path, iterations="often")


@pytest.mark.parametrize("tile", ["off", 16])
@pytest.mark.parametrize("attends", [False, True])
def test_early_stopping_without_thresholds_changes_nothing_and_with_huge_ones_one_step_runs(attends, tile):
    network = Attention(MTNAFConfig(width=4)) if attends else small_network()
    image, first = picture(np.uint8, 50, 40), Deblurrer(network, iterations=1, tile=tile, **PLAIN)
    fixed = list(Deblurrer(network, iterations=3, tile=tile, **PLAIN).progress(image))

    def run(change):
        shares: list[float] = []
        deblurrer = Deblurrer(network, iterations=3, tile=tile, stopping=Stopping(change=change), **PLAIN)
        found = list(deblurrer.progress(image, shares.append))
        assert shares[-1] == 1
        return found

    assert all(np.array_equal(found, expected) for found, expected in zip(run(0), fixed, strict=True))
    assert all(np.array_equal(found, first(image)) for found in run(10))


def test_what_will_run_is_described_in_one_line():
    whole = Deblurrer(small_network(), iterations=1, name="small", **PLAIN)
    assert whole.describe([]) == "small: 1 step, float32 on cpu by pytorch"
    line = r"small: 1 step, float32 on cpu by pytorch, about [\d.]+ s for 0\.2 megapixels"
    assert re.fullmatch(line, whole.describe([(300, 300)] * 2))
    windows = Deblurrer(Attention(MTNAFConfig(width=4)), iterations=2, tile=64, **PLAIN)
    assert "2 steps" in windows.describe([(100, 50)])
    assert "windows of up to 64 pixels" in windows.describe([(100, 50)])
    assert "windows" not in windows.describe([(60, 50)])


def test_a_deblurrer_shows_what_it_is_also_in_notebooks(tmp_path):
    fast, good = load(quality="fast", **PLAIN), load(quality="good", **PLAIN)
    for part in (
        "mtnaf-small",
        "network: mtnaf",
        "MIT",
        "1,088,428",
        "steps: 1",
        "cpu",
        "float32",
        "pytorch",
    ):
        assert part in repr(fast)
    for part in ("maxim-mixed", "network: maxim", "Apache-2.0", "at most 1"):
        assert part in repr(good)
    rows = re.findall(r"<th[^>]*>([^<]+)</th><td[^>]*>([^<]+)</td>", fast._repr_html_())
    assert repr(fast) == f"Deblurrer({', '.join(f'{name}: {fact}' for name, fact in rows)})"
    own = Deblurrer(Attention(MTNAFConfig(width=4)), iterations=2, name="<b>mine</b>", **PLAIN)
    assert "network: Attention" in repr(own)
    assert "licence" not in repr(own)
    assert "<b>" not in own._repr_html_()
    stacked = Deblurrer(Several([small_network(), small_network()]), iterations=1, **PLAIN)
    assert "network: mtnaf" in repr(stacked)


def test_a_quality_stands_for_weights_and_steps():
    fast, good, best = (load(quality=quality, device="cpu") for quality in ("fast", "good", "best"))
    assert (fast.name, fast.iterations) == offered("fast")
    assert (good.name, good.iterations) == offered("good")
    assert (best.name, best.iterations) == offered("best")
    assert load(quality="best", iterations=1, device="cpu").iterations == 1
    with pytest.raises(UserError, match=r"weights.* quality"):
        load("mtnaf-small", quality="fast")


def test_bfloat16_differs_little_and_is_chosen_only_where_it_is_fast_and_safe(monkeypatch):
    image = picture(np.float32, 64, 64)
    exact = Deblurrer(small_network(), iterations=3, **PLAIN)(image)
    rounded = Deblurrer(small_network(), iterations=3, device="cpu", precision="bfloat16")(image)
    assert 0 < np.abs(exact - rounded).mean() < 0.02 * np.abs(exact - image).mean()
    contract, cpu = small_network().contract, torch.device("cpu")
    for fast, safe, chosen in (
        (True, True, "bfloat16"),
        (False, True, "float32"),
        (True, False, "float32"),
    ):
        monkeypatch.setattr(devices, "fast_bfloat16", lambda device, fast=fast: fast)
        facts = contract if safe else replace(contract, precisions=("float32",))
        assert choose_precision("auto", facts, cpu) == chosen


@pytest.mark.parametrize(
    ("machine", "capabilities", "fast"),
    [
        ("x86_64", {"avx512_bf16": True, "amx_bf16": False}, True),
        ("AMD64", {"avx512_bf16": False, "amx_bf16": True}, True),
        ("x86_64", {"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, False),
        ("x86_64", {"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ("x86_64", {"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ("x86_64", {"avx512_f": True}, False),
        ("aarch64", {"bf16": True}, False),
    ],
)
def test_fast_bfloat16_asks_the_processor(monkeypatch, machine, capabilities, fast):
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fast_bfloat16(torch.device("cpu")) is fast
    assert fast_bfloat16(SimpleNamespace(type="mps")) is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "sharpest"}, "sharpest"),
        ({"weights": "missing.safetensors"}, "missing"),
        ({"iterations": 0}, "not 0"),
        ({"device": "toaster"}, "toaster"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "meta"}, "meta"),
        ({"device": "cpu", "precision": "float16"}, "float16.*auto, float32, bfloat16"),
        ({"tile": 0}, "not 0"),
        ({"tile": -4}, "not -4"),
        ({"tile": "big"}, "'big'"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        load(**arguments)
    assert "\n" not in str(caught.value)


def test_load_takes_a_name_a_path_or_nothing(tmp_path):
    path, image = tmp_path / "mine.safetensors", picture(np.uint8)
    save_network(path, small_network(), dtype=torch.float32)
    expected = Deblurrer(small_network(), iterations=2, **PLAIN)(image)
    assert np.array_equal(load(path, iterations=2, **PLAIN)(image), expected)
    assert np.array_equal(load(str(path), iterations=2, **PLAIN)(image), expected)
    default = mtdeblur.load(iterations=1, **PLAIN)
    assert isinstance(default, mtdeblur.Deblurrer)
    assert np.array_equal(default(image), load(find_weights(), iterations=1, **PLAIN)(image))


def test_load_takes_the_iterations_that_the_weights_advise(tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(path, small_network(), iterations=2)
    assert load(path).iterations == 2
    assert load(path, iterations=5).iterations == 5


def test_weights_of_other_approaches_bring_their_steps(tmp_path):
    coarse_to_fine = (Step(4), Step(2), Step(1))
    path = tmp_path / "multi_scale.safetensors"
    save_network(path, small_network(), iterations=coarse_to_fine, dtype=torch.float32)
    image = picture(np.uint8)
    blurred = torch.from_numpy((image / 255).transpose(2, 0, 1)[None]).float()
    with torch.no_grad():
        *_, expected = unroll(small_network(), blurred, coarse_to_fine)
    deblurrer = load(path, **PLAIN)
    assert deblurrer.iterations == 3
    estimates = list(deblurrer.progress(image))
    assert [estimate.shape for estimate in estimates] == [image.shape] * 3
    assert np.abs(estimates[-1] - 255 * expected.clamp(0, 1)[0].permute(1, 2, 0).numpy()).max() <= 0.51
    assert load(path, iterations=3, **PLAIN).iterations == 3
    with pytest.raises(UserError, match=r"3 .*steps"):
        load(path, iterations=2)


def test_a_model_of_several_networks_is_cut_to_fewer_iterations_but_not_lengthened(tmp_path):
    path = tmp_path / "stacked.safetensors"
    save_network(path, Several([small_network(), small_network()]), iterations=(Step(1, 0), Step(1, 1)))
    assert load(path, **PLAIN).iterations == 2
    assert load(path, iterations=1, **PLAIN).iterations == 1
    with pytest.raises(UserError, match=r"2 .*steps"):
        load(path, iterations=3)


def test_a_multi_scale_model_in_tiles_gives_the_same(tmp_path):
    steps = (Step(4), Step(2), Step(1))
    image = picture(np.float32, 90, 70)
    whole = Deblurrer(small_network(), iterations=steps, **PLAIN)(image)
    tiled = Deblurrer(small_network(), iterations=steps, device="cpu", precision="float32", tile=24)(image)
    assert np.abs(whole - tiled).max() < 1e-5


def test_coarse_estimates_of_a_network_that_resizes_by_corners_are_enlarged_so():
    torch.manual_seed(5)
    network = create_network("scale_recurrent", width=2, corners=True)
    blurred = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        coarse, *_ = unroll(network, blurred, default_steps(network))
    first, *_ = Deblurrer(network, **PLAIN).estimates(blurred)
    torch.testing.assert_close(first[..., ::4, ::4], coarse.clamp(0, 1))
