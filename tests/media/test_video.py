import io
import os
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mtdeblur.errors import UserError
from mtdeblur.media.clip import survey
from mtdeblur.media.video import video_frames

av = pytest.importorskip("av")

DATA = os.environ.get("MTDEBLUR_DATA")


def scene(index, height=48, width=64):
    """A smooth picture that moves and whose brightness tells its number."""
    y, x = np.mgrid[:height, :width]
    wave = 20 * np.sin((x + 3 * index) / 9) + 10 * np.cos((y - index) / 7)
    return (20 + 3.5 * index + wave[..., None] + [0, 8, 16]).round().clip(0, 255).astype(np.uint8)


def write(path, frames, *, codec="libx264", times=None, rate=240, pixel_format="yuv420p", options=None):
    """A video of these (H, W, 3) frames; times are in ticks of 1/960 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = Fraction(1, 960)
        for index, pixels in enumerate(frames):
            kind = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
            frame = av.VideoFrame.from_ndarray(pixels, format=kind)
            frame.pts, frame.time_base = (4 * index if times is None else times[index]), Fraction(1, 960)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def all_of(path, start=0):
    return [(frame.index, frame.time, frame.read()) for frame in video_frames(path, start)]


LOSSLESS = {"crf": "0", "preset": "ultrafast"}
CODECS = {
    "h264 with long groups and B-frames": ("libx264", "mp4", {"g": "40", "bf": "3", "crf": "12"}),
    "h264 with open groups": ("libx264", "mkv", {"x264-params": "open-gop=1:keyint=9:bframes=3:b-adapt=0"}),
    "mpeg4, no timestamps": ("mpeg4", "avi", {"g": "10", "b": "4000000"}),
    "mpeg transport stream": ("libx264", "ts", {"g": "12", "bf": "2"}),
}


@pytest.mark.parametrize("name", CODECS)
def test_a_number_means_the_same_frame_wherever_reading_starts(tmp_path, name):
    codec, suffix, options = CODECS[name]
    path = write(tmp_path / f"clip.{suffix}", [scene(n) for n in range(50)], codec=codec, options=options)
    whole = all_of(path)
    assert [index for index, _, _ in whole] == list(range(len(whole)))
    assert len(whole) == 50
    for number, (_, _, pixels) in enumerate(whole):  # in the right order: 3.5 levels apart
        np.testing.assert_allclose(pixels.mean(), scene(number).mean(), atol=1.7)
    for start in (1, 8, 9, 17, 18, 23, 39, 40, 41, 49):
        part = all_of(path, start)
        assert [(index, time) for index, time, _ in part] == [(i, t) for i, t, _ in whole[start:]]
        for (_, _, found), (_, _, expected) in zip(part, whole[start:], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_variable_frame_rates_keep_their_frames_and_times(tmp_path):
    times = [0, 4, 8, 12, 44, 48, 52, 53, 60, 100, 104]
    frames = [scene(number) for number in range(len(times))]
    path = write(tmp_path / "vfr.mkv", frames, codec="ffv1", times=times, pixel_format="bgr0")
    for start in (0, 3, 7):
        found = all_of(path, start)
        np.testing.assert_allclose([time for _, time, _ in found], np.array(times[start:]) / 960, atol=6e-4)
        for (_, _, pixels), expected in zip(found, frames[start:], strict=True):
            np.testing.assert_array_equal(pixels, expected)


def test_ten_bits_become_sixteen_and_full_range(tmp_path):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    frame = np.repeat(np.repeat(ramp[None, :, None], 48, 0), 3, 2)
    path = write(tmp_path / "deep.mkv", [frame] * 2, codec="ffv1", pixel_format="yuv444p10le")
    pixels = all_of(path)[1][2]
    assert pixels.dtype == np.uint16
    np.testing.assert_allclose(pixels, frame, atol=65535 / 876 * 1.5)  # 876 steps of 10 bits, limited range
    assert pixels.max() > 65400


def turned(path: Path, matrix) -> Path:
    """The same MP4 with another matrix in its track's header: x' = a x + c y, y' = b x + d y."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),  # right goes down: a quarter with the clock
        ((-1, 0, 0, -1), lambda picture: picture[::-1, ::-1]),
        ((0, -1, 1, 0), np.rot90),
    ],
)
def test_frames_stand_upright(tmp_path, matrix, expected):
    path = write(tmp_path / "clip.mp4", [scene(n) for n in range(3)])
    stored = all_of(path)[1][2]
    np.testing.assert_array_equal(all_of(turned(path, matrix))[1][2], expected(stored))


