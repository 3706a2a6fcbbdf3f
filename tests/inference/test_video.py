"""Videos with a deblurrer that costs nothing: timestamps, other streams, tags, and resuming."""

import json
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtdeblur.errors import UserError
from mtdeblur.inference.video import deblur_video, plan_video
from mtdeblur.media.clip import survey

av = pytest.importorskip("av")

UNEVEN = [0, 900, 5000, 5100, 12000, 30000, 33003, 33004, 60000, 88000]
SLOW = [90 * time for time in UNEVEN]  # whole milliseconds
QUARTER = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]
SAMPLE = {"bgr0": 4, "yuv422p10le": 2}
PQ = {"color_range": 1, "color_primaries": 9, "color_trc": 16, "colorspace": 9}


def run(deblurrer, source: Path, target: Path, log, **choices):
    job = plan_video(source, target, **choices)
    return deblur_video(deblurrer, job, {"weights": "none"}, log)


def packets(path: Path, kind: str) -> list[list[tuple]]:
    """For each stream of a kind, time in seconds and content of its packets."""
    with av.open(str(path)) as container:
        found = {stream.index: [] for stream in container.streams if stream.type == kind}
        for packet in container.demux():
            if packet.size and packet.stream.index in found:
                found[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
    return list(found.values())


def shown(path: Path) -> list[tuple]:
    """Time in seconds and samples of every frame."""
    with av.open(str(path)) as container:
        return [
            (frame.pts * frame.time_base, [_samples(plane, frame.format.name) for plane in frame.planes])
            for frame in container.decode(video=0)
        ]


def _samples(plane, pixel_format: str) -> bytes:
    """The samples of a plane of one byte or word a pixel, or of four bytes, without padding."""
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
    return lines[:, : plane.width * SAMPLE.get(pixel_format, 1)].tobytes()


def times(path: Path) -> list[Fraction]:
    return [time for time, _ in shown(path)]


KNOWING = "prores_ks", "libsvtav1"  # whose decoders know colour tags that the file has not
CLIPS = {
    "mp4": ("mp4", {"sound": "aac", "subtitles": "mov_text"}),
    "mp4 of uneven frames": ("mp4", {"times": UNEVEN, "sound": "aac"}),
    "mp4 that starts late": ("mp4", {"times": [45000 + 3003 * n for n in range(20)], "sound": "aac"}),
    "mp4 without B-frames": ("mp4", {"options": {"bf": "0"}}),
    "mp4 of other ticks": ("mp4", {"time_base": Fraction(1, 600), "times": range(0, 600, 20)}),
    "mov": ("mov", {"sound": "pcm_s16le", "time_base": Fraction(1001, 30000), "times": range(30)}),
    "mov of prores": ("mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le", "sound": "pcm_s24le"}),
    "mov on its side": ("mov", {"matrix": QUARTER, "times": UNEVEN, "sound": "aac", "subtitles": "mov_text"}),
    "hevc of 10 bits": ("mp4", {"codec": "libx265", "pixel_format": "yuv420p10le", "sound": "aac", **PQ}),
    "av1": ("mp4", {"codec": "libsvtav1", "pixel_format": "yuv420p10le", "size": (64, 64)}),
    "mkv": ("mkv", {"sound": "flac", "subtitles": "subrip", "attachment": b"font"}),
    "mkv of uneven frames": ("mkv", {"times": SLOW, "sound": "libopus"}),
    "webm": ("webm", {"codec": "libvpx-vp9", "sound": "libopus"}),
    "transport stream": ("ts", {"times": [126000 + 3003 * n for n in range(30)], "sound": "mp2"}),
    "avi of mjpeg": ("avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "time_base": Fraction(1, 25),
                             "rate": Fraction(25), "times": range(25), "sound": "pcm_s16le"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CLIPS)
def test_timestamps_are_the_same_and_other_streams_have_the_same_bytes(name, tmp_path, make_clip, fake, log):
    suffix, content = CLIPS[name]
    source = make_clip(tmp_path / f"clip.{suffix}", **content)
    target = tmp_path / f"sharp.{suffix}"
    number = run(fake(), source, target, log)
    assert times(target) == times(source)
    assert number == log.done == len(times(source))
    for kind in ("audio", "subtitle", "attachment"):
        assert packets(target, kind) == packets(source, kind)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert [s.type for s in after.streams] == [s.type for s in before.streams]
        old, new = before.streams.video[0], after.streams.video[0]
        assert new.codec_context.name == old.codec_context.name
        assert new.format.name == old.format.name
        assert new.time_base == old.time_base
        if suffix not in ("ts", "avi"):
            assert [c["metadata"] for c in after.chapters()] == [c["metadata"] for c in before.chapters()]
            assert [c["start"] * c["time_base"] for c in after.chapters()] == [0, Fraction(2, 5)]
            assert after.metadata["title"] == "A clip"
        for was, now in zip(before.streams, after.streams, strict=True):
            assert now.language == was.language
            assert now.disposition == was.disposition
    assert not log.notices
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.parametrize("name", CLIPS)
def test_ffprobe_sees_the_same_times_sound_subtitles_and_tags(name, tmp_path, make_clip, fake, log):
    suffix, content = CLIPS[name]
    source = make_clip(tmp_path / f"clip.{suffix}", **content)
    target = tmp_path / f"sharp.{suffix}"
    run(fake(), source, target, log)

    def probe(path, *entries):
        command = ["ffprobe", "-v", "error", "-of", "json", "-show_data_hash", "md5", *entries, path]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    frames = "-show_frames", "-select_streams", "v", "-show_entries", "frame=best_effort_timestamp_time"
    tags = (
        "-show_entries",
        (
            "format_tags=title:stream_tags=language:stream_side_data=rotation:"
            "chapter_tags:chapter=start_time,end_time"
        ),
    )
    colours = "color_range,color_space,color_transfer,color_primaries,sample_aspect_ratio"
    assert len(probe(source, *frames)["frames"]) == len(content.get("times", range(30)))
    assert probe(target, *frames) == probe(source, *frames)
    for kind in "as":
        packets = "-select_streams", kind, "-show_entries", "packet=pts_time,data_hash"
        assert probe(target, *packets) == probe(source, *packets)
    assert probe(target, *tags) == probe(source, *tags)
    assert ("rotation" in json.dumps(probe(target, *tags))) == ("matrix" in content)
    if content.get("codec") not in KNOWING:
        shown = "-show_entries", f"stream={colours}"
        assert probe(target, *shown) == probe(source, *shown)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "gray", "bgr0"])
