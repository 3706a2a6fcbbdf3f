"""Situations in which metadata, colour or the right picture was lost, checked with other programs."""

import io
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from mtdeblur.media.pictures import Picture, read_picture, write_picture

GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
CONTAINER = "http://ns.google.com/photos/1.0/container/"
IIM = b"\x1c\x02\x00\x00\x02\x00\x02\x1c\x02\x19\x00\x03cat\x1c\x02\x78\x00\x1aa cup of coffee on a table"


def pixels(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def image(height: int = 24, width: int = 32, seed: int = 0) -> Image.Image:
    return Image.fromarray(pixels(height, width, seed))


def rewritten(source: Path, target: Path | None = None) -> tuple[Path, Picture]:
    """The file that comes out when nothing is changed, and what was read."""
    target = target or source.with_name(f"out{source.suffix}")
    picture = read_picture(source)
    write_picture(target, picture.with_pixels(picture.pixels))
    return target, picture


def jpeg(**options) -> bytes:
    buffer = io.BytesIO()
    image().save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exiftool(path: Path, *tags: str) -> str:
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    options = [f"-{tag}" for tag in tags]
    return subprocess.run(
        ["exiftool", "-s", "-s", "-G1", "-a", *options, str(path)], capture_output=True, text=True, check=True
    ).stdout


# -- gain maps, motion photos and other appended pictures


def xmp_with_claims(*, elements: bool) -> bytes:
    claims = 'hdrgm:Version="1.0" GCamera:MotionPhoto="1"'
    inner = (
        "<Container:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'>"
        '<Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="99"/>'
        "</rdf:li></rdf:Seq></Container:Directory>"
    )
    if elements:
        claims, inner = "", inner + "<hdrgm:Version>1.0</hdrgm:Version>"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:hdrgm="{GAIN_MAP}" xmlns:Container="{CONTAINER}" xmlns:Item="{CONTAINER}item/" '
        'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmp:Rating="4" {claims}>{inner}<dc:source>D\u00fcne &amp; Meer</dc:source>'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


@pytest.mark.parametrize("elements", [False, True])
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_claims_about_a_gain_map_go_and_the_rest_stays(tmp_path: Path, suffix: str, elements: bool) -> None:
    source = tmp_path / f"a.{suffix}"
    image().save(source, xmp=xmp_with_claims(elements=elements))
    if suffix == "jpg":
        source.write_bytes(source.read_bytes() + jpeg())
    target, picture = rewritten(source)
    assert any("gain map" in notice for notice in picture.notices)
    with Image.open(target) as result:
        packet = result.info["xmp"]
    for gone in (b"GainMap", b"hdr-gain-map", b"Directory", b"MotionPhoto", b"hdrgm"):
        assert gone not in packet
    assert "D\u00fcne &amp; Meer".encode() in packet
    assert b'xmp:Rating="4"' in packet
    assert packet.startswith(b"<?xpacket begin")
    assert target.read_bytes().count(b"\xff\xd8\xff") == (suffix == "jpg")
    if suffix == "jpg" and shutil.which("exiftool"):
        assert exiftool(target, "XMP:all").splitlines()[-1:] != []
        assert "Rating: 4" in exiftool(target, "XMP:all")


def test_a_motion_photo_gets_a_notice(tmp_path: Path) -> None:
    packet = (
        xmp_with_claims(elements=False).replace(b'hdrgm:Version="1.0"', b"").replace(b"GainMap", b"Primary")
    )
    (tmp_path / "a.jpg").write_bytes(jpeg(xmp=packet) + b"\0\0\0\x18ftypmp42")
    _, picture = rewritten(tmp_path / "a.jpg")
    assert ["video" in notice for notice in picture.notices] == [True]


def with_index(first: bytes, second: bytes, kind: int) -> bytes:
    """Two pictures in one JPEG file, with the index of CIPA DC-007."""
    size = 4 + 4 + 82
    table = struct.pack(">HHI4sHHII", 0xB000, 7, 4, b"0100", 0xB001, 4, 1, 2)
    table += struct.pack(">HHII", 0xB002, 7, 32, 8 + 2 + 36 + 4)
    offset = len(first) + size - 2 - 8
    entries = struct.pack(">IIIHH", 0x30000, len(first) + size, 0, 0, 0)
    entries += struct.pack(">IIIHH", kind, len(second), offset, 0, 0)
    block = b"MM\0*" + struct.pack(">IH", 8, 3) + table + bytes(4) + entries
    segment = b"MPF\0" + block
    assert len(segment) + 4 == size
    return first[:2] + struct.pack(">HH", 0xFFE2, len(segment) + 2) + segment + first[2:] + second


def test_the_index_of_several_pictures(tmp_path: Path) -> None:
    apple = jpeg(
        xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a xmlns:H="http://ns.apple.com/HDRGainMap/1.0/"/></x:xmpmeta>'
    )
    for second, kind, expected in (
        (apple, 0, "gain map"),
        (jpeg(comment=b"urn:iso:std:iso:ts:21496:-1"), 0, "gain map"),
        (jpeg(), 0x20002, "2 pictures"),
        (jpeg(), 0x10001, None),  # a preview
    ):
        (tmp_path / "a.jpg").write_bytes(with_index(jpeg(), second, kind))
        with Image.open(tmp_path / "a.jpg") as stored:
            assert stored.n_frames == 2  # Pillow finds both by the index
        target, picture = rewritten(tmp_path / "a.jpg")
        assert [expected in notice for notice in picture.notices] == [True] * (expected is not None)
        assert b"MPF\0" not in target.read_bytes()


# -- animations and pages


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "gif"])
def test_more_pictures_get_a_notice(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    more = [image(seed=1), image(seed=2)]
    image().save(path, save_all=True, append_images=more, **({"duration": 100} if suffix != "tif" else {}))
    picture = read_picture(path)
    assert ["3 pictures; only the first" in notice for notice in picture.notices] == [True]
    with Image.open(path) as first:
        np.testing.assert_array_equal(picture.pixels, np.asarray(first.convert("RGB")))


# -- IPTC


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 4, 7])
@pytest.mark.parametrize("reversed_by_four", [False, True])
def test_iptc_of_any_type_is_kept_whole(
    tmp_path: Path, order: str, kind: int, reversed_by_four: bool
) -> None:
    records = IIM + bytes(-len(IIM) % 4)
    stored = records
    if reversed_by_four:
        stored = b"".join(records[i : i + 4][::-1] for i in range(0, len(records), 4))
    count = len(stored) // (4 if kind == 4 else 1)
    tifffile.imwrite(tmp_path / "a.tif", pixels(), photometric="rgb", byteorder=order)
    add_tag(tmp_path / "a.tif", 33723, kind, count, stored)
    target, picture = rewritten(tmp_path / "a.tif")
    assert picture.iptc == records
    with tifffile.TiffFile(target) as file:
        assert bytes(file.pages[0].tags[33723].value) == records
    assert exiftool(target, "IPTC:Caption-Abstract").strip().endswith("a cup of coffee on a table")


