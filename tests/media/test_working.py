"""What networks see of a picture, and what becomes of the picture."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mtdeblur.errors import UserError
from mtdeblur.media import spool
from mtdeblur.media.colour import curve_of_profile, profile_of
from mtdeblur.media.pictures import Picture, decode_picture, encode_picture, read_picture, write_picture
from mtdeblur.media.primaries import SRGB, Colour, coded
from mtdeblur.media.working import seen, with_estimate

PROPHOTO = Colour((0.3457, 0.3585, 0.734699, 0.265301, 0.159597, 0.840403, 0.036598, 0.000105), 1.8)
ADOBE = Colour((0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 2.19921875)
LINEAR = Colour(SRGB, 1.0)
P3 = coded(12, 13)
ENCODINGS = {"prophoto": PROPHOTO, "adobe": ADOBE, "linear": LINEAR, "p3": P3}


def noise(dtype: type, height: int = 9, width: int = 11, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype == np.float32:
        return random.uniform(-0.5, 3, (height, width, 3)).astype(np.float32)
    return random.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


def round_trip(picture: Picture, path: Path) -> Picture:
    """The picture after it was shown to a network that changed nothing."""
    shown = seen(picture)
    assert shown.dtype in (np.uint8, np.uint16)
    write_picture(path, with_estimate(picture, shown, shown.copy()))
    return read_picture(path)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_without_change_nothing_changes(
    tmp_path: Path, name: str, dtype: type, alpha: bool, grey: bool
) -> None:
    pixels = noise(dtype)
    if grey:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    icc = profile_of(ENCODINGS[name], grey)
    cover = None
    if alpha:
        cover = noise(dtype, seed=1)[..., 0].clip(0, None)
        cover[:4] = 0
    suffix = "tif" if dtype == np.float32 else "png"
    again = round_trip(Picture(pixels, cover, grey, icc), tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(again.pixels, pixels)
    assert again.icc == icc
    if cover is not None:
        np.testing.assert_array_equal(again.alpha, cover)


@settings(max_examples=20)
@given(gamma=st.floats(0.3, 4), seed=st.integers(0, 99))
def test_any_gamma_is_reversed_exactly(gamma: float, seed: int) -> None:
    for dtype in (np.uint8, np.uint16):
        picture = Picture(noise(dtype, seed=seed), colour=Colour(SRGB, gamma))
        shown = seen(picture)
        np.testing.assert_array_equal(with_estimate(picture, shown, shown.copy()).pixels, picture.pixels)


def test_a_network_sees_the_tone_curve_of_srgb() -> None:
    """The same photograph in several encodings, made with LittleCMS, looks alike to a network in greys."""
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for name, colour in ENCODINGS.items():
        icc = profile_of(colour, False)
        to = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(Image.fromarray(greys), ImageCms.createProfile("sRGB"), to)
        picture = Picture(np.asarray(converted), icc=icc)
        shown = seen(picture).astype(float) / (255 if name == "p3" else 65535)
        bright = greys[0, :, 0] > 60  # below, 8 bits of linear light are too coarse
        np.testing.assert_allclose(shown[0, bright], greys[0, bright] / 255, atol=0.012)
        assert (seen(picture) is picture.pixels) == (name == "p3")


@pytest.mark.parametrize("name", ENCODINGS)
def test_profiles_agree_with_littlecms(name: str) -> None:
    """Colours go to sRGB as the encoding's definition says."""
    colour = ENCODINGS[name]
    profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_of(colour, False)))
    assert profile.profile.xcolor_space.strip() == "RGB"
    np.testing.assert_allclose(profile.profile.media_white_point[0], (0.9642, 1, 0.8249), atol=0.001)
    columns = [getattr(profile.profile, f"{channel}_colorant")[0] for channel in ("red", "green", "blue")]
    np.testing.assert_allclose(np.sum(columns, axis=0), (0.9642, 1, 0.8249), atol=0.001)
    values = np.full((1, 1, 3), 128, np.uint8)
    to_srgb = ImageCms.profileToProfile(Image.fromarray(values), profile, ImageCms.createProfile("sRGB"))
    light = (128 / 255) ** colour.gamma if colour.gamma else ((128 / 255 + 0.055) / 1.055) ** 2.4
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(np.asarray(to_srgb)[0, 0], expected, atol=1)


def test_p3_profile_is_that_of_others() -> None:
    libvips = pytest.importorskip("pyvips")
    image = libvips.Image.black(8, 8, bands=3).copy(interpretation="srgb").icc_transform("p3")
    theirs = ImageCms.ImageCmsProfile(io.BytesIO(bytes(image.get("icc-profile-data"))))
    ours = ImageCms.ImageCmsProfile(io.BytesIO(profile_of(P3, False)))
    values = noise(np.uint8, 20, 20)
    there = np.asarray(ImageCms.profileToProfile(Image.fromarray(values), ours, theirs)).astype(int)
    assert np.abs(there - values).max() <= 4  # saturated colours near 0 differ a little
    assert np.abs(there - values).mean() < 0.2


def test_a_profile_that_cannot_be_used_changes_nothing() -> None:
    for icc in (b"", b"nonsense", profile_of(P3, False)[:200]):
        assert curve_of_profile(icc, False) is None
    picture = Picture(noise(np.uint8), icc=b"nonsense")
    assert seen(picture) is picture.pixels


def test_png_in_linear_light_looks_alike_in_other_formats(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 3), 128, np.uint8)
    picture = Picture(pixels, colour=LINEAR)
    for suffix in ("jpg", "tif", "webp", "png", "avif"):
        write_picture(tmp_path / f"a.{suffix}", picture)
        with Image.open(tmp_path / f"a.{suffix}") as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            shown = ImageCms.profileToProfile(image.convert("RGB"), profile, ImageCms.createProfile("sRGB"))
            assert np.abs(np.asarray(shown).astype(int) - 188).max() <= 2