def test_without_a_change_every_sample_stays(pixel_format, tmp_path, make_clip, fake, log):
    source = make_clip(tmp_path / "clip.mkv", codec="ffv1", pixel_format=pixel_format, times=SLOW)
    run(fake(), source, tmp_path / "sharp.mkv", log)
    assert shown(tmp_path / "sharp.mkv") == shown(source)


def test_every_frame_is_deblurred_and_stays_at_its_place(tmp_path, make_clip, fake, log):
    source = make_clip(tmp_path / "clip.mkv", codec="ffv1", pixel_format="bgr0", times=SLOW)
    run(fake(lambda pixels: 255 - pixels), source, tmp_path / "sharp.mkv", log)
    for (_, (found,)), (_, (expected,)) in zip(shown(tmp_path / "sharp.mkv"), shown(source), strict=True):
        pixels, original = (
            np.frombuffer(raw, np.uint8).reshape(48, 64, 4)[:, :, :3] for raw in (found, expected)
        )
        np.testing.assert_array_equal(pixels, 255 - original)


def test_deep_frames_are_deblurred_with_all_their_bits(tmp_path, make_clip, fake, log):
    seen = []
    source = make_clip(tmp_path / "clip.mkv", codec="ffv1", pixel_format="yuv444p10le", times=[0])
    run(fake(lambda pixels: seen.append(pixels) or pixels), source, tmp_path / "sharp.mkv", log)
    assert seen[0].dtype == np.uint16
    assert len(np.unique(seen[0])) > 600


def test_rotation_colours_and_the_shape_of_pixels_stay(tmp_path, make_clip, fake, log):
    tags = {"color_range": 2, "color_primaries": 5, "color_trc": 6, "colorspace": 5}
    source = make_clip(
        tmp_path / "clip.mov",
        matrix=QUARTER,
        sample_aspect_ratio=Fraction(4, 3),
        pixel_format="yuvj420p",
        **tags,
    )
    run(fake(), source, tmp_path / "sharp.mov", log)
    old, new = survey(source), survey(tmp_path / "sharp.mov")
    assert old.matrix == new.matrix == tuple(QUARTER)
    assert old.aspect == new.aspect == Fraction(4, 3)
    assert old.colours == new.colours == (2, 5, 6, 5)
    assert (new.width, new.height) == (64, 48)


MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


@pytest.mark.parametrize(
    ("encoder", "option"),
    [
        ("libx265", {"x265-params": f"log-level=error:master-display={MASTERING}:max-cll=1000,400:hdr10=1"}),
        ("libx264", {"x264-params": f"mastering-display={MASTERING}:cll=1000,400"}),
    ],
)
@pytest.mark.parametrize("codec", [None, "hevc", "h264", "av1"])
def test_metadata_of_hdr_stay(encoder, option, codec, tmp_path, make_clip, fake, log):
    source = make_clip(
        tmp_path / "clip.mp4", codec=encoder, pixel_format="yuv420p10le", size=(64, 64), options=option, **PQ
    )
    run(fake(), source, tmp_path / "sharp.mp4", log, codec=codec)
    old, new = survey(source), survey(tmp_path / "sharp.mp4")
    assert old.light.levels == new.light.levels == (1000, 400)
    assert old.light.primaries is not None
    np.testing.assert_allclose(
        [float(v) for v in new.light.primaries], [float(v) for v in old.light.primaries], atol=2e-5
    )
    np.testing.assert_allclose([float(v) for v in new.light.luminance], [1e-4, 1000], atol=1 / (1 << 14))
    assert new.colours == old.colours == (1, 9, 16, 9)
    assert new.pixel_format == "yuv420p10le"


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies here")
def test_encoders_leave_the_priority_of_the_program_alone(tmp_path, make_clip, fake, log):
    """SVT-AV1 makes the thread that opens it a real-time one, if it may."""
    before = os.sched_getscheduler(0)
    run(fake(), make_clip(tmp_path / "clip.mp4", size=(64, 64)), tmp_path / "sharp.mp4", log, codec="av1")
    assert os.sched_getscheduler(0) == before


def test_a_codec_that_cannot_hold_hdr_metadata_is_told(tmp_path, make_clip, fake, log):
    option = {"x265-params": f"log-level=error:master-display={MASTERING}:max-cll=1000,400"}
    source = make_clip(
        tmp_path / "clip.mkv", codec="libx265", pixel_format="yuv420p10le", options=option, **PQ
    )
    run(fake(), source, tmp_path / "sharp.mkv", log, codec="vp9")
    assert any("HDR" in line for line in log.notices)
    assert any("bit depth" in line for line in log.notices)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.integers(1, 20000), min_size=1, max_size=40),
    start=st.integers(0, 90000),
    b_frames=st.sampled_from([0, 2]),
)
def test_any_timestamps_survive(gaps, start, b_frames, tmp_path, make_clip, fake, log):
    source = tmp_path / "clip.mp4"
    make_clip(source, times=np.cumsum([start, *gaps]).tolist(), size=(16, 16), options={"bf": str(b_frames)})
    run(fake(), source, tmp_path / "sharp.mp4", log, overwrite=True)
    assert times(tmp_path / "sharp.mp4") == times(source)


def test_streams_that_the_container_cannot_hold_are_told_and_left_out(tmp_path, make_clip, fake, log):
    source = make_clip(tmp_path / "clip.mkv", sound="flac", subtitles="subrip", attachment=b"font")
    run(fake(), source, tmp_path / "sharp.mp4", log)
    assert len(log.notices) == 2
    assert all("it is left out" in line for line in log.notices)
    assert [text in line for text, line in zip(("subrip", "font.ttf"), log.notices, strict=True)] == [
        True,
        True,
    ]
    found, expected = packets(tmp_path / "sharp.mp4", "audio"), packets(source, "audio")
    assert [data for _, data in found[0]] == [data for _, data in expected[0]]


def test_a_codec_that_the_container_cannot_hold_is_replaced_or_refused(tmp_path, make_clip, fake, log):
    source = make_clip(tmp_path / "clip.mkv", codec="ffv1", times=UNEVEN)
    run(fake(), source, tmp_path / "sharp.mov", log)
    assert survey(tmp_path / "sharp.mov").codec == "h264"
    assert any("ffv1" in line and "h264" in line for line in log.notices)
    with pytest.raises(UserError, match="choose another --codec or suffix"):
        plan_video(source, tmp_path / "other.mov", codec="ffv1")
    with pytest.raises(UserError, match="must be one of h264, "):
        plan_video(source, tmp_path / "other.mkv", codec="none")
    with pytest.raises(UserError, match="from 0 to 51"):
        plan_video(source, tmp_path / "other.mkv", codec="h264", crf=60)
    with pytest.raises(UserError, match="ffv1 has no crf"):
        plan_video(source, tmp_path / "other.mkv", codec="ffv1", crf=20)


