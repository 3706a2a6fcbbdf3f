"""Formats besides JPEG, PNG, TIFF and WebP: checked against Pillow, pillow-heif and hand-made files."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mtdeblur import errors
from mtdeblur.errors import UserError
from mtdeblur.media import formats
from mtdeblur.media.facts import Coding
from mtdeblur.media.pictures import (
    Picture,
    decode_picture,
    encode_picture,
    read_picture,
    read_size,
    write_picture,
)

XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a/></x:xmpmeta>"


def smooth(height: int = 40, width: int = 64, dtype: type = np.uint8) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 17 + columns / (23 + 5 * channel)) for channel in range(3)]
    return np.round((np.stack(waves, -1) * 0.4 + 0.5) * np.iinfo(dtype).max).astype(dtype)


def exif_block(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[271], exif[274] = "Acme", orientation
    exif.get_ifd(0x8769)[0x927C] = b"ACME\0\1\2\3 maker note \xff\xfe"
    return exif.tobytes().removeprefix(b"Exif\0\0")


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, of white."""
    white = [255 if array.dtype == np.uint8 else 65535 for array in (one, other)]
    return float(np.abs(one / white[0] - other / white[1]).max())


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".bmp", ".dib", ".ppm", ".pnm", ".avif"])
def test_pixels_are_those_that_pillow_reads(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    kind = {".jpe": "JPEG", ".dib": "DIB"}.get(suffix)
    if suffix == ".dib":
        kind = "BMP"
    Image.fromarray(smooth()).save(path, kind)
    with Image.open(path) as image:
        reference = np.asarray(image.convert("RGB"))
    picture = read_picture(path)
    assert difference(picture.pixels, reference) <= (0.02 if suffix in (".jfif", ".jpe", ".avif") else 0)
    assert read_size(path) == (40, 64)
    target = tmp_path / f"b{suffix}"
    write_picture(target, picture)
    with Image.open(target) as image:
        assert difference(np.asarray(image.convert("RGB")), reference) <= 0.06


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_kinds_of_bmp(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(smooth()).convert("L" if mode == "1" else "RGB").convert(mode)
    image.save(tmp_path / "a.bmp")
    picture = read_picture(tmp_path / "a.bmp")
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.grey == (mode in ("1", "L"))


def test_gif_is_read_and_written_as_png(tmp_path: Path) -> None:
    image = Image.fromarray(smooth()).quantize(64)
    image.save(tmp_path / "a.gif", transparency=3)
    with Image.open(tmp_path / "a.gif") as stored:
        reference = np.asarray(stored.convert("RGBA"))
    picture = read_picture(tmp_path / "a.gif")
    visible = reference[..., 3] > 0
    np.testing.assert_array_equal(picture.pixels[visible], reference[visible][:, :3])
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, reference[..., 3])
    with pytest.raises(UserError, match=r"b\.gif"):
        write_picture(tmp_path / "b.gif", picture)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_of_all_depths(tmp_path: Path, bits: int) -> None:
    source = Picture(smooth(dtype=np.uint8 if bits == 8 else np.uint16), coding=Coding(bits=bits))
    path = tmp_path / "a.avif"
    write_picture(path, source)
    picture = read_picture(path)
    assert picture.coding.bits == bits
    assert picture.pixels.dtype == source.pixels.dtype
    assert difference(picture.pixels, source.pixels) < 0.06
    white = Picture(np.full((8, 8, 3), np.iinfo(source.pixels.dtype).max, source.pixels.dtype))
    again = decode_picture(encode_picture(white, "avif"))
    assert difference(again.pixels, white.pixels) <= 0.01
    write_picture(tmp_path / "b.avif", picture)
    assert read_picture(tmp_path / "b.avif").coding.bits == bits


@pytest.mark.parametrize("orientation", [1, 6])
def test_avif_keeps_metadata_and_stands_upright(tmp_path: Path, orientation: int) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Picture(smooth(), icc=profile, exif=exif_block(orientation), xmp=XMP)
    path = tmp_path / "a.avif"
    write_picture(path, picture)
    with Image.open(path) as image:
        assert image.size == ((40, 64) if orientation == 6 else (64, 40))
        assert image.getexif()[271] == "Acme"
        assert image.getexif()[274] == 1
        assert image.getexif().get_ifd(0x8769)[0x927C].startswith(b"ACME\0\1\2\3")
        assert image.info["icc_profile"] == profile
        assert image.info["xmp"] == XMP
    again = read_picture(path)
    assert again.exif == picture.upright().exif
    write_picture(tmp_path / "b.avif", again)
    assert read_picture(tmp_path / "b.avif").exif == again.exif


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_formats_without_orientation_stand_upright(tmp_path: Path, suffix: str) -> None:
    picture = Picture(smooth(), exif=exif_block(6))
    write_picture(tmp_path / f"a{suffix}", picture)
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}").pixels, picture.upright().pixels)


