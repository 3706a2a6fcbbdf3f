"""What a deblurrer takes in Python: arrays, tensors, pictures of Pillow, and numbers of any library."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import mtdeblur
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.networks.mtnaf import MTNAF, MTNAFConfig
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.store import load_model, load_network, save_network

PIXELS = np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def same():
    """A deblurrer that gives everything back as it is."""
    return Deblurrer(MTNAF(MTNAFConfig(width=4, blocks=(0, 0, 0, 0, 0))), iterations=2, device="cpu")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 12, 10), (1, 3, 12, 10), (12, 10, 3)])
def test_a_tensor_comes_back_as_a_tensor_of_its_shape_and_dtype(same, dtype, shape):
    values = torch.arange(360).reshape(shape)
    image = (values / 360).to(dtype) if dtype.is_floating_point else values.remainder(256).to(dtype)
    for result in (same(image), *same.progress(image)):
        assert (result.shape, result.dtype, result.device) == (image.shape, dtype, image.device)
        assert torch.equal(result, image)


def test_a_tensor_keeps_its_axes(same):
    planes = torch.from_numpy(PIXELS).permute(2, 0, 1)
    darker = Deblurrer(MTNAF(MTNAFConfig(width=4)), iterations=1, device="cpu", precision="float32")
    np.testing.assert_array_equal(darker(planes).permute(1, 2, 0).numpy(), darker(PIXELS))
    assert torch.equal(same(planes.float().div(255).requires_grad_()), planes.float().div(255))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "1", "I;16"])
def test_a_picture_of_pillow_comes_back_as_one_of_its_mode(same, mode):
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
        if "A" in mode:
            image.putalpha(Image.fromarray(PIXELS[..., 1]))
    image.info["dpi"] = (300, 300)
    result = same(image)
    assert isinstance(result, Image.Image)
    assert result.mode == ("L" if mode == "1" else mode)
    assert result.info["dpi"] == (300, 300)
    np.testing.assert_array_equal(
        np.asarray(result), np.asarray(image.convert("L") if mode == "1" else image)
    )


def test_pictures_of_pillow_in_other_modes_become_rgb(same, tmp_path):
    for mode in ("P", "CMYK"):
        image = Image.fromarray(PIXELS).convert(mode)
        result = same(image)
        assert result.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(result), np.asarray(image.convert("RGB")))


def test_a_picture_of_pillow_keeps_its_orientation(same, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        assert ImageOps.exif_transpose(same(turned)).size == ImageOps.exif_transpose(turned).size == (12, 10)


@pytest.mark.parametrize(
    "image", ["a.png", None, [[1, 2], [3, 4]], Image.new("F", (4, 4)), torch.zeros(4, 4)]
)
def test_what_is_no_picture_is_refused_by_its_kind(same, image):
    with pytest.raises(ValueError, match=r"must (be|have)"):
        same(image)


def test_estimates_are_for_tensors(same):
    with pytest.raises(ValueError, match=r"must be a tensor .* not ndarray"):
        same.estimates(PIXELS)


@pytest.mark.parametrize("two", [np.int64(2), np.uint8(2), np.array(2), torch.tensor(2)])
def test_integers_of_any_library_are_numbers(two, tmp_path):
    network = create_network("mtnaf", width=two * 2, blocks=(0, 0, 0, 0, 0))
    assert Deblurrer(network, iterations=two, tile=two * 32, device="cpu")(PIXELS).shape == (12, 10, 3)
    save_network(tmp_path / "w.safetensors", network, iterations=two)
    assert len(load_model(tmp_path / "w.safetensors").steps) == 2
    assert len(load_model(tmp_path / "w.safetensors", two).steps) == 2
    assert load_network(tmp_path / "w.safetensors")
    assert mtdeblur.load(tmp_path / "w.safetensors", iterations=two, tile=two * 32, device="cpu").tile == 64


@pytest.mark.parametrize("setting", ["iterations", "tile"])
@pytest.mark.parametrize("value", [2.5, np.float64(2), "two", "2.5", True, 0, np.int64(-1), []])
def test_what_is_no_number_is_refused_when_loading(setting, value):
    for make in (mtdeblur.load, lambda **given: Deblurrer(MTNAF(MTNAFConfig(width=4)), **given)):
        with pytest.raises(mtdeblur.UserError, match=setting):
            make(device="cpu", **{setting: value})


def test_a_device_and_a_dtype_of_pytorch_are_taken():
    network = MTNAF(MTNAFConfig(width=4, blocks=(0, 0, 0, 0, 0)))
    deblurrer = Deblurrer(network, device=torch.device("cpu"), precision=torch.float32)
    assert (deblurrer.device.type, deblurrer.precision) == ("cpu", "float32")
    with pytest.raises(mtdeblur.UserError, match="'float16'"):
        Deblurrer(network, device="cpu", precision=torch.float16)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_a_network_that_gives_no_numbers_gives_no_picture(bad):
    network = MTNAF(MTNAFConfig(width=4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(bad)
    deblurrer = Deblurrer(network, iterations=2, device="cpu", precision="float32")
    with pytest.raises(mtdeblur.UserError, match="not finite"):
        deblurrer(PIXELS)
    with pytest.raises(mtdeblur.UserError, match="not finite"):
        list(deblurrer.progress(PIXELS))
