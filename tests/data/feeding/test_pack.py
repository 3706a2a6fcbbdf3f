import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.feeding.pack import Pack, build_pack, decode
from mtdeblur.errors import UserError

BOTH = ("blur", "sharp")


def names(pack):
    with zipfile.ZipFile(pack) as archive:
        return archive.namelist()


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- reading


def test_a_folder_and_its_archive_are_the_same_pack(folder, tmp_path):
    archive = tmp_path / "pack.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for file in folder.rglob("*.png"):
            written.write(file, file.relative_to(folder))
    packs = [Pack(folder), Pack(archive)]
    for pack in packs:
        assert (len(pack.photos), [len(clip) for clip in pack.clips]) == (5, [15, 15])
        assert (len(pack.valid_photos), len(pack.valid_pairs)) == (2, 2)
    for one, other in zip(
        *([*p.photos, *p.clips[1], *p.valid_photos, *sum(p.valid_pairs, ())] for p in packs), strict=True
    ):
        assert one.name == other.name
        np.testing.assert_array_equal(decode(one), decode(other))


def test_frames_stand_in_the_order_of_their_numbers(folder):
    assert [entry.name for entry in Pack(folder).clips[0]] == [f"{n}.png" for n in range(15)]


def test_hidden_and_other_files_are_passed_over(folder):
    for name in ("._0.png", ".DS_Store", "notes.txt"):
        (folder / "train/photos" / name).write_bytes(b"x")
        (folder / "train/clips" / name).write_bytes(b"x")
    pack = Pack(folder)
    assert (len(pack.photos), len(pack.clips)) == (5, 2)


def test_what_is_no_pack_is_refused_in_one_line(tmp_path):
    text = tmp_path / "text.zip"
    text.write_text("no archive")
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("holiday/1.jpg", b"x")
    zero = tmp_path / "zero.zip"
    zero.touch()
    for path in (text, empty, other, zero, tmp_path, tmp_path / "missing.zip"):
        with pytest.raises(UserError, match="mtdeblur pack") as caught:
            Pack(path)
        assert str(path) in one_line(caught)


def test_a_short_clip_is_refused(folder):
    for frame in range(12, 15):
        (folder / f"train/clips/clip1/{frame}.png").unlink()
    with pytest.raises(UserError, match="a clip has 12 frames; an exposure needs 13"):
        Pack(folder)


def test_a_picture_without_its_partner_is_told_and_left_out(folder, caplog):
    (folder / "valid/pairs/sharp/1.png").unlink()
    whole = len(list((folder / "valid/pairs/blur").iterdir()))
    assert len(Pack(folder).valid_pairs) == whole - 1
    assert "blur/1.png has no partner" in caplog.text
    (folder / "valid/pairs/blur/1.png").unlink()
    (folder / "train/pairs/blur").mkdir(parents=True)
    (folder / "valid/pairs/blur/0.png").rename(folder / "train/pairs/blur/0.png")
    (folder / "valid/pairs/sharp/0.png").unlink()
    with pytest.raises(UserError, match=r"train/pairs/blur/0\.png has no partner of its name"):
        Pack(folder)


# -- decoding


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_decoding_gives_8_bit_rgb_upright(tmp_path, save):
    pixels = save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(decode(tmp_path / "rgb.png"), pixels)
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(decode(tmp_path / "alpha.png"), pixels)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(decode(tmp_path / "grey.png"), pixels[..., :1].repeat(3, -1))
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    np.testing.assert_array_equal(decode(tmp_path / "grey16.png"), pixels[..., :1].repeat(3, -1))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_broken_pictures_are_refused_by_name(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8))
    broken = {
        "zero.png": b"",
        "text.jpg": b"not a picture",
        "half.jpg": encoded(image, "JPEG")[:700],
        "half.png": encoded(image)[:700],
        "half.tif": encoded(image, "TIFF")[:300],
        "half.webp": encoded(image, "WEBP")[:100],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name) as caught:
            decode(tmp_path / name)
        assert one_line(caught).startswith("cannot read the picture")
    with pytest.raises(UserError, match="missing"):
        decode(tmp_path / "missing.png")


def test_a_corrupt_entry_of_an_archive_is_refused_by_name(tmp_path, folder):
    archive = tmp_path / "corrupt.zip"
    content = (folder / "train/photos/0.png").read_bytes()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("train/photos/0.png", content)
    damaged = archive.read_bytes().replace(content[200:210], b"0123456789")
    archive.write_bytes(damaged)
    with pytest.raises(UserError, match=r"corrupt\.zip/train/photos/0\.png") as caught:
        decode(Pack(archive).photos[0])
    one_line(caught)


