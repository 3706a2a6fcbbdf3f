"""Generated videos, and deblurrers without a network."""

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtdeblur.media.encoding import scheduling_kept

CHAPTERS = [("Beginning", 0, 400), ("End", 400, 1000)]  # in milliseconds
LINES = [(100, 300, "Hello"), (500, 400, "World")]  # begin and duration in milliseconds


def scene(number: int, height: int, width: int) -> np.ndarray:
    """A smooth moving picture: (H, W, 3) uint16."""
    y, x = np.mgrid[:height, :width]
    wave = 128 + 60 * np.sin((x + 3 * number) / 9) + 50 * np.cos((y - number) / 7)
    return ((wave[..., None] + [0, 8, -16]).clip(0, 255) * 257).astype(np.uint16)


def write_clip(
    path: Path,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[int] = range(0, 30 * 3003, 3003),
    time_base: Fraction = Fraction(1, 90000),
    rate: Fraction = Fraction(30000, 1001),
    size: tuple[int, int] = (48, 64),
    sound: str | None = None,
    subtitles: str | None = None,
    attachment: bytes | None = None,
    matrix: Sequence[int] | None = None,
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    damaged: Collection[int] = (),
    **context: Any,
) -> Path:
    """Write a video; `context` has attributes of the encoder, such as colour tags.

    The packets of `damaged`, counted from 0, hold garbage.
    """
    import av

    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=rate, options=options or {})
        (video.height, video.width), video.pix_fmt = size, pixel_format
        video.time_base = video.codec_context.time_base = time_base
        video.metadata["language"] = "deu"
        for name, value in context.items():
            setattr(video.codec_context, name, value)
        if matrix is not None:
            video.set_display_matrix(matrix)
        if sound:
            audio = output.add_stream(sound, rate=48000, layout="mono")
            audio.metadata["language"] = "fra"
        if subtitles:
            text = output.add_mux_stream(subtitles)
            text.time_base = Fraction(1, 1000)
        if attachment is not None:
            output.add_attachment("font.ttf", "font/ttf", attachment)
        output.metadata.update({"title": "A clip"} | (metadata or {}))
        output.set_chapters([
            {"id": n, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": name}}
            for n, (name, start, end) in enumerate(CHAPTERS)
        ])  # fmt: skip
        with scheduling_kept():
            output.start_encoding()
        encoded = []
        for number, pts in enumerate(times):
            frame = av.VideoFrame.from_ndarray(scene(number, *size), format="rgb48le")
            frame = frame.reformat(format=pixel_format, dst_color_range=context.get("color_range", 1))
            frame.pts, frame.time_base = pts, time_base
            encoded += video.encode(frame)
        for number, packet in enumerate([*encoded, *video.encode()]):
            output.mux(_garbage(packet, video) if number in damaged else packet)
        if sound:
            for packet in _sound(audio):
                output.mux(packet)
        for start, duration, line in LINES if subtitles else ():
            content = line.encode()
            packet = av.Packet(len(content).to_bytes(2) + content if subtitles == "mov_text" else content)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = duration, Fraction(1, 1000), text
            output.mux(packet)
    return path


def _garbage(whole: Any, stream: Any) -> Any:
    import av

    packet = av.Packet(bytes(whole)[:4] + b"\x01\xff\x7e" * 20)
    packet.pts, packet.dts, packet.time_base = whole.pts, whole.dts, whole.time_base
    packet.stream, packet.is_keyframe = stream, whole.is_keyframe
    return packet


def _sound(stream: Any) -> Iterator[Any]:
    import av

    size = stream.codec_context.frame_size or 1024
    rng = np.random.default_rng(0)
    for start in range(0, 48000, size):
        wave = rng.integers(-9000, 9000, (1, size)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        resampler = av.AudioResampler(stream.codec_context.format, "mono", 48000)
        for part in resampler.resample(frame):
            yield from stream.encode(part)
    yield from stream.encode()


class FakeDeblurrer:
    """A deblurrer without a network: its function is called for every frame."""

    iterations = 1

    def __init__(self, function=lambda pixels: pixels, *, fails_after=None, with_error=KeyboardInterrupt):
        self.function, self.calls = function, 0
        self.kept: list[Any] = []
        self._fails_after, self._error = fails_after, with_error

    def keep_parts(self, height: int, width: int, kept: Sequence[Any] = ()) -> list[Any]:
        self.kept = list(kept) or ["whole", 0, 0, False]
        return self.kept

    def progress(self, image: np.ndarray, report, /, *, every, notify) -> Iterator[np.ndarray]:
        if self.calls == self._fails_after:
            raise self._error
        self.calls += 1
        report(1.0)
        yield self.function(image)


class Log:
    """A receiver of progress that remembers it."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.notices: list[str] = []
        self.done = 0

    def began(self, what: str, total: int, done: int) -> None:
        self.stages.append((what, total, done))

    def advanced(self) -> None:
        self.done += 1

    def noticed(self, notice: str) -> None:
        self.notices.append(notice)


@pytest.fixture
def make_clip():
    """The function `write_clip`."""
    pytest.importorskip("av")
    return write_clip


@pytest.fixture
def fake():
    """The class `FakeDeblurrer`."""
    return FakeDeblurrer


@pytest.fixture
def log() -> Log:
    """A receiver of progress."""
    return Log()
