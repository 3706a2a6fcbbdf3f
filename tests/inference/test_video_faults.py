"""Videos with damaged frames, and work that is interrupted, repeated, or disturbed."""

import errno
import os
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtdeblur.errors import UserError
from mtdeblur.inference import video
from mtdeblur.inference.video import deblur_video, parts_of, plan_video

av = pytest.importorskip("av")

STEP = 3003
SETTINGS = {"weights": "none"}
GROUPS = {"g": "10", "bf": "0", "crf": "12", "sc_threshold": "0"}
DAMAGED = {
    "mjpeg": ({"codec": "mjpeg", "pixel_format": "yuvj420p"}, {18, 30}, {18, 30}),
    "mjpeg, the first": ({"codec": "mjpeg", "pixel_format": "yuvj420p"}, {0, 1}, {0, 1}),
    "mjpeg, the last": ({"codec": "mjpeg", "pixel_format": "yuvj420p"}, {39}, {39}),
    "h264": ({"options": GROUPS}, {14}, set(range(14, 20))),
}


class StoppedError(Exception):
    """What a deblurrer of these tests fails with."""


def invert(pixels: np.ndarray) -> np.ndarray:
    return 255 - pixels


def darken(pixels: np.ndarray) -> np.ndarray:
    return pixels // 2


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(video, "_SECONDS", Fraction(9, 30))


def run(deblurrer, source: Path, target: Path, log, chosen=SETTINGS, **choices):
    return deblur_video(deblurrer, plan_video(source, target, **choices), chosen, log)


def luma(path: Path) -> list[tuple[int, float]]:
    """Timestamp and mean luminance of every frame."""
    with av.open(str(path)) as container:
        return [
            (
                round(frame.pts * frame.time_base * 90000 / STEP),
                float(np.frombuffer(frame.planes[0], np.uint8).mean()),
            )
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.fault("damaged frames of a video")
def test_damaged_frames_keep_their_times_and_the_others_are_deblurred(name, tmp_path, make_clip, fake, log):
    content, packets, damaged = DAMAGED[name]
    frames = [STEP * number for number in range(40)]
    source = make_clip(tmp_path / "clip.mkv", times=frames, damaged=packets, **content)
    deblurrer = fake(darken)
    assert run(deblurrer, source, tmp_path / "sharp.mkv", log, codec="ffv1") == 40
    found = luma(tmp_path / "sharp.mkv")
    assert [number for number, _ in found] == list(range(40))
    assert deblurrer.calls in (40 - len(damaged), 40 - len(damaged) + 1)
    assert sum("is damaged" in line for line in log.notices) == 1
    assert any(f"{len(damaged)} damaged or interlaced frame" in line for line in log.notices)
    whole = luma(make_clip(tmp_path / "whole.mkv", times=frames, **content))
    for (number, level), (_, before) in zip(found, whole, strict=True):
        if number not in damaged:
            assert level < 0.75 * before


@pytest.mark.parametrize("name", [None, *DAMAGED])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.fault("SIGINT or SIGTERM")
def test_after_any_interruptions_the_result_has_the_same_bytes(name, suffix, tmp_path, make_clip, fake, log):
    content, packets, _ = DAMAGED[name] if name else ({}, set(), set())
    frames = [STEP * number for number in range(40)]
    source = make_clip(tmp_path / f"clip.{suffix}", times=frames, damaged=packets, sound="aac", **content)
    run(fake(darken), source, tmp_path / f"undisturbed.{suffix}", log)
    target, calls = tmp_path / f"sharp.{suffix}", 0
    for after in (3, 12, 10, 9):
        deblurrer = fake(darken, fails_after=after)
        with pytest.raises(KeyboardInterrupt):
            run(deblurrer, source, target, log)
        assert not target.exists()
        calls += deblurrer.calls
    deblurrer = fake(darken)
    run(deblurrer, source, target, log)
    assert target.read_bytes() == (tmp_path / f"undisturbed.{suffix}").read_bytes()
    assert calls + deblurrer.calls <= 41 + 4 * 10  # at most the segment in flight and one frame, each time
    assert not parts_of(target).exists()
    assert log.stages[-1] == ("frames", 40, log.stages[-1][2])
    assert log.stages[-1][2] >= 18


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failures=st.lists(st.integers(0, 30), max_size=6))
def test_any_failures_leave_the_result_the_same(failures, tmp_path, make_clip, fake, log):
    source = tmp_path / "clip.mp4"
    if not source.exists():
        make_clip(source, times=[100 * n * n + STEP * n for n in range(25)], sound="aac", size=(16, 16))
        run(fake(invert), source, tmp_path / "undisturbed.mp4", log)
    target = tmp_path / "sharp.mp4"
    target.unlink(missing_ok=True)
    for after in failures:
        if not target.exists():
            with suppress(StoppedError):
                run(fake(invert, fails_after=after, with_error=StoppedError), source, target, log)
    if not target.exists():
        run(fake(invert), source, target, log)
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()


def interrupted(tmp_path, make_clip, fake, log) -> tuple[Path, Path]:
    source, target = make_clip(tmp_path / "clip.mp4", size=(16, 16)), tmp_path / "sharp.mp4"
    with pytest.raises(KeyboardInterrupt):
        run(fake(fails_after=20), source, target, log)
    assert len(list(parts_of(target).glob("*.segment"))) == 2
    return source, target


