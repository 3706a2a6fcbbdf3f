"""Pictures checked against Pillow, tifffile and hand-made files."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from mtdeblur.errors import UserError
from mtdeblur.media.pictures import Picture, read_picture, write_picture

CONTAINERS = ["jpg", "png", "tif", "webp"]
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a/></x:xmpmeta>"
MAKER_NOTE = b"ACME\0\1\2\3 maker note with \xff\xfe bytes"


def smooth(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """A picture that survives lossy compression: slow waves, another in each channel."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 17 + columns / (23 + 5 * channel)) for channel in range(channels)]
    return np.round((np.stack(waves, -1) * 0.4 + 0.5) * np.iinfo(dtype).max).astype(dtype)


def exif_block(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[271], exif[33432], exif[274] = "Acme", "(c) nobody", orientation
    details = exif.get_ifd(0x8769)
    details[0x829A], details[0x927C] = TiffImagePlugin.IFDRational(1, 50), MAKER_NOTE
    position = exif.get_ifd(0x8825)
    position[1], position[2] = "N", (52.0, 30.0, 15.5)
    return exif


def facts(path: Path) -> dict[str, object]:
    """What Pillow finds in the EXIF of a file."""
    with Image.open(path) as image:
        exif = image.getexif()
        details, position = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        return {
            "make": exif.get(271),
            "copyright": exif.get(33432),
            "orientation": exif.get(274),
            "exposure": float(details[0x829A]) if 0x829A in details else None,
            "maker note": details.get(0x927C),
            "latitude": tuple(map(float, position[2])) if 2 in position else None,
        }


@cache  # for it holds the time of its making
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def tagged(path: Path, orientation: int = 6) -> Path:
    image = Image.fromarray(smooth(40, 64))
    exif = exif_block(orientation)
    options = {"exif": exif, "icc_profile": srgb_profile(), "dpi": (300, 300)}
    if path.suffix in (".jpg", ".webp"):
        options["xmp"] = XMP
    image.save(path, **options)
    return path


def png_bytes(samples: np.ndarray, depth: int, colour_type: int, *, palette: bytes = b"") -> bytes:
    """A PNG file made by hand from packed rows (H, bytes)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width = samples.shape[:2]
    stored = samples.astype(">u2") if depth == 16 else samples
    rows = np.packbits(stored, axis=1) if depth == 1 else stored.reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + (chunk(b"PLTE", palette) if palette else b"")
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("container", CONTAINERS)
def test_pixels_are_those_that_pillow_reads(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"a.{container}"
    Image.fromarray(smooth(33, 47)).save(path)
    with Image.open(path) as image:
        reference = np.asarray(image.convert("RGB")).astype(int)
    pixels = read_picture(path).pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - reference).max() <= (0 if container in ("png", "tif") else 2)


@pytest.mark.parametrize("container", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    grey=st.booleans(),
    alpha=st.booleans(),
    seed=st.integers(0, 99),
)
def test_lossless_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    container: str,
    dtype: type,
    height: int,
    width: int,
    grey: bool,
    alpha: bool,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    pixels = random.integers(0, top, (height, width, 1 if grey else 3), dtype, endpoint=True)
    picture = Picture(
        np.repeat(pixels, 3, axis=2) if grey else pixels,
        random.integers(0, top, (height, width), dtype, endpoint=True) if alpha else None,
        grey,
    )
    path = tmp_path_factory.mktemp("round") / f"a.{container}"
    write_picture(path, picture)
    again = read_picture(path)
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert again.pixels.dtype == dtype
    assert again.grey == grey
    assert (again.alpha is None) == (not alpha)
    if alpha:
        np.testing.assert_array_equal(again.alpha, picture.alpha)


def test_16_bit_files_of_others(tmp_path: Path) -> None:
    samples = smooth(20, 31, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_bytes(samples, 16, 2))
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb")
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_picture(tmp_path / name).pixels, samples)
    write_picture(tmp_path / "b.tif", Picture(samples))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), samples)


def test_big_endian_bigtiff_is_read(tmp_path: Path) -> None:
    samples = smooth(20, 31, dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        samples,
        photometric="rgb",
        bigtiff=True,
        byteorder=">",
        description="a harbour",
        metadata=None,
    )
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, samples)
    write_picture(tmp_path / "b.jpg", picture)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[270] == "a harbour"


def test_16_bits_are_rounded_for_jpeg(tmp_path: Path) -> None:
    value = 200 * 257 - 128  # rounds up to 200, and would be cut down to 199
    write_picture(tmp_path / "a.jpg", Picture(np.full((16, 16, 3), value, np.uint16)))
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.asarray(image).min() == np.asarray(image).max() == 200


def test_grey_stays_grey(tmp_path: Path) -> None:
    for container in ("jpg", "png", "tif"):
        path = tmp_path / f"a.{container}"
        Image.fromarray(smooth(20, 30, 1)[..., 0]).save(path)
        picture = read_picture(path)
        assert picture.grey
        tinted = picture.pixels + np.array([0, 3, 6], np.uint8)
        write_picture(path, picture.with_pixels(tinted))
        with Image.open(path) as image:
            assert image.mode == "L"
            assert np.abs(np.asarray(image).astype(int) - (picture.pixels[..., 0].astype(int) + 3)).max() <= 2


def test_alpha_is_carried_over_untouched_in_webp(tmp_path: Path) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    write_picture(tmp_path / "a.webp", Picture(smooth(40, 50), alpha))
    with Image.open(tmp_path / "a.webp") as image:
        np.testing.assert_array_equal(np.asarray(image)[..., 3], alpha)


def test_alpha_is_laid_over_white_in_jpeg(tmp_path: Path) -> None:
    alpha = np.zeros((32, 64), np.uint8)
    alpha[:, 32:] = 255
    write_picture(tmp_path / "a.jpg", Picture(np.full((32, 64, 3), 60, np.uint8), alpha))
    with Image.open(tmp_path / "a.jpg") as image:
        written = np.asarray(image).astype(int)
    assert written[:, :24].min() >= 254
    assert np.abs(written[:, 40:] - 60).max() <= 1


def test_jpeg_keeps_the_chroma_of_every_pixel(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, ::2, 0] = 255
    write_picture(tmp_path / "a.jpg", Picture(pixels))
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - pixels).max() < 30
        assert {component[1:3] for component in image.layer} == {(1, 1)}


@pytest.mark.parametrize("source", CONTAINERS)
@pytest.mark.parametrize("target", CONTAINERS)
def test_exif_and_profile_move_between_all_formats(tmp_path: Path, source: str, target: str) -> None:
    before, after = tagged(tmp_path / f"a.{source}"), tmp_path / f"b.{target}"
    assert facts(before)["make"] == "Acme"
    write_picture(after, read_picture(before))
    assert facts(after) == facts(before)
    assert read_picture(after).orientation == 6
    with Image.open(after) as image:
        assert image.info["icc_profile"] == srgb_profile()
        if "webp" not in (source, target):  # which holds no density
            assert image.info["dpi"] == pytest.approx((300, 300), rel=0.01)


def test_exif_block_is_byte_for_byte_the_same(tmp_path: Path) -> None:
    for container in ("jpg", "png", "webp"):
        path = tagged(tmp_path / f"a.{container}")
        with Image.open(path) as image:
            before = image.info["exif"]
        write_picture(path, read_picture(path))
        with Image.open(path) as image:
            assert image.info["exif"].removeprefix(b"Exif\0\0") == before.removeprefix(b"Exif\0\0")


def test_exif_in_plain_webp_files(tmp_path: Path) -> None:
    exif = exif_block(1).tobytes()
    for alpha in (None, np.full((7, 9), 100, np.uint8)):
        write_picture(tmp_path / "a.webp", Picture(smooth(7, 9), alpha, exif=exif.removeprefix(b"Exif\0\0")))
        with Image.open(tmp_path / "a.webp") as image:
            image.load()
            assert image.size == (9, 7)
            assert image.getexif()[271] == "Acme"


def test_xmp_is_kept(tmp_path: Path) -> None:
    for source in ("jpg", "webp"):
        picture = read_picture(tagged(tmp_path / f"a.{source}"))
        assert picture.xmp == XMP
        for target in CONTAINERS:
            write_picture(tmp_path / f"b.{target}", picture)
            assert read_picture(tmp_path / f"b.{target}").xmp == XMP


def test_thumbnail_of_the_old_pixels_is_dropped(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(thumbnail, "JPEG")
    exif = exif_block()
    link = exif.get_ifd(1)
    link[0x0201], link[0x0202] = 0, len(thumbnail.getvalue())
    Image.fromarray(smooth(16, 16)).save(tmp_path / "a.jpg", exif=exif)
    picture = read_picture(tmp_path / "a.jpg")
    write_picture(tmp_path / "b.jpg", picture.with_pixels(picture.pixels))
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif().get_ifd(1) == {}
    assert facts(tmp_path / "b.jpg") == facts(tmp_path / "a.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_turns_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    path = tagged(tmp_path / "a.png", orientation)
    with Image.open(path) as image:
        reference = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(path)
    assert picture.orientation == orientation
    np.testing.assert_array_equal(picture.upright().pixels, reference)
    assert picture.upright().orientation == 1


def test_malformed_exif_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for block in (b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\1"):
        Image.fromarray(smooth(16, 16)).save(path, exif=block)
        picture = read_picture(path)
        assert picture.orientation == 1
        for container in CONTAINERS:
            write_picture(tmp_path / f"b.{container}", picture.with_pixels(picture.pixels).upright())
            assert read_picture(tmp_path / f"b.{container}").pixels.shape == (16, 16, 3)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    ink = np.zeros((32, 48, 4), np.uint8)
    ink[:, 16:32, 3] = 255
    ink[:, 32:, 1:3] = 255
    for container in ("jpg", "tif"):
        path = tmp_path / f"a.{container}"
        Image.fromarray(ink, "CMYK").save(path)
        picture = read_picture(path)
        paper, black, red = (picture.pixels[16, column].astype(int) for column in (8, 24, 40))
        assert paper.min() > 240
        assert black.max() < 70
        assert red[0] > 150
        assert max(red[1:]) < 90
        write_picture(tmp_path / "b.jpg", picture)
        with Image.open(tmp_path / "b.jpg") as image:
            assert image.mode == "RGB"


def test_palette_and_1_bit_png(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (9, 17), np.uint8)
    (tmp_path / "bits.png").write_bytes(png_bytes(bits, 1, 0))
    picture = read_picture(tmp_path / "bits.png")
    assert picture.grey
    np.testing.assert_array_equal(picture.pixels[..., 0], bits * 255)
    colours = bytes([10, 20, 30, 200, 100, 50])
    (tmp_path / "palette.png").write_bytes(png_bytes(bits, 8, 3, palette=colours))
    picture = read_picture(tmp_path / "palette.png")
    np.testing.assert_array_equal(picture.pixels, np.array([[10, 20, 30], [200, 100, 50]], np.uint8)[bits])


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_slivers(tmp_path: Path, container: str, shape: tuple[int, int]) -> None:
    write_picture(tmp_path / f"a.{container}", Picture(smooth(*shape)))
    assert read_picture(tmp_path / f"a.{container}").pixels.shape == (*shape, 3)


def test_pages_are_counted(tmp_path: Path) -> None:
    first, second = Image.fromarray(smooth(20, 30)), Image.new("RGB", (20, 30))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    picture = read_picture(tmp_path / "a.tif")
    assert ["2 pictures" in notice for notice in picture.notices] == [True]
    np.testing.assert_array_equal(picture.pixels, smooth(20, 30))


def test_grey_profile_does_not_land_on_rgb_webp(tmp_path: Path) -> None:
    profile = bytearray(srgb_profile())
    profile[16:20] = b"GRAY"
    write_picture(tmp_path / "a.webp", Picture(smooth(9, 9), grey=True, icc=bytes(profile)))
    with Image.open(tmp_path / "a.webp") as image:
        assert "icc_profile" not in image.info


def test_padded_and_malformed_profiles(tmp_path: Path) -> None:
    profile = srgb_profile()
    for stored, kept in [(profile + b"\0\0\0", profile), (profile[:200], None), (b"nonsense", None)]:
        write_picture(tmp_path / "a.png", Picture(smooth(9, 9), icc=stored))
        with Image.open(tmp_path / "a.png") as image:
            assert image.info.get("icc_profile") == kept


def test_damaged_files_never_spill_or_break(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes changed at random give a picture that can be written everywhere, or one line."""
    random = np.random.default_rng(0)
    refusals: list[str] = []
    for container in CONTAINERS:
        whole = tagged(tmp_path / f"whole.{container}").read_bytes()
        path = tmp_path / f"a.{container}"
        for attempt in range(20):
            damaged = bytearray(whole)
            for _ in range(3):
                damaged[random.integers(len(whole) if attempt % 2 else 400)] = random.integers(256)
            path.write_bytes(damaged)
            try:
                picture = read_picture(path)
                upright = picture.with_pixels(picture.pixels).upright()
                for target in CONTAINERS:
                    if max(upright.pixels.shape) < 1000:
                        write_picture(tmp_path / f"b.{target}", upright)
            except UserError as error:
                refusals.append(str(error))
    assert all("a." in line and line.startswith("cannot read ") and "\n" not in line for line in refusals)
    assert capfd.readouterr() == ("", "")