def test_a_file_that_only_opens_is_read_as_well(tmp_path):
    path = write(tmp_path / "clip.mp4", [scene(n) for n in range(20)], options={"g": "5"})

    class Remote:
        def open(self, mode):
            assert mode == "rb"
            return io.BytesIO(path.read_bytes())

    for (_, _, found), (_, _, expected) in zip(all_of(Remote(), 11), all_of(path, 11), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_long_videos_are_never_held_in_memory(tmp_path):
    import tracemalloc

    frames = [scene(n % 80, 240, 320) for n in range(120)]
    path = write(tmp_path / "long.mp4", frames, options={"preset": "ultrafast"})
    del frames
    tracemalloc.start()
    for frame in video_frames(path):
        frame.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 240 * 320 * 3


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name in ("text.mp4", "missing.mp4", "sound.mkv"):
        with pytest.raises(UserError, match=f"cannot read the video .*{name}: ") as caught:
            all_of(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.fault("unusual file names")
@pytest.mark.parametrize("name", ["Talk: part 2.mp4", "concat:a.mp4", "http:a.mp4", "-i.mp4", "%03d.mp4"])
def test_no_name_is_taken_for_an_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.mp4", [scene(n) for n in range(3)]).rename(name)
    assert len(all_of(Path(name))) == 3


@pytest.mark.fault("links and paths that lead elsewhere")
def test_lists_of_other_files_are_refused(tmp_path):
    write(tmp_path / "a.mp4", [scene(n) for n in range(3)])
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(UserError, match="list of other files"):
        all_of(tmp_path / "list.mp4")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path}/a.mp4\n")
    with pytest.raises(UserError, match="cannot read the video"):
        all_of(tmp_path / "list.mp4")


@pytest.mark.fault("decompression bomb")
@pytest.mark.parametrize("size", [(48, 64), (1100, 1200)])
@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mkv"), ("mjpeg", "avi"), ("mpeg4", "mp4")])
def test_frames_of_more_pixels_than_the_limit_are_refused(tmp_path, monkeypatch, size, codec, suffix):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write(tmp_path / f"a.{suffix}", [scene(0, *size)], codec=codec, pixel_format=pixel_format)
    monkeypatch.setenv("MTDEBLUR_MAX_PIXELS", str(size[0] * size[1]))
    assert survey(path).width == size[1]
    monkeypatch.setenv("MTDEBLUR_MAX_PIXELS", "3071")
    with pytest.raises(UserError, match=r"a\.\w+: .*MTDEBLUR_MAX_PIXELS") as caught:
        survey(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_codec_is_one_line(tmp_path):
    path = write(tmp_path / "a.avi", [scene(0)], codec="mjpeg", pixel_format="yuvj420p")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"XQZW"))
    with pytest.raises(UserError, match="does not know its codec"):
        all_of(path)


def test_behind_the_last_frame_there_is_nothing(tmp_path):
    path = write(tmp_path / "short.mp4", [scene(n) for n in range(3)])
    assert [len(all_of(path, start)) for start in (0, 2, 3, 9)] == [3, 1, 0, 0]


def write_damaged(path, codec, options, damaged, frames=40):
    """A video some of whose packets, counted from 0, hold garbage."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=60, options=options)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        packets = []
        for index in range(frames):
            packets += stream.encode(av.VideoFrame.from_ndarray(scene(index), format="rgb24"))
        for number, packet in enumerate([*packets, *stream.encode()]):
            if number in damaged:
                whole, packet = packet, av.Packet(bytes(packet)[:4] + b"\x01\xff\x7e" * 20)
                packet.pts, packet.dts, packet.time_base = whole.pts, whole.dts, whole.time_base
                packet.stream, packet.is_keyframe = stream, whole.is_keyframe
            container.mux(packet)
    return path


DAMAGED = {
    "mjpeg in avi": ("mjpeg", "avi", {}, {18}, range(18, 19)),
    "mjpeg in mkv": ("mjpeg", "mkv", {}, {18, 30}, (18, 30)),
    "the first one": ("mjpeg", "avi", {}, {0}, (0,)),
    "the last one": ("mjpeg", "mkv", {}, {39}, (39,)),
    "h264": ("libx264", "mp4", {"g": "10", "bf": "0", "crf": "12", "sc_threshold": "0"}, {14}, range(14, 20)),
    "h264 with B-frames": ("libx264", "mkv", {"x264-params": "keyint=10:bframes=2:b-adapt=0"}, {14}, None),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.fault("damaged frames of a video")
def test_a_damaged_frame_keeps_its_number_and_the_others_are_read(tmp_path, name):
    codec, suffix, options, packets, lost = DAMAGED[name]
    path = write_damaged(tmp_path / f"a.{suffix}", codec, options, packets)
    found = list(video_frames(path))
    assert [frame.index for frame in found] == list(range(40))
    damaged = [frame.index for frame in found if frame.damaged]
    if lost is None:
        assert set(damaged) <= set(range(10, 20))
        assert damaged
    else:
        assert damaged == list(lost)
    for frame in found:
        if frame.damaged:
            with pytest.raises(UserError, match=rf"frame {frame.index} of the video .* is damaged"):
                frame.read()
        else:
            np.testing.assert_allclose(frame.read().mean(), scene(frame.index).mean(), atol=1.7)
    for start in (1, 14, 18, 19, 25, 39):
        part = list(video_frames(path, start))
        assert [frame.index for frame in part] == list(range(start, 40))
        assert [frame.index for frame in part if frame.damaged] == [n for n in damaged if n >= start]


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder with a real video")
def test_a_real_video_is_entered_anywhere():
    path = Path(DATA, "highspeed/GOPR0477_11_00.mp4")
    whole = [frame.read()[::8, ::8].copy() for frame in video_frames(path)]
    assert len(whole) == 299
    for start in (1, 166, 249, 250, 251, 298):
        np.testing.assert_array_equal(next(video_frames(path, start)).read()[::8, ::8], whole[start])