def test_a_damaged_list_of_an_archive_is_one_line(tmp_path, folder):
    archive = tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive, "w") as written:
        written.write(folder / "train/photos/0.png", "train/photos/\N{LATIN SMALL LETTER E WITH ACUTE}.png")
    content = archive.read_bytes()
    at = content.rindex("\N{LATIN SMALL LETTER E WITH ACUTE}".encode())
    archive.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    with pytest.raises(UserError, match=r"damaged\.zip is no training pack") as caught:
        Pack(archive)
    one_line(caught)


@pytest.mark.fault("links and paths that lead elsewhere")
@pytest.mark.parametrize(
    "name", ["../{}", "/{}", "train/photos/../../../{}", "train/photos/..\\{}", "C:\\{}"]
)
def test_members_of_an_archive_lead_nowhere_else(tmp_path, folder, name):
    archive, secret = tmp_path / "sub/pack.zip", tmp_path / "secret.png"
    archive.parent.mkdir()
    Image.new("RGB", (9, 9), "red").save(secret)
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(archive, "w") as written:
        written.write(folder / "train/photos/0.png", "train/photos/0.png")
        written.writestr(name.format("secret.png"), (folder / "train/photos/1.png").read_bytes())
    pack = Pack(archive)
    shapes = {decode(entry).shape for entry in pack.photos}
    pack.close()
    assert (9, 9, 3) not in shapes
    assert sorted(tmp_path.rglob("*")) == [*before[:1], *sorted({archive, *before[1:]})]


# -- building


def test_every_tenth_photograph_of_a_folder_is_held_out(tmp_path, save):
    rng = np.random.default_rng(0)
    for index in rng.permutation(23):
        save(tmp_path / f"photos/{'sub/' if index % 2 else ''}p{index:02d}.png", int(index), 12, 12)
    build_pack(tmp_path / "pack.zip", photos=[tmp_path / "photos"])
    files = sorted((tmp_path / "photos").rglob("*.png"))
    held_out = {files[9].stem, files[19].stem}
    found = {
        part: {n[-7:-4] for n in names(tmp_path / "pack.zip") if n.startswith(part)}
        for part in ("train", "valid")
    }
    assert found["valid"] == held_out
    assert found["train"] == {file.stem for file in files} - held_out


def test_single_photographs_are_held_out_as_well_and_count_once(tmp_path, save):
    for index in range(10):
        save(tmp_path / f"photos/{index}.png", index, 12, 12)
    single = [tmp_path / f"photos/{index}.png" for index in range(10)]
    build_pack(tmp_path / "pack.zip", photos=[*single, *single])
    assert [name.split("/")[0] for name in names(tmp_path / "pack.zip")] == ["train"] * 9 + ["valid"]
    build_pack(tmp_path / "pack.zip", photos=[tmp_path / "photos", *single])
    assert len(names(tmp_path / "pack.zip")) == 10


def test_names_never_collide(tmp_path, save):
    for place in ("a", "b"):
        for suffix in ("jpg", "png", "tif"):
            save(tmp_path / place / "photos" / f"é #1.{suffix}", 1, 12, 12)
        for frame in range(13):
            save(tmp_path / place / "clip" / f"{frame}.png", frame, 12, 12)
    build_pack(
        tmp_path / "pack.zip",
        photos=[tmp_path / "a/photos", tmp_path / "b/photos"],
        clips=[tmp_path / "a/clip", tmp_path / "b/clip"],
    )
    listed = names(tmp_path / "pack.zip")
    assert len(set(listed)) == len(listed) == 6 + 26
    assert all(name.isascii() for name in listed)
    pack = Pack(tmp_path / "pack.zip")
    assert (len(pack.photos), [len(clip) for clip in pack.clips]) == (6, [13, 13])


def test_photographs_shrink_and_clips_and_pairs_keep_their_size(tmp_path, save):
    save(tmp_path / "photos/big.png", 0, 100, 200)
    save(tmp_path / "photos/small.png", 0, 30, 20)
    for side in ("blur", "sharp"):
        save(tmp_path / f"pairs/{side}/photos.png", 0, 100, 200)
    for frame in range(13):
        save(tmp_path / f"clip of photos/{frame}.png", frame, 100, 200)
    build_pack(
        tmp_path / "pack.zip",
        photos=[tmp_path / "photos"],
        pairs=tmp_path / "pairs",
        clips=[tmp_path / "clip of photos"],
        long_side=80,
    )
    pack = Pack(tmp_path / "pack.zip")
    assert [decode(entry).shape for entry in pack.photos] == [(40, 80, 3), (30, 20, 3)]
    for entry in (*pack.valid_pairs[0], *pack.clips[0]):
        assert decode(entry).shape == (100, 200, 3)


