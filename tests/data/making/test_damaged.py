"""A damaged frame in the middle of a film: exposures and clips around it are made all the same."""

import numpy as np
import pytest

from mtdeblur.data.disk.frames import find_clips
from mtdeblur.data.feeding.pack import Pack, build_pack
from mtdeblur.data.making.faults import scan_clip
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.plan import Recipe
from mtdeblur.errors import UserError

av = pytest.importorskip("av")


def film(path, damaged, frames=45):
    """A film of a wave that moves; some of its pictures are garbage in the file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=60)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        y, x = np.mgrid[:48, :64]
        for index in range(frames):
            wave = 120 + 60 * np.sin((x + 2 * index) / 9) + 30 * np.cos((y - index) / 7)
            pixels = wave[..., None].repeat(3, axis=2).round().astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                if index in damaged:
                    whole, packet = packet, av.Packet(b"no picture" * 9)
                    packet.pts, packet.dts, packet.time_base = whole.pts, whole.dts, whole.time_base
                    packet.stream = stream
                container.mux(packet)
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("keep_faulty", [False, True])
def test_only_exposures_with_the_damaged_frame_are_left_out(tmp_path, keep_faulty):
    path = film(tmp_path / "a.avi", {18})
    (clip,) = find_clips([path])
    faults = scan_clip(clip, faults=not keep_faulty).faults
    assert [fault.index for fault in faults] == [18, 19]
    rows = augment([path], tmp_path / "made", Recipe((7,), (), keep_faulty=keep_faulty), workers=1)
    spans = [(row.first_frame, row.last_frame) for row in rows if row.level == 7]
    assert len(spans) == 2 + 3  # of 18 and 26 whole frames
    assert not any(first <= 18 <= last for first, last in spans)


def test_a_pack_keeps_the_whole_frames_around_it(tmp_path):
    build_pack(tmp_path / "pack.zip", clips=[film(tmp_path / "a.avi", {18})])
    assert [len(clip) for clip in Pack(tmp_path / "pack.zip").clips] == [18, 26]
    build_pack(tmp_path / "few.zip", clips=[tmp_path / "a.avi"], runs=2)
    assert [len(clip) for clip in Pack(tmp_path / "few.zip").clips] == [13, 13]


def test_a_film_without_a_whole_frame_is_refused(tmp_path):
    path = film(tmp_path / "a.avi", set(range(45)))
    with pytest.raises(UserError, match="is damaged"):
        augment([path], tmp_path / "made", Recipe((7,), ()), workers=1)
    with pytest.raises(UserError, match="13 undamaged ones in a row"):
        build_pack(tmp_path / "pack.zip", clips=[path])