# -- PNM


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    white=st.sampled_from([1, 3, 15, 255, 256, 1023, 65535]),
    kind=st.integers(1, 6),
    seed=st.integers(0, 99),
    comment=st.booleans(),
)
def test_all_kinds_of_pnm(height: int, width: int, white: int, kind: int, seed: int, comment: bool) -> None:
    channels = 3 if kind in (3, 6) else 1
    white = 1 if kind in (1, 4) else white
    values = np.random.default_rng(seed).integers(0, white, (height, width, channels), endpoint=True)
    head = f"P{kind}\n{'# a comment' + chr(10) if comment else ''}{width} {height}"
    head += "" if kind in (1, 4) else f" {white}"
    if kind == 4:
        body = np.packbits(values[..., 0].astype(np.uint8), axis=1).tobytes()
    elif kind < 4:
        body = " ".join(map(str, values.ravel())).encode()
    else:
        body = values.astype(">u2" if white > 255 else "u1").tobytes()
    pixels = decode_picture(head.encode() + b"\n" + body).pixels
    top = 255 if white < 256 else 65535
    light = white - values if kind in (1, 4) else values
    np.testing.assert_array_equal(pixels, np.broadcast_to((light * top + white // 2) // white, pixels.shape))


def test_deep_pnm_is_written(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.ppm", Picture(smooth(dtype=np.uint16)))
    with open(tmp_path / "a.ppm", "rb") as file:
        assert [file.readline() for _ in range(3)] == [b"P6\n", b"64 40\n", b"65535\n"]
        np.testing.assert_array_equal(
            np.frombuffer(file.read(), ">u2").reshape(40, 64, 3), smooth(dtype=np.uint16)
        )
    write_picture(tmp_path / "a.pgm", Picture(np.repeat(smooth()[..., :1], 3, 2), grey=True))
    with Image.open(tmp_path / "a.pgm") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), smooth()[..., 0])


@pytest.mark.parametrize(
    "damaged",
    [b"P6\n2 2\n255\n123", b"P6\n2 2\n0\n" + bytes(12), b"P5 x", b"P2 2 1 9 10 1", b"P3\n1 1\n255\n1 2"],
)
def test_damaged_pnm(damaged: bytes) -> None:
    with pytest.raises(UserError, match="damaged"):
        decode_picture(damaged)


# -- HEIC and JPEG XL, which need optional packages


@pytest.mark.parametrize("deep", [False, True])
def test_heic(tmp_path: Path, deep: bool) -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = smooth(dtype=np.uint16 if deep else np.uint8)
    mode = "RGB;16" if deep else "RGB"
    file = heif.from_bytes(mode=mode, size=(64, 40), data=pixels.tobytes())
    file.info["exif"] = b"Exif\0\0" + exif_block(6)
    file.info["xmp"] = XMP
    file.save(tmp_path / "a.heic", quality=95)
    picture = read_picture(tmp_path / "a.heic")
    assert picture.pixels.dtype == (np.uint16 if deep else np.uint8)
    assert picture.orientation == 1  # the decoder has turned the picture, if the file says so
    assert b"ACME" in (picture.exif or b"")
    assert picture.xmp == XMP
    reference = np.asarray(heif.open_heif(tmp_path / "a.heic", convert_hdr_to_8bit=False)[0])
    assert difference(picture.pixels, reference) < 0.001
    assert read_size(tmp_path / "a.heic") == picture.pixels.shape[:2]
    write_picture(tmp_path / "b.png", picture)
    with Image.open(tmp_path / "b.png") as image:
        assert image.getexif()[271] == "Acme"


def test_jpeg_xl(tmp_path: Path) -> None:
    jxl = pytest.importorskip("pylibjxl")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Picture(smooth(), icc=profile, exif=exif_block(6), xmp=XMP)
    write_picture(tmp_path / "a.jxl", picture)
    upright = picture.upright()
    pixels, found = jxl.decode((tmp_path / "a.jxl").read_bytes(), metadata=True)
    np.testing.assert_array_equal(pixels, upright.pixels)
    assert (found["exif"], found["xmp"], found["icc"]) == (upright.exif, XMP, profile)
    again = read_picture(tmp_path / "a.jxl")
    np.testing.assert_array_equal(again.pixels, upright.pixels)
    assert (again.exif, again.xmp, again.icc) == (upright.exif, XMP, profile)
    assert read_size(tmp_path / "a.jxl") == (64, 40)
    alpha = replace(upright, alpha=upright.pixels[..., 0])
    grey = Picture(np.repeat(smooth()[..., :1], 3, 2), grey=True)
    for each in (alpha, grey):
        back = decode_picture(encode_picture(each, "jxl"))
        np.testing.assert_array_equal(back.pixels, each.pixels)
        assert back.grey == each.grey
        assert (back.alpha is None) == (each.alpha is None)


@pytest.mark.parametrize(
    ("head", "package"),
    [(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif"), (b"\xff\x0a" + bytes(30), "pylibjxl")],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, head: bytes, package: str) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(errors, "import_module", missing)
    with pytest.raises(UserError, match=rf"{package}: pip install 'mtdeblur\[formats\]'"):
        decode_picture(head)


def test_brands_of_heif(tmp_path: Path) -> None:
    def head(major: bytes, *others: bytes) -> bytes:
        return struct.pack(">I4s4sI", 16 + 4 * len(others), b"ftyp", major, 0) + b"".join(others)

    assert formats.sniff(head(b"mif1", b"avif", b"miaf")) == "avif"
    assert formats.sniff(head(b"avis", b"msf1")) == "avif"
    assert formats.sniff(head(b"mif1", b"heic")) == "heic"
    with pytest.raises(UserError):
        formats.sniff(head(b"isom", b"mp42"))


# -- limits


def bombs(tmp_path: Path) -> list[Path]:
    side = 30_000
    png = io.BytesIO()
    Image.new("L", (1, 1)).save(png, "PNG")
    files = {
        "a.png": png.getvalue()[:16] + struct.pack(">II", side, side) + png.getvalue()[24:],
        "a.ppm": f"P6 {side} {side} 255\n".encode(),
        "a.bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, side, -side) + bytes(40),
    }
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    data = jpeg.getvalue()
    frame = data.index(b"\xff\xc0") + 5
    files["a.jpg"] = data[:frame] + struct.pack(">HH", side, side) + data[frame + 4 :]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    # the check sum of the header has to be right
    import zlib

    content = bytearray(files["a.png"])
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    return [tmp_path / name for name in files]


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in bombs(tmp_path):
        with pytest.raises(UserError, match=r"30000 x 30000.*MTDEBLUR_MAX_PIXELS"):
            read_picture(path)
    tifffile.imwrite(tmp_path / "a.tif", smooth(), photometric="rgb")
    monkeypatch.setenv("MTDEBLUR_MAX_PIXELS", "2559")
    with pytest.raises(UserError, match=r"64 x 40.*2559"):
        read_picture(tmp_path / "a.tif")
    monkeypatch.setenv("MTDEBLUR_MAX_PIXELS", "2560")
    assert read_picture(tmp_path / "a.tif").pixels.shape == (40, 64, 3)
    monkeypatch.setenv("MTDEBLUR_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="MTDEBLUR_MAX_PIXELS must be a number"):
        read_picture(tmp_path / "a.tif")


# -- quality of JPEG, WebP without loss


@pytest.mark.parametrize("quality", [30, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_jpeg_keeps_its_tables_and_chroma(tmp_path: Path, quality: int, subsampling: str) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.fromarray(smooth()).save(source, quality=quality, subsampling=subsampling)
    picture = read_picture(source)
    assert picture.coding.quality == quality
    write_picture(target, picture)
    with Image.open(source) as before, Image.open(target) as after:
        assert after.quantization == before.quantization
        assert [each[1:3] for each in after.layer] == [each[1:3] for each in before.layer]
    write_picture(target, replace(picture, coding=replace(picture.coding, quality=60)))
    assert read_picture(target).coding.quality == 60


@given(steps=st.lists(st.integers(1, 255), min_size=64, max_size=64))
def test_jpeg_with_other_tables_is_nowhere_coarser(steps: list[int]) -> None:
    file = io.BytesIO()
    Image.fromarray(smooth(16, 16)).save(file, "JPEG", qtables=[steps, steps])
    written = encode_picture(decode_picture(file.getvalue()), "jpeg")
    with Image.open(io.BytesIO(file.getvalue())) as before, Image.open(io.BytesIO(written)) as after:
        for number in (0, 1):
            assert (np.array(after.quantization[number]) <= np.array(before.quantization[0])).all()


def test_quality_is_not_taken_from_another_format(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", Picture(smooth()))
    assert read_picture(tmp_path / "a.jpg").coding.quality == 95


def test_webp_without_loss_stays_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.webp", lossless=True, exact=True)
    write_picture(tmp_path / "b.webp", read_picture(tmp_path / "a.webp"))
    with Image.open(tmp_path / "b.webp") as image:
        np.testing.assert_array_equal(np.asarray(image), noise)