def test_crf_decides_the_size(tmp_path, make_clip, fake, log):
    source = make_clip(tmp_path / "clip.mp4")
    sizes = []
    for crf in (10, 20, 40):
        run(fake(), source, tmp_path / f"{crf}.mp4", log, crf=crf)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)


def test_the_result_has_a_name_of_its_own(tmp_path, make_clip):
    source = make_clip(tmp_path / "clip.mp4", times=[0])
    assert plan_video(source).target == tmp_path / "clip-deblurred.mp4"
    (tmp_path / "folder").mkdir()
    assert plan_video(source, tmp_path / "folder").target == tmp_path / "folder/clip.mp4"
    with pytest.raises(UserError, match="would overwrite the input"):
        plan_video(source, source, overwrite=True)
    (tmp_path / "there.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="exists already"):
        plan_video(source, tmp_path / "there.mp4")
    with pytest.raises(UserError, match=r"must end in .*\.mp4"):
        plan_video(source, tmp_path / "clip.gif")
    other = source.rename(tmp_path / "clip.vob")
    assert plan_video(other).target == tmp_path / "clip-deblurred.mkv"


def test_interlaced_videos_are_refused(tmp_path, make_clip):
    source = make_clip(tmp_path / "clip.mp4", options={"x264-params": "tff=1"})
    with pytest.raises(UserError, match="is interlaced; deinterlace it first"):
        plan_video(source)


@pytest.mark.parametrize("content", [b"", b"no video" * 99])
def test_what_is_no_video_is_refused(content, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the video .*clip\.mp4"):
        plan_video(tmp_path / "clip.mp4")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_frames_of_negative_times_are_not_cut_off(suffix, tmp_path, fake, log):
    source, target = tmp_path / "clip.mkv", tmp_path / f"sharp.{suffix}"
    with av.open(str(source), "w", container_options={"avoid_negative_ts": "disabled"}) as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(-5, 10):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert times(source)[0] < 0
    assert run(fake(), source, target, log) == 15
    found = times(target)
    assert [time - found[0] for time in found] == [Fraction(number, 25) for number in range(15)]


@pytest.mark.parametrize("rate", [Fraction(1, 8), Fraction(1, 5), Fraction(2)])
def test_few_frames_a_second(rate, tmp_path, make_clip, fake, log):
    ticks = int(1 / rate * 1000)
    how = {
        "time_base": Fraction(1, 1000),
        "times": range(0, 6 * ticks, ticks),
        "rate": rate,
        "size": (16, 16),
    }
    source = make_clip(tmp_path / "clip.mkv", **how)
    assert run(fake(), source, tmp_path / "sharp.mkv", log) == 6
    assert times(tmp_path / "sharp.mkv") == times(source)


@pytest.mark.fault("unusual file names")
@pytest.mark.parametrize("name", ["Talk: part 2.mp4", "http:a.mp4", "-i.mp4", "%03d.mp4"])
def test_no_name_of_a_result_is_taken_for_an_address(name, tmp_path, make_clip, fake, log, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4", size=(16, 16))
    assert run(fake(), Path("clip.mp4"), Path(name), log) == 30
    assert len(times(tmp_path / name)) == 30


@pytest.mark.fault("links and paths that lead elsewhere")
@pytest.mark.parametrize("disguise", ["same", "dots", "symbolic link", "hard link"])
def test_a_video_is_never_overwritten(disguise, tmp_path, make_clip):
    (tmp_path / "in").mkdir()
    source = make_clip(tmp_path / "in/clip.mp4", size=(16, 16))
    target = {"same": source, "dots": tmp_path / "in/../in/clip.mp4"}.get(disguise, tmp_path / "b.mp4")
    if disguise == "symbolic link":
        target.symlink_to(source)
    if disguise == "hard link":
        target.hardlink_to(source)
    before = source.read_bytes()
    with pytest.raises(UserError, match="would overwrite the input"):
        plan_video(source, target, overwrite=True)
    assert source.read_bytes() == before
