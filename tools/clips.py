# pyright: reportUnknownMemberType=false
"""Small videos with moving pictures, sound, subtitles and chapters."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container.core import Flags

_SOUND_RATE = 16000
_LINES = ((100, 300, "Hello"), (500, 400, "World"))  # begin and duration in milliseconds
_MILLISECOND = Fraction(1, 1000)


def write_clip(
    path: Path,
    *,
    codec: str,
    pixel_format: str = "yuv420p",
    frames: int = 12,
    rate: int = 10,
    size: tuple[int, int] = (40, 56),
    irregular: bool = False,
    options: dict[str, str] | None = None,
    sound: str | None = None,
    subtitles: str | None = None,
    attachment: bytes | None = None,
) -> None:
    """Write a video, always of the same bytes.

    Args:
        path: the file, whose suffix decides the container.
        codec: of the pictures.
        pixel_format: of the pictures.
        frames: their number.
        rate: frames a second.
        size: height and width.
        irregular: whether the timestamps are uneven.
        options: of the encoder.
        sound: codec of the sound, if any.
        subtitles: codec of the subtitles, if any.
        attachment: content of an attached file, if any.
    """
    with av.open(str(path), "w") as output:
        output.flags |= Flags.bitexact.value  # no random number in the file
        video: Any = output.add_stream(codec, rate=rate, options=options or {})
        (video.height, video.width), video.pix_fmt = size, pixel_format
        video.codec_context.thread_count = 1
        if irregular:
            video.time_base = video.codec_context.time_base = Fraction(1, 90000)
        audio: Any = output.add_stream(sound, rate=_SOUND_RATE, layout="mono") if sound else None
        text: Any = output.add_mux_stream(subtitles) if subtitles else None
        if text is not None:
            text.time_base = _MILLISECOND
        if attachment is not None:
            output.add_attachment("font.ttf", "font/ttf", attachment)
        output.metadata.update({"title": "A clip"})
        chapter: Any = {
            "id": 0,
            "start": 0,
            "end": 600,
            "time_base": _MILLISECOND,
            "metadata": {"title": "A"},
        }
        output.set_chapters([chapter])
        output.start_encoding()
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(_scene(number, *size), format="rgb24")
            if irregular:
                frame.pts, frame.time_base = 9000 * number + 100 * (number % 7), Fraction(1, 90000)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        for packet in _sound(audio, frames / rate) if audio is not None else ():
            output.mux(packet)
        for start, duration, line in _LINES if text is not None else ():
            content = line.encode()
            content = len(content).to_bytes(2) + content if subtitles == "mov_text" else content
            packet: Any = av.Packet(content)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = duration, _MILLISECOND, text
            output.mux(packet)


def _scene(number: int, height: int, width: int) -> Any:
    y, x = np.mgrid[:height, :width]
    wave = 128 + 60 * np.sin((x + 3 * number) / 9) + 50 * np.cos((y - number) / 7)
    return (wave[..., None] + [0, 8, -16]).clip(0, 255).astype(np.uint8)


def _sound(stream: Any, seconds: float) -> Iterator[Any]:
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(stream.codec_context.format, "mono", _SOUND_RATE)
    chance = np.random.default_rng(0)
    for start in range(0, round(seconds * _SOUND_RATE), size):
        wave = chance.integers(-9000, 9000, (1, size)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = _SOUND_RATE, start, Fraction(1, _SOUND_RATE)
        for part in resampler.resample(frame):
            yield from stream.encode(part)
    yield from stream.encode()