def test_what_is_packed_is_the_picture_to_within_jpegs_loss(tmp_path):
    smooth = np.linspace(0, 255, 48 * 64 * 3).reshape(48, 64, 3).round().astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "smooth.png")
    build_pack(tmp_path / "pack.zip", photos=[tmp_path / "smooth.png"], quality=95)
    loss = decode(Pack(tmp_path / "pack.zip").photos[0]).astype(int) - smooth
    assert np.abs(loss).max() <= 8
    assert np.abs(loss).mean() < 1


def test_pairs_are_copied_where_they_are_jpeg_and_stored_well_where_not(tmp_path, save):
    pixels = save(tmp_path / "pairs/blur/a.png", 0, 40, 50)
    for side in ("blur", "sharp"):
        (tmp_path / "pairs" / side).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pairs" / side / "b.jpg", quality=77)
    smooth = np.linspace(0, 255, 40 * 50 * 3).reshape(40, 50, 3).round().astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "pairs/sharp/a.png")
    build_pack(tmp_path / "pack.zip", train_pairs=tmp_path / "pairs", long_side=32, quality=60)
    pack = Pack(tmp_path / "pack.zip")
    assert not pack.valid_pairs
    assert [[entry.name for entry in pair] for pair in pack.pairs] == [
        ["00000-a.jpg"] * 2,
        ["00001-b.jpg"] * 2,
    ]
    for side, entry in zip(("blur", "sharp"), pack.pairs[1], strict=True):
        assert entry.read_bytes() == (tmp_path / f"pairs/{side}/b.jpg").read_bytes()
    loss = decode(pack.pairs[0][1]).astype(int) - smooth
    assert np.abs(loss).max() <= 6


def test_pairs_that_are_held_out_are_not_trained_on(tmp_path, save):
    for side in ("blur", "sharp"):
        for index in range(4):
            save(tmp_path / f"pairs/{side}/{index}.png", index, 12, 12)
        (tmp_path / "held" / side).mkdir(parents=True)
        (tmp_path / "held" / side / "2.png").symlink_to(tmp_path / f"pairs/{side}/2.png")
    build_pack(tmp_path / "pack.zip", pairs=tmp_path / "held", train_pairs=tmp_path / "pairs")
    pack = Pack(tmp_path / "pack.zip")
    assert [blurred.name[-5:] for blurred, _ in pack.pairs] == ["0.jpg", "1.jpg", "3.jpg"]
    assert [blurred.name[-5:] for blurred, _ in pack.valid_pairs] == ["2.jpg"]


def test_what_cannot_be_read_is_told_and_left_out(tmp_path, save, caplog):
    for index in range(12):
        save(tmp_path / f"photos/{index:02}.png", index)
    for side in ("blur", "sharp"):
        for index in range(3):
            save(tmp_path / f"pairs/{side}/{index}.png", index)
    sources = {"photos": [tmp_path / "photos"], "train_pairs": tmp_path / "pairs"}
    build_pack(tmp_path / "all.zip", **sources)
    for broken in ("photos/03.png", "pairs/sharp/1.png"):
        (tmp_path / broken).write_bytes(b"broken")
    build_pack(tmp_path / "fewer.zip", **sources)
    expected = [
        name
        for name in names(tmp_path / "all.zip")
        if name not in ("train/photos/000-00003-03.jpg", *(f"train/pairs/{s}/00001-1.jpg" for s in BOTH))
    ]
    assert names(tmp_path / "fewer.zip") == expected  # those held out stay the same
    assert len(expected) == 12 + 6 - 3
    for broken in ("03.png", "1.png"):
        assert len([line for line in caplog.messages if broken in line and "left out" in line]) == 1
    size = (tmp_path / "fewer.zip").stat().st_size
    caplog.clear()
    build_pack(tmp_path / "lower.zip", limit=size - 1, **sources)
    assert names(tmp_path / "lower.zip") == expected
    assert len(caplog.messages) == 2, "said once, however often the quality is lowered"


