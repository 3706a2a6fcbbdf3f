"""What a deblurrer takes in Python: arrays, tensors, pictures of Pillow, and numbers of any library."""

import pickle

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


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.fixture(scope="module")
def changing():
    """A deblurrer that changes every picture."""
    torch.manual_seed(1)
    network = MTNAF(MTNAFConfig(width=4, blocks=(1, 0, 0, 0, 0)))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Deblurrer(network, iterations=2, device="cpu", precision="float32")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, *FLOATS])
@pytest.mark.parametrize("shape", [(3, 12, 10), (1, 3, 12, 10), (4, 3, 5, 6), (12, 10, 3)])
def test_a_tensor_comes_back_as_a_tensor_of_its_shape_and_dtype(same, dtype, shape):
    values = torch.arange(360).reshape(shape)
    image = (values / 360).half().to(dtype) if dtype.is_floating_point else values.remainder(256).to(dtype)
    for result in (same(image), *same.progress(image)):
        assert (result.shape, result.dtype, result.device) == (image.shape, dtype, image.device)
        assert torch.equal(result, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, ">u2", ">f8"])
@pytest.mark.parametrize("shape", [(12, 10, 3), (12, 10), (12, 10, 4), (2, 6, 5, 3), (2, 12, 10, 4)])
def test_an_array_comes_back_as_an_array_of_its_shape_and_dtype(same, dtype, shape):
    values, dtype = np.random.default_rng(2).integers(0, 256, shape), np.dtype(dtype)
    image = (values / np.float16(256)).astype(dtype) if dtype.kind == "f" else values.astype(dtype)
    for result in (same(image), *same.progress(image)):
        assert (result.shape, result.dtype) == (image.shape, dtype.newbyteorder("="))
        np.testing.assert_array_equal(result, image)


def test_a_grey_array_is_the_mean_of_what_its_copies_become_and_alpha_is_kept(changing):
    grey, alpha = PIXELS[..., 0], PIXELS[..., 1:2]
    colour = changing(np.repeat(grey[..., None], 3, axis=2))
    assert (colour != grey[..., None]).any()
    np.testing.assert_array_equal(changing(grey), np.rint(colour.astype(float).mean(axis=2)))
    deep = np.repeat(grey[..., None] / 255, 3, axis=2)
    np.testing.assert_allclose(changing(grey / 255), changing(deep).mean(axis=2), rtol=1e-6)
    with_alpha = changing(np.concatenate([PIXELS, alpha], axis=2))
    np.testing.assert_array_equal(with_alpha, np.concatenate([changing(PIXELS), alpha], axis=2))


def test_a_batch_gives_what_each_picture_gives_by_itself(changing):
    tensor = torch.rand(3, 7, 9)
    images = [PIXELS, Image.fromarray(PIXELS[:5]), tensor, PIXELS[:9, :3] / 255]
    alone = [list(changing.progress(image)) for image in images]
    shares: list[float] = []
    together = list(changing.progress(images, shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for result, expected in zip(changing(images), alone, strict=True):
        assert type(result) is type(expected[-1])
        np.testing.assert_array_equal(np.asarray(result), np.asarray(expected[-1]))
    for number, estimates in enumerate(together):
        for estimate, expected in zip(estimates, alone, strict=True):
            np.testing.assert_array_equal(np.asarray(estimate), np.asarray(expected[number]))


def test_batches_keep_their_type(changing):
    stacked = np.stack([PIXELS, PIXELS[::-1]])
    expected = np.stack([changing(PIXELS), changing(PIXELS[::-1])])
    np.testing.assert_array_equal(changing(stacked), expected)
    planes = torch.from_numpy(stacked).movedim(-1, 1)
    assert torch.equal(changing(planes), torch.from_numpy(expected).movedim(-1, 1))
    assert torch.equal(changing(planes[:1])[0], changing(planes[0]))
    first, last = changing.progress(stacked)
    assert (first != last).any()
    np.testing.assert_array_equal(last, expected)
    (one,) = changing((PIXELS,))
    assert type(changing((PIXELS,))) is tuple
    np.testing.assert_array_equal(one, changing(PIXELS))
    assert changing([]) == []
    with pytest.raises(ValueError, match="one picture"):
        changing.progress([PIXELS], watch=lambda *told: None)
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        changing.progress([PIXELS, PIXELS[0, 0]])


def test_a_deblurrer_goes_to_another_process(changing):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(changing))(PIXELS), changing(PIXELS))


def test_a_tensor_keeps_its_axes(same, changing):
    planes = torch.from_numpy(PIXELS).permute(2, 0, 1)
    np.testing.assert_array_equal(changing(planes).permute(1, 2, 0).numpy(), changing(PIXELS))
    assert torch.equal(same(planes.float().div(255).requires_grad_()), planes.float().div(255))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "1", "I;16", "RGBX"])
def test_a_picture_of_pillow_comes_back_as_one_of_its_mode(same, mode):
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
        if "A" in mode:
            image.putalpha(Image.fromarray(PIXELS[..., 1]))
    image.info |= {"dpi": (300, 300), "icc_profile": b"a profile"}
    result = same(image)
    assert isinstance(result, Image.Image)
    assert result.mode == ("L" if mode == "1" else mode)
    assert result.info == image.info
    np.testing.assert_array_equal(
        np.asarray(result), np.asarray(image.convert("L") if mode == "1" else image)
    )


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBa", "La"])
def test_a_picture_of_pillow_in_a_mode_made_of_rgb_comes_back_but_for_rounding(same, mode):
    image = Image.fromarray(PIXELS)
    image.putalpha(200)
    image = image.convert("LA" if mode == "La" else "RGBA" if mode == "RGBa" else "RGB").convert(mode)
    image.info["icc_profile"] = b"a profile"
    result = same(image)
    assert (result.mode, result.info) == (mode, image.info)
    plain = {"RGBa": "RGBA", "La": "LA"}.get(mode, "RGB")
    difference = np.asarray(result.convert(plain)).astype(int) - np.asarray(image.convert(plain))
    assert np.abs(difference).max() <= 8


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