def test_hdr_keeps_its_chunk_in_png_and_is_refused_elsewhere(tmp_path: Path) -> None:
    picture = Picture(noise(np.uint16), colour=coded(9, 16))
    assert seen(picture) is picture.pixels
    write_picture(tmp_path / "a.png", picture)
    assert b"cICP" + bytes([9, 16, 0, 1]) in (tmp_path / "a.png").read_bytes()
    assert read_picture(tmp_path / "a.png").colour == picture.colour
    with pytest.raises(UserError, match="HDR"):
        write_picture(tmp_path / "a.jpg", picture)


# -- floating point


def test_float_values_beyond_white_stay_and_others_change(tmp_path: Path) -> None:
    pixels = noise(np.float32)
    pixels[0, 0] = (np.nan, np.inf, -np.inf)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    picture = read_picture(tmp_path / "a.tif")
    assert any("outside" in notice for notice in picture.notices)
    np.testing.assert_array_equal(picture.pixels, pixels)
    shown = seen(picture)
    again = with_estimate(picture, shown, shown.copy())
    write_picture(tmp_path / "b.tif", again)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)
    darker = with_estimate(picture, shown, np.maximum(shown, 6554) - 6554)
    inside = (pixels > 0.5) & (pixels < 1)
    assert (darker.pixels[inside] < pixels[inside]).all()
    bright = pixels > 1
    assert (darker.pixels[bright] >= pixels[bright] - 0.3).all()


def test_floats_in_the_usual_range_are_seen_as_16_bits_are(tmp_path: Path) -> None:
    integers = noise(np.uint16)
    floats = Picture((integers / 65535).astype(np.float32))
    np.testing.assert_array_equal(seen(floats), integers)
    linear = Picture(np.full((4, 4, 3), 0.2140, np.float32))
    linear.pixels[0, 0] = 50
    assert abs(int(seen(linear)[2, 2, 0]) - 32768) < 100


def test_floats_in_formats_of_integers(tmp_path: Path) -> None:
    picture = Picture(np.float32([[[0, 0.5, 1], [-1, 2, np.nan]]]))
    for container, dtype, white in (("png", np.uint16, 65535), ("bmp", np.uint8, 255)):
        pixels = decode_picture(encode_picture(picture, container)).pixels
        assert pixels.dtype == dtype
        expected = np.rint(np.array([[[0, 0.5, 1], [0, 1, 0]]]) * white)
        np.testing.assert_array_equal(pixels, expected)


def test_64_bits_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 5, 3), 0.3), photometric="rgb")
    with pytest.raises(UserError, match="out of range"):
        read_picture(tmp_path / "a.tif")


# -- alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_under_full_transparency_are_not_seen(dtype: type) -> None:
    white = np.iinfo(dtype).max
    pixels = np.zeros((70, 90, 3), dtype)
    pixels[20:50, 30:60] = (white, white // 2, white // 4)
    alpha = np.zeros((70, 90), dtype)
    alpha[20:50, 30:60] = white
    alpha[20, 30:60] = 1
    picture = Picture(pixels, alpha)
    shown = seen(picture)
    assert np.abs(shown.astype(int) - pixels[30, 40].astype(int)).max() <= 1
    np.testing.assert_array_equal(shown[alpha > 0], pixels[alpha > 0])
    estimate = shown // 2
    result = with_estimate(picture, shown, estimate).pixels
    np.testing.assert_array_equal(result[alpha == 0], pixels[alpha == 0])
    np.testing.assert_array_equal(result[alpha > 0], estimate[alpha > 0])


@pytest.mark.parametrize("large", [False, True])
def test_colours_spread_to_the_nearest_hidden_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    pixels = np.zeros((40, 1200, 3), np.uint8).swapaxes(0, 1).copy()
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    pixels[:10], alpha[:10] = (200, 10, 10), 255
    pixels[-10:], alpha[-10:] = (10, 10, 200), 255
    Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "a.png")
    if large:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(spool, "LARGE", 0)
    shown = seen(read_picture(tmp_path / "a.png", spooled=True))
    assert spool.in_file(shown) == large
    assert np.abs(shown[12].astype(int) - (200, 10, 10)).max() <= 1
    assert np.abs(shown[-12].astype(int) - (10, 10, 200)).max() <= 1


@settings(max_examples=20)
@given(seed=st.integers(0, 99), deep=st.booleans())
def test_premultiplied_tiff_is_written_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, seed: int, deep: bool
) -> None:
    random = np.random.default_rng(seed)
    dtype = np.uint16 if deep else np.uint8
    alpha = random.integers(0, np.iinfo(dtype).max, (8, 9, 1), endpoint=True)
    colours = random.integers(0, alpha, (8, 9, 3), endpoint=True)
    samples = np.concatenate([colours, alpha], axis=2).astype(dtype)
    folder = tmp_path_factory.mktemp("premultiplied")
    tifffile.imwrite(folder / "a.tif", samples, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(folder / "a.tif")
    shown = seen(picture)
    write_picture(folder / "b.tif", with_estimate(picture, shown, shown.copy()))
    with tifffile.TiffFile(folder / "b.tif") as file:
        np.testing.assert_array_equal(file.asarray(), samples)
        assert [each.name for each in file.pages[0].extrasamples] == ["ASSOCALPHA"]
    opaque = picture.alpha > np.iinfo(dtype).max // 2
    ratio = colours / np.maximum(alpha, 1)
    np.testing.assert_allclose(picture.pixels[opaque] / np.iinfo(dtype).max, ratio[opaque], atol=0.005)