def add_tag(path: Path, tag: int, kind: int, count: int, value: bytes) -> None:
    """Append a tag to a TIFF file's first directory, by a copy of the directory at the end."""
    data = path.read_bytes()
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (number,) = struct.unpack_from(order + "H", data, start)
    entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(number)]
    place = len(data)
    entries.append(struct.pack(order + "HHII", tag, kind, count, place))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))
    table = struct.pack(order + "H", number + 1) + b"".join(entries) + bytes(4)
    data = data[:4] + struct.pack(order + "I", place + len(value)) + data[8:] + value + table
    path.write_bytes(data)


def test_iptc_moves_between_jpeg_and_tiff_without_the_old_thumbnail(tmp_path: Path) -> None:
    def resource(kind: int, content: bytes) -> bytes:
        return b"8BIM" + struct.pack(">HHI", kind, 0, len(content)) + content + bytes(len(content) % 2)

    path = resource(2000, b"a clipping path")
    segment = b"Photoshop 3.0\0" + path + resource(0x40C, b"old thumbnail") + resource(0x404, IIM)
    first = jpeg()
    head = struct.pack(">HH", 0xFFED, len(segment) + 2) + segment
    (tmp_path / "a.jpg").write_bytes(first[:2] + head + first[2:])
    for suffix in ("jpg", "tif"):
        target, _ = rewritten(tmp_path / "a.jpg", tmp_path / f"b.{suffix}")
        assert b"old thumbnail" not in target.read_bytes()
        assert path in target.read_bytes()
        back, picture = rewritten(target, tmp_path / "c.jpg")
        assert picture.iptc == IIM
        with Image.open(back) as result:
            assert result.info["photoshop"][0x404] == IIM


# -- colour of PNG


def chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_with(path: Path, *chunks: bytes) -> Path:
    buffer = io.BytesIO()
    image().save(buffer, "PNG")
    data = buffer.getvalue()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    return path


def chunks_of(path: Path) -> list[tuple[bytes, bytes]]:
    data, position, found = path.read_bytes(), 8, []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        content = data[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length)[0] == zlib.crc32(
            data[position + 4 : position + 8 + length]
        )
        found.append((data[position + 4 : position + 8], content))
        position += 12 + length
    return found


