import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from mtdeblur.data.disk.frames import Clip, Frame, clip_at
from mtdeblur.data.making.faults import Fault, Scan, find_faults, scan_clip
from mtdeblur.errors import UserError

DATA = os.environ.get("MTDEBLUR_DATA")


def texture(seed, size=400):
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = gaussian_filter(noise, 12)
    return 128 + 45 * smooth / smooth.std()


def film(count, speed=2.0, seed=0, noise=2.0):
    """A camera that pans over a texture at about this speed in pixels a frame, with a shaking hand."""
    scene, rng = texture(seed), np.random.default_rng(seed + 1)
    at = np.cumsum(speed * (1 + 0.25 * np.sin(np.arange(count) / 5)))
    frames = []
    for x in at:
        x = x % 200
        left, part = int(x), x % 1
        view = (1 - part) * scene[:135, left : left + 180] + part * scene[:135, left + 1 : left + 181]
        view = view[..., None] + rng.normal(scale=noise, size=(135, 180, 3))
        frames.append(view.round().clip(0, 255).astype(np.uint8))
    return frames


def faults(frames, numbers=None, times=None):
    count, found = find_faults(
        Frame(index, numbers[index] if numbers else index, times and times[index], lambda p=pixels: p)
        for index, pixels in enumerate(frames)
    )
    assert count == len(frames)
    return found


@settings(max_examples=10)
@given(speed=st.floats(0, 4), seed=st.integers(0, 99))
def test_an_undisturbed_pan_has_no_faults(speed, seed):
    assert faults(film(24, speed, seed)) == []


@pytest.mark.parametrize("at", [1, 2, 12, 30, 39])
def test_a_scene_cut_is_found(at):
    frames = [*film(at, seed=1), *film(40 - at, seed=2)]
    assert [(fault.index, fault.reason) for fault in faults(frames)] == [(at, "a scene cut")]


@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("at", [4, 20, 35])
def test_lost_frames_are_found(at, lost):
    frames = film(44)
    del frames[at : at + lost]
    assert [(fault.index, fault.reason[:20]) for fault in faults(frames)] == [(at, "frames are lost befo")]


def test_a_repeated_frame_is_found_with_what_it_replaces():
    frames = film(40)
    frames[20] = frames[19]
    assert [(f.index, f.reason[:10]) for f in faults(frames)] == [(20, "it repeats"), (21, "frames are")]
    frames = film(40)
    frames.insert(20, frames[19])
    assert [(f.index, f.reason) for f in faults(frames)] == [(20, "it repeats the frame before")]


def test_stillness_flicker_and_noise_are_no_faults():
    still = [np.full((90, 120, 3), 77, np.uint8)] * 30
    assert faults(still) == []
    assert faults(film(30, speed=0)) == []
    flicker = [
        (pixels * (0.5 + 0.05 * (index % 2))).astype(np.uint8) for index, pixels in enumerate(film(30))
    ]
    assert faults(flicker) == []


def test_sixteen_bits_are_judged_alike():
    frames = film(40)
    del frames[20]
    assert [f.index for f in faults([pixels.astype(np.uint16) * 257 for pixels in frames])] == [20]


def test_jumps_of_numbers_and_times_are_lost_frames():
    still = [np.full((20, 20, 3), 77, np.uint8)] * 6
    (fault,) = faults(still, numbers=[10, 12, 14, 18, 20, 22])
    assert fault == Fault(3, 18, "frames are lost before it: numbers jump from 14 to 18")
    regular = [index / 240 for index in range(6)]
    assert faults(still, times=regular) == []
    rounded = [round(time, 3) for time in regular]
    assert faults(still, times=rounded) == []
    (fault,) = faults(still, times=[*regular[:4], 5 / 240, 6 / 240])
    assert (fault.index, fault.reason) == (4, "frames are lost before it: 8.3 ms instead of 4.2")
    assert faults(still, times=[None] * 6) == []


def test_frames_of_another_size_and_unreadable_ones_are_left_out():
    frames = film(12)
    frames[8:] = [pixels[:100] for pixels in frames[8:]]

    def broken():
        raise UserError("cannot read the picture 4.png: no PNG")

    found = find_faults(
        Frame(index, index, None, broken if index == 4 else lambda p=pixels: p)
        for index, pixels in enumerate(frames)
    )[1]
    assert [(fault.index, fault.reason) for fault in found] == [
        (4, "cannot read the picture 4.png: no PNG"),
        (5, "the frame before cannot be read"),
        (8, "the frames change their size or depth"),
    ]


def test_runs_lie_between_the_faults():
    clip = Clip("walk", "walk", video=False)
    scan = Scan(clip, 30, (Fault(10, 10, ""), Fault(11, 11, "")), 1)
    assert scan.runs() == [range(10), range(10, 11), range(11, 30)]
    assert Scan(clip, 5, (), 1).runs() == [range(5)]


def test_a_clip_is_scanned_from_its_files(tmp_path, save):
    for number in (1, 2, 3, 5, 6):
        save(tmp_path / f"{number}.png", seed=0)
    scan = scan_clip(clip_at(tmp_path))
    assert (scan.frames, [fault.number for fault in scan.faults]) == (5, [5])
    assert 0.5 * 40 * 50 * 3 < scan.picture_bytes < 1.5 * 40 * 50 * 3
    (tmp_path / "1.png").write_bytes(b"broken")
    assert scan_clip(clip_at(tmp_path), faults=False) == Scan(scan.clip, 5, (), scan.picture_bytes)


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder with real high-speed frames")
@pytest.mark.parametrize(("name", "frames"), [("GOPR0477_11_00", 22), ("GOPR0477_11_00.mp4", 299)])
def test_real_footage_has_no_faults(name, frames):
    scan = scan_clip(clip_at(Path(DATA, "highspeed", name)))
    assert (scan.frames, scan.faults) == (frames, ())
