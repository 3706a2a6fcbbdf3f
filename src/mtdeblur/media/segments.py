"""Segments of an encoded video stream: files of packets with their exact timestamps.

A file is a sequence of packets in the order of decoding, each after a header of fixed size. The first one is
a key frame, and no packet refers to one of another file.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mtdeblur.files.atomic import atomic_path

_HEADER = struct.Struct("<qqBI")  # timestamp, duration, key frame, number of bytes


class Encoded(NamedTuple):
    """An encoded frame.

    Attributes:
        pts: presentation timestamp, in the clip's time base.
        duration: in the clip's time base; 0 if unknown.
        key: whether it is a key frame.
        data: the packet.
    """

    pts: int
    duration: int
    key: bool
    data: bytes


def write_segment(path: Path, frames: Iterable[Encoded]) -> int:
    """Write frames in the order of decoding, atomically, and return the file's number of bytes.

    Raises:
        UserError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            for frame in frames:
                file.write(_HEADER.pack(frame.pts, frame.duration, frame.key, len(frame.data)))
                file.write(frame.data)
        return temporary.stat().st_size


def read_segments(paths: Iterable[Path]) -> Iterator[Encoded]:
    """The frames of segments, in the order of decoding."""
    for path in paths:
        with path.open("rb") as file:
            while header := file.read(_HEADER.size):
                pts, duration, key, size = _HEADER.unpack(header)
                yield Encoded(pts, duration, bool(key), file.read(size))


def decoding_times(paths: Iterable[Path]) -> list[int]:
    """Decoding timestamps of the frames of segments, in the order of decoding.

    They rise strictly and are nowhere later than the presentation timestamps, which must differ: the sorted
    presentation timestamps, delayed by the number of frames by which the encoder reorders.
    """
    shown = [pts for path in paths for pts in _timestamps(path)]
    ordered = sorted(shown)
    rank = {pts: number for number, pts in enumerate(ordered)}
    delay = max((number - rank[pts] for number, pts in enumerate(shown)), default=0)
    before = [2 * ordered[0] - ordered[step] for step in range(delay, 0, -1)]
    return before + ordered[: len(ordered) - delay]


def first_time(paths: Sequence[Path]) -> int:
    """The lowest presentation timestamp, which is in the first segment; 0 without segments."""
    return min(_timestamps(paths[0]), default=0) if paths else 0


def _timestamps(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            pts, _, _, size = _HEADER.unpack(header)
            yield pts
            file.seek(size, os.SEEK_CUR)