def test_only_unreadable_pictures_make_no_pack(tmp_path, save):
    for index in range(10):  # the tenth is held out: there is nothing to train on
        save(tmp_path / f"photos/{index}.png", index)
        if index < 9:
            (tmp_path / f"photos/{index}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"0\.png.*and 8 more") as caught:
        build_pack(tmp_path / "none.zip", photos=[tmp_path / "photos"])
    one_line(caught)
    assert not (tmp_path / "none.zip").exists()


def test_long_clips_give_runs_spread_evenly_and_short_ones_are_kept_whole(tmp_path, save):
    for frame in range(100):
        save(tmp_path / f"clip/{frame}.png", frame, 8, 8)
    build_pack(tmp_path / "long.zip", clips=[tmp_path / "clip"], runs=3)
    assert [int(clip[0].name[:-4]) for clip in Pack(tmp_path / "long.zip").clips] == [0, 43, 87]
    assert [len(clip) for clip in Pack(tmp_path / "long.zip").clips] == [13, 13, 13]
    build_pack(tmp_path / "whole.zip", clips=[tmp_path / "clip"], runs=8)
    assert [len(clip) for clip in Pack(tmp_path / "whole.zip").clips] == [100]
    for frame in range(13, 100):
        (tmp_path / f"clip/{frame}.png").unlink()
    build_pack(tmp_path / "short.zip", clips=[tmp_path / "clip"])
    assert [len(clip) for clip in Pack(tmp_path / "short.zip").clips] == [13]
    (tmp_path / "clip/0.png").unlink()
    with pytest.raises(UserError, match="12 frames"):
        build_pack(tmp_path / "none.zip", clips=[tmp_path / "clip"])
    assert not (tmp_path / "none.zip").exists()


def test_videos_are_read_frame_by_frame(tmp_path):
    av = pytest.importorskip("av")
    levels = [10 * index for index in range(20)]
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=240)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    build_pack(tmp_path / "pack.zip", clips=[tmp_path / "clip.mkv"], runs=1)
    (clip,) = Pack(tmp_path / "pack.zip").clips
    np.testing.assert_allclose([decode(entry).mean() for entry in clip], levels[:13], atol=1)
    (tmp_path / "text.mp4").write_text("no video")
    for name, why in (("text.mp4", "cannot read the video"), ("missing.mp4", "there is no file or folder")):
        with pytest.raises(UserError, match=f"{why} .*{name}") as caught:
            build_pack(tmp_path / "none.zip", clips=[tmp_path / name])
        one_line(caught)


def test_the_quality_falls_until_the_pack_fits(tmp_path, save):
    for index in range(4):
        save(tmp_path / f"photos/{index}.png", index, 64, 64)
    sizes = {}
    for quality in (92, 72, 60):
        build_pack(tmp_path / "pack.zip", photos=[tmp_path / "photos"], quality=quality)
        sizes[quality] = (tmp_path / "pack.zip").stat().st_size
    build_pack(tmp_path / "pack.zip", photos=[tmp_path / "photos"], limit=sizes[72])
    assert (tmp_path / "pack.zip").stat().st_size == sizes[72]
    with pytest.raises(UserError, match="does not fit"):
        build_pack(tmp_path / "pack.zip", photos=[tmp_path / "photos"], limit=sizes[60] - 1)


def test_the_same_sources_give_the_same_bytes(folder, tmp_path):
    for name in ("one.zip", "two.zip"):
        build_pack(tmp_path / name, photos=[folder / "train/photos"], clips=[folder / "train/clips/clip0"])
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_build_that_fails_leaves_the_old_pack_and_nothing_else(tmp_path, save):
    save(tmp_path / "photos/0.png")
    (tmp_path / "out").mkdir()
    build_pack(tmp_path / "out/pack.zip", photos=[tmp_path / "photos"])
    before = (tmp_path / "out/pack.zip").read_bytes()
    (tmp_path / "photos/0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"0\.png"):
        build_pack(tmp_path / "out/pack.zip", photos=[tmp_path / "photos"])
    assert (tmp_path / "out/pack.zip").read_bytes() == before
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["pack.zip"]


def test_a_pack_of_nothing_is_refused(tmp_path, folder):
    with pytest.raises(UserError, match="needs photographs, high-speed clips or pairs"):
        build_pack(tmp_path / "pack.zip")
    with pytest.raises(UserError, match="needs photographs, high-speed clips or pairs"):
        build_pack(tmp_path / "pack.zip", pairs=folder / "valid/pairs")
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(UserError, match=place.name):
            build_pack(tmp_path / "pack.zip", photos=[place])
    for number in (0, 1):
        (folder / f"valid/pairs/blur/{number}.png").rename(folder / f"valid/pairs/blur/{number + 7}.png")
    with pytest.raises(UserError, match="has no partner of its name"):
        build_pack(tmp_path / "pack.zip", photos=[folder / "train/photos"], pairs=folder / "valid/pairs")
    assert not (tmp_path / "pack.zip").exists()
