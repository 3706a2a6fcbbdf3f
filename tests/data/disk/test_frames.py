import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.disk.frames import (
    Clip,
    FrameWindow,
    clip_at,
    clip_frames,
    find_clips,
    place_of,
    read_frame,
)
from mtdeblur.errors import UserError
from mtdeblur.media.pictures import Picture, write_picture


def clip_of(folder):
    return clip_at(place_of(folder))


# -- finding


def test_gopros_layout_videos_and_single_folders_are_found(tmp_path, save):
    root = tmp_path / "GOPRO_Large_all"
    for part, name in (("train", "GOPR0372_07_00"), ("train", "GOPR0477_11_00"), ("test", "GOPR0384_11_00")):
        save(root / part / name / "000001.png")
    (root / "train" / "slow.MOV").write_bytes(b"")
    (root / "notes.txt").write_text("x")
    (root / ".hidden").mkdir()
    save(root / ".hidden" / "1.png")
    clips = find_clips([root])
    assert [(clip.parent, clip.name, clip.video) for clip in clips] == [
        ("test", "GOPR0384_11_00", False),
        ("train", "GOPR0372_07_00", False),
        ("train", "GOPR0477_11_00", False),
        ("train", "slow", True),
    ]
    single = find_clips([str(root / "train/GOPR0372_07_00"), root / "train/slow.MOV"])
    assert single == [clips[1], clips[3]]
    assert find_clips([root, root / "test"]) == clips  # what is named twice counts once


def test_what_cannot_be_a_source_is_refused_by_name(tmp_path, save):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "pairs/blur/1.png")
    save(tmp_path / "pairs/sharp/1.png")
    cases = {
        "empty": r"\.png.* nor videos",
        "missing": "there is no file or folder",
        "pairs": "GOPRO_Large_all",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            find_clips([tmp_path / name])
        assert "\n" not in str(caught.value)


def test_clips_of_one_name_are_told_apart_by_their_folders(tmp_path, save):
    for name in ("a/clip", "b/clip", "b/other", "c/clip.mp4"):
        if name.endswith("mp4"):
            (tmp_path / "c").mkdir()
            (tmp_path / name).touch()
        else:
            save(tmp_path / name / "1.png")
    clips = find_clips([tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "a/../a/clip"])
    assert [clip.name for clip in clips] == ["a-clip", "b-clip", "other", "c-clip"]
    assert clips[0].parent == "a"


# -- frames


def test_frames_have_the_numbers_of_their_names(tmp_path, save):
    for number in (165, 166, 168, 1000):
        save(tmp_path / f"numbers/frame_{number}.png", number)
        save(tmp_path / f"none/{'abcdefgh'[number % 7]}.png", number)
    found = list(clip_frames(clip_of(tmp_path / "numbers")))
    assert [(frame.index, frame.number) for frame in found] == [(0, 165), (1, 166), (2, 168), (3, 1000)]
    assert [frame.number for frame in clip_frames(clip_of(tmp_path / "none"), 2)] == [2, 3]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "ppm", "tga"])
def test_any_type_of_picture_is_a_frame(tmp_path, suffix):
    smooth = np.linspace(0, 255, 40 * 50 * 3).reshape(40, 50, 3).round().astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / f"1.{suffix}")
    (frame,) = clip_frames(clip_of(tmp_path))
    pixels = frame.read()
    assert (pixels.shape, pixels.dtype) == (smooth.shape, np.uint8)
    assert np.abs(pixels.astype(int) - smooth).max() <= (12 if suffix in ("jpg", "webp") else 0)


def test_sixteen_bits_are_kept_and_pictures_stand_upright(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), dtype=np.uint16)
    write_picture(tmp_path / "deep.png", Picture(deep))
    np.testing.assert_array_equal(read_frame(tmp_path / "deep.png"), deep)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_frame(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_broken_frames_are_refused_by_name(tmp_path):
    for suffix in ("png", "bmp"):
        (tmp_path / f"broken.{suffix}").write_bytes(b"no picture")
        with pytest.raises(UserError, match=rf"cannot read the picture .*broken\.{suffix}"):
            read_frame(tmp_path / f"broken.{suffix}")
        with pytest.raises(UserError, match="missing"):
            read_frame(tmp_path / f"missing.{suffix}")


def test_archives_and_remote_places_are_sources(tmp_path, save):
    pytest.importorskip("upath")
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    archive = tmp_path / "frames.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for number in range(3):
            save(tmp_path / "clip" / f"{number}.png", number)
            written.write(tmp_path / "clip" / f"{number}.png", f"train/clip/{number}.png")
            memory.pipe(f"/sources/train/clip/{number}.png", (tmp_path / f"clip/{number}.png").read_bytes())
    expected = [frame.read() for frame in clip_frames(clip_of(tmp_path / "clip"))]
    for source in (f"zip://::{archive}", "memory://sources"):
        (clip,) = find_clips([source])
        assert (clip.name, clip.parent) == ("clip", "train")
        for frame, pixels in zip(clip_frames(clip), expected, strict=True):
            np.testing.assert_array_equal(frame.read(), pixels)


def test_remote_videos_are_read(tmp_path):
    pytest.importorskip("upath")
    fsspec = pytest.importorskip("fsspec")
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "slow.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=240)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for level in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    fsspec.filesystem("memory").pipe("/videos/slow.mkv", (tmp_path / "slow.mkv").read_bytes())
    (clip,) = find_clips(["memory://videos"])
    assert [int(frame.read()[0, 0, 0]) for frame in clip_frames(clip, 7)] == list(range(70, 200, 10))


def test_without_fsspec_an_address_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(UserError, match=r"opening s3://.* needs upath: pip install 'mtdeblur\[data\]'"):
        find_clips(["s3://bucket/frames"])


# -- windows


def test_windows_read_each_frame_once_while_they_advance(tmp_path, save, monkeypatch):
    pixels = [save(tmp_path / f"{number:03}.png", number, 6, 8) for number in range(40)]
    reads = []
    from mtdeblur.data.disk import frames

    original = frames.read_frame
    monkeypatch.setattr(frames, "read_frame", lambda place: reads.append(place.name) or original(place))
    window = FrameWindow(Clip("clip", str(tmp_path), video=False))
    for first in (0, 4, 4, 9, 22, 30, 3, 27):
        run = window.run(first, 13 if first != 30 else 10)
        assert [frame.index for frame, _ in run] == list(range(first, first + len(run)))
        for frame, found in run:
            np.testing.assert_array_equal(found, pixels[frame.index])
    assert len(reads) == 40 + 13 + 13
    with pytest.raises(UserError, match="13 frames from frame 28"):
        window.run(28, 13)