CHROMATICITIES = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    "added",
    [
        [(b"gAMA", struct.pack(">I", 100_000))],
        [(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", CHROMATICITIES)],
        [(b"sRGB", b"\1"), (b"gAMA", struct.pack(">I", 45_455))],
        [(b"cICP", bytes([12, 13, 0, 1]))],
    ],
)
def test_colour_chunks_are_kept(tmp_path: Path, added: list[tuple[bytes, bytes]]) -> None:
    source = png_with(tmp_path / "a.png", *(chunk(*each) for each in added))
    target, _ = rewritten(source)
    found = chunks_of(target)
    assert [each for each in found if each[0] in dict(added)] == added
    names = [name for name, _ in found]
    assert names.index(b"IHDR") < names.index(added[0][0]) < names.index(b"IDAT")
    with Image.open(target) as result:
        np.testing.assert_array_equal(np.asarray(result), pixels())


# -- text


def test_text_is_kept(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Jane Doe")
    text.add_text("Copyright", "CC0 \u00a9", zip=True)
    text.add_itxt("Description", "D\u00fcne \u2013 Meer", "de", "Beschreibung")
    text.add_itxt("Comment", "long " * 100, zip=True)
    image().save(tmp_path / "a.png", pnginfo=text)
    target, _ = rewritten(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(target) as after:
        before.load()
        after.load()
        assert after.text == before.text
        assert len(after.text) == 4
        assert after.text["Description"].tkey == "Beschreibung"


def test_text_behind_the_samples_is_kept_and_xmp_stands_once(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    image().save(buffer, "PNG", pnginfo=text)
    data = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk(b"tEXt", b"Author\0Jane") + data[-12:])
    target, _ = rewritten(tmp_path / "a.png")
    found = chunks_of(target)
    assert (b"tEXt", b"Author\0Jane") in found
    assert sum(content.startswith(b"XML:com.adobe.xmp") for _, content in found) == 1


def test_comments_of_jpeg_are_kept(tmp_path: Path) -> None:
    data = jpeg()
    comments = [b"first, in Latin-1: \xe9", b"second"]
    added = b"".join(struct.pack(">HH", 0xFFFE, len(each) + 2) + each for each in comments)
    (tmp_path / "a.jpg").write_bytes(data[:20] + added + data[20:])
    target, _ = rewritten(tmp_path / "a.jpg")
    found = target.read_bytes()
    assert added in found
    with Image.open(target) as result:
        assert result.info["comment"] == b"second"  # Pillow keeps the last


# -- resolution


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("NONE", (300, 300)),
        ("NONE", (1, 1)),
        ("NONE", (2, 1)),
        ("INCH", (300, 150)),
        ("CENTIMETER", (118, 118)),
    ],
)
def test_units_of_resolution_in_tiff(tmp_path: Path, unit: str, values: tuple[int, int]) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, pixels(), photometric="rgb", resolution=values, resolutionunit=unit)
    target, _ = rewritten(source)
    with tifffile.TiffFile(target) as file:
        tags = file.pages[0].tags
        assert tags["ResolutionUnit"].value.name == unit
        assert [tags[name].value for name in ("XResolution", "YResolution")] == [
            (value, 1) for value in values
        ]
    jpg, _ = rewritten(source, tmp_path / "b.jpg")
    png, _ = rewritten(source, tmp_path / "b.png")
    with Image.open(jpg) as as_jpeg, Image.open(png) as as_png:
        if unit == "NONE":
            across, down = as_jpeg.info["jfif_density"]
            assert as_jpeg.info["jfif_unit"] == 0
            assert across * values[1] == down * values[0]
            assert "dpi" not in as_png.info
        else:
            inches = np.array(values) * (1 if unit == "INCH" else 2.54)
            np.testing.assert_allclose(as_jpeg.info["dpi"], inches, atol=0.6)
            np.testing.assert_allclose(as_png.info["dpi"], inches, atol=0.02)


def test_an_unknown_resolution_stays_unknown(tmp_path: Path) -> None:
    image().save(tmp_path / "a.png")
    target, picture = rewritten(tmp_path / "a.png")
    assert picture.resolution is None
    assert b"pHYs" not in dict(chunks_of(target))
    tif, _ = rewritten(tmp_path / "a.png", tmp_path / "b.tif")
    with tifffile.TiffFile(tif) as file:
        assert file.pages[0].tags["ResolutionUnit"].value.name == "NONE"
    assert read_picture(tif).resolution is None


@pytest.mark.parametrize("unit", [0, 1, 2])
def test_units_of_resolution_in_jpeg(tmp_path: Path, unit: int) -> None:
    data = bytearray(jpeg())
    assert data[6:11] == b"JFIF\0"
    data[13:18] = struct.pack(">BHH", unit, 72, 96)
    (tmp_path / "a.jpg").write_bytes(data)
    target, _ = rewritten(tmp_path / "a.jpg")
    with Image.open(target) as result:
        assert (result.info["jfif_unit"], result.info["jfif_density"]) == (unit, (72, 96))


@pytest.mark.parametrize("unit", [0, 1])
def test_units_of_resolution_in_png(tmp_path: Path, unit: int) -> None:
    stored = struct.pack(">IIB", 11811, 3780, unit)
    target, _ = rewritten(png_with(tmp_path / "a.png", chunk(b"pHYs", stored)))
    assert [content for name, content in chunks_of(target) if name == b"pHYs"] == [stored]
