# pyright: reportUnknownMemberType=false
"""Exposures from high-speed frames: read the frames, average the levels by Eq. (1), write the pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtdeblur.data.disk.manifest import Row, write_level
from mtdeblur.data.making.interpolation import Interpolation, frame_window
from mtdeblur.data.making.plan import Exposure
from mtdeblur.exposure.crf import CRF, IDENTITY
from mtdeblur.exposure.levels import temporal_ladder, temporal_level

Pixels = NDArray[Any]
_BAND = 48  # rows averaged at a time, to fit the processor's cache


def make_exposure(
    exposure: Exposure, dataset: Path, crf: CRF = IDENTITY, interpolation: Interpolation | None = None
) -> list[Row]:
    """Write the pictures of one exposure; the bytes depend on the arguments alone.

    Args:
        exposure: the frames and levels.
        dataset: folder of the data set.
        crf: camera response function g.
        interpolation: optional frame interpolation; the exposure then counts all frames.

    Returns:
        The manifest's rows of its pictures, levels increasing.

    Raises:
        UserError: if a frame cannot be read or a picture cannot be written.
    """
    window = max(exposure.levels)
    first = exposure.middle - window // 2
    frames = frame_window(exposure.clip, interpolation).run(first, window)
    levels = average_levels([frame.pixels for frame in frames], exposure.levels, crf)
    return [
        write_level(
            dataset,
            picture,
            split=exposure.split,
            clip=exposure.clip.name,
            name=f"{frames[window // 2].since:06d}",
            level=n,
            input_level=exposure.level,
            source=exposure.clip.source,
            first_frame=frames[window // 2 - n // 2].since,
            last_frame=frames[window // 2 + (n - 1) // 2].until,
            crf=crf.name,
            interpolated=interpolation.times if interpolation else 0,
        )
        for n, picture in levels.items()
    ]


def average_levels(frames: Sequence[Pixels], levels: Sequence[int], crf: CRF = IDENTITY) -> dict[int, Pixels]:
    """Levels of one exposure around its mid-frame T // 2: Eq. (1), in 32 bits, rounded to the frames' depth.

    Args:
        frames: T consecutive frames, (H, W, 3) uint8 or uint16 of stored values.
        levels: an even level averages one frame more before the mid-frame than after it.
        crf: camera response function g.

    Returns:
        Level to picture, shape and dtype of a frame.

    Raises:
        ValueError: if there are too few frames for a level.
    """
    averaged = {n: np.empty_like(frames[0]) for n in levels}
    white = float(np.iinfo(frames[0].dtype).max)
    for top in range(0, len(frames[0]), _BAND):
        rows = slice(top, top + _BAND)
        stored = np.stack([frame[rows] for frame in frames]).astype(np.float32) / np.float32(white)
        for n, band in _levels_of(torch.from_numpy(stored), levels, crf).items():
            averaged[n][rows] = band.mul(white).round().numpy().astype(frames[0].dtype)
    return averaged


def _levels_of(stored: torch.Tensor, levels: Sequence[int], crf: CRF) -> dict[int, torch.Tensor]:
    middle = len(stored) // 2
    half = max((n // 2 for n in levels if n % 2), default=0)
    ladder = temporal_ladder(stored[middle - half : middle + half + 1], [n for n in levels if n % 2], crf)
    return {n: ladder[n] if n % 2 else temporal_level(stored, n, crf, start=middle - n // 2) for n in levels}