@pytest.mark.fault("files that change between runs")
def test_segments_of_other_settings_or_another_input_are_not_used(tmp_path, make_clip, fake, log):
    source, target = interrupted(tmp_path, make_clip, fake, log)
    for chosen, choices in (
        ({"weights": "others"}, {}),
        (SETTINGS, {"crf": 30}),
        (SETTINGS, {"codec": "hevc"}),
    ):
        with pytest.raises(UserError, match="with other settings"):
            run(fake(), source, target, log, chosen, **choices)
    content = bytearray(source.read_bytes())
    other = tmp_path / "other.mp4"
    shutil.copyfile(source, other)
    content[-1] ^= 1
    source.write_bytes(content)
    with pytest.raises(UserError, match="with other settings"):
        run(fake(), source, target, log)
    deblurrer = fake()
    run(deblurrer, other, target, log)  # the same content under another name
    assert deblurrer.calls == 30 - 18


@pytest.mark.fault("files that change between runs")
def test_a_lost_or_damaged_segment_is_made_again(tmp_path, make_clip, fake, log):
    source, target = interrupted(tmp_path, make_clip, fake, log)
    run(fake(), source, tmp_path / "undisturbed.mp4", log)
    second = parts_of(target) / "000001.segment"
    second.write_bytes(second.read_bytes()[:-1])
    deblurrer = fake()
    run(deblurrer, source, target, log)
    assert deblurrer.calls == 30 - 9
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()


@pytest.mark.fault("torn journal")
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_torn_journal_costs_work_but_no_frame(share, tmp_path, make_clip, fake, log):
    source, target = interrupted(tmp_path, make_clip, fake, log)
    run(fake(), source, tmp_path / "undisturbed.mp4", log)
    journal = parts_of(target) / "journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: int(share * len(whole))])
    deblurrer = fake()
    run(deblurrer, source, target, log)
    assert 30 - 18 <= deblurrer.calls <= 30
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()


@pytest.mark.fault("lost output folder")
def test_a_lost_output_folder_is_one_line(tmp_path, make_clip, fake, log):
    source, folder = make_clip(tmp_path / "clip.mp4", size=(16, 16)), tmp_path / "out"
    folder.mkdir()
    run(fake(), source, tmp_path / "undisturbed.mp4", log)
    calls = []

    def lose(pixels):
        calls.append(1)
        if len(calls) == 15:
            folder.rename(tmp_path / "elsewhere")
        return pixels

    with pytest.raises(UserError, match="cannot write") as caught:
        run(fake(lose), source, folder / "sharp.mp4", log)
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder, ignore_errors=True)
    (tmp_path / "elsewhere").rename(folder)  # the disk is back
    deblurrer = fake()
    run(deblurrer, source, folder / "sharp.mp4", log)
    assert deblurrer.calls < 30
    assert (folder / "sharp.mp4").read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()


def test_the_parts_of_a_picture_are_those_of_the_first_run(tmp_path, make_clip, fake, log):
    source, target = interrupted(tmp_path, make_clip, fake, log)
    deblurrer = fake()
    deblurrer.keep_parts = lambda height, width, kept=(): seen.append(kept) or list(kept)
    seen = []
    run(deblurrer, source, target, log)
    assert seen == [["whole", 0, 0, False]]


@pytest.mark.fault("two runs at once")
def test_two_runs_at_once_into_one_result_are_refused(tmp_path, make_clip, fake, log):
    source, target = make_clip(tmp_path / "clip.mp4", size=(16, 16)), tmp_path / "sharp.mp4"
    refusals = []

    def again(pixels):
        if not refusals:
            with pytest.raises(UserError, match="another process is working in") as caught:
                run(fake(), source, target, log)
            refusals.append(caught)
        return pixels

    assert run(fake(again), source, target, log) == 30
    assert refusals


def test_an_existing_result_is_replaced_only_on_demand(tmp_path, make_clip, fake, log):
    source, target = make_clip(tmp_path / "clip.mp4", size=(16, 16)), tmp_path / "sharp.mp4"
    run(fake(), source, target, log)
    before = target.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        run(fake(invert), source, target, log)
    with pytest.raises(KeyboardInterrupt):
        run(fake(invert, fails_after=20), source, target, log, overwrite=True)
    assert target.read_bytes() == before
    with pytest.raises(UserError, match="exists already"):
        run(fake(invert), source, target, log)
    run(fake(invert), source, target, log, overwrite=True)
    assert target.read_bytes() != before


@pytest.mark.parametrize("moment", ["before the result is in its place", "before the parts are removed"])
@pytest.mark.fault("SIGINT or SIGTERM")
def test_a_run_that_ends_at_its_very_end_is_completed(moment, tmp_path, make_clip, fake, log, monkeypatch):
    source, target = make_clip(tmp_path / "clip.mp4", size=(16, 16)), tmp_path / "sharp.mp4"
    run(fake(), source, tmp_path / "undisturbed.mp4", log)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment.endswith("removed"):
            patch.setattr(video, "_remove", interrupt)
        else:
            patch.setattr(video._Work, "_put_in_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(fake(), source, target, log)
    deblurrer = fake()
    run(deblurrer, source, target, log)
    assert deblurrer.calls == 0
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()
    assert not parts_of(target).exists()


@pytest.mark.parametrize("call", [0, 2, 3, 6])
@pytest.mark.fault("full disk")
def test_a_full_disk_leaves_finished_segments_intact(call, tmp_path, make_clip, fake, log, monkeypatch):
    source, target = make_clip(tmp_path / "clip.mp4", size=(16, 16)), tmp_path / "sharp.mp4"
    run(fake(), source, tmp_path / "undisturbed.mp4", log)
    calls, sync = [], os.fsync

    def full(file):
        calls.append(file)
        if len(calls) > call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            run(fake(), source, target, log)
    assert not target.exists()
    run(fake(), source, target, log)
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()
