# pyright: reportUnknownMemberType=false
"""Exposures from high-speed frames: read the frames, average the levels by Eq. (1), write the pictures."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtdeblur.data.disk.frames import Clip, FrameWindow
from mtdeblur.data.disk.manifest import Row, write_level
from mtdeblur.data.making.plan import Exposure
from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import CRF, IDENTITY
from mtdeblur.exposure.levels import temporal_ladder, temporal_level

Pixels = NDArray[Any]
Interpolate = Callable[[Pixels, Pixels], Sequence[Pixels]]
"""A frame interpolator: two consecutive frames, (H, W, 3) uint8 or uint16, to a constant number of frames
between them, evenly spaced in time, of the same shape and dtype. An exposure over n frames then averages the
n frames and all interpolated ones, which closes the gaps that fast objects leave in a blurred picture. It
must be picklable, such as a function of a module, because it is called in worker processes."""

_BAND = 48  # rows averaged at a time, to fit the processor's cache


def make_exposure(
    exposure: Exposure, dataset: Path, crf: CRF = IDENTITY, interpolate: Interpolate | None = None
) -> list[Row]:
    """Write the pictures of one exposure; the bytes depend on the arguments alone.

    Args:
        exposure: the frames and levels.
        dataset: folder of the data set.
        crf: camera response function g.
        interpolate: optional frame interpolator.

    Returns:
        The manifest's rows of its pictures, levels increasing.

    Raises:
        UserError: if a frame cannot be read or a picture cannot be written.
    """
    window = max(exposure.levels)
    first = exposure.middle - window // 2
    run = _frame_window(exposure.clip).run(first, window)
    pixels = [frame for _, frame in run]
    if len({(frame.shape, frame.dtype) for frame in pixels}) > 1:
        raise UserError(f"the frames of {exposure.clip.source} change their size or depth within an exposure")
    levels = average_levels(pixels, exposure.levels, crf, interpolate)
    numbers = [frame.number for frame, _ in run]
    return [
        write_level(
            dataset,
            picture,
            split=exposure.split,
            clip=exposure.clip.name,
            name=f"{numbers[window // 2]:06d}",
            level=n,
            input_level=exposure.level,
            source=exposure.clip.source,
            first_frame=numbers[window // 2 - n // 2],
            last_frame=numbers[window // 2 + (n - 1) // 2],
            crf=crf.name,
        )
        for n, picture in levels.items()
    ]


def average_levels(
    frames: Sequence[Pixels],
    levels: Sequence[int],
    crf: CRF = IDENTITY,
    interpolate: Interpolate | None = None,
) -> dict[int, Pixels]:
    """Levels of one exposure around its mid-frame T // 2: Eq. (1), in 32 bits, rounded to the frames' depth.

    Args:
        frames: T consecutive frames, (H, W, 3) uint8 or uint16 of stored values.
        levels: an even level averages one frame more before the mid-frame than after it.
        crf: camera response function g.
        interpolate: optional frame interpolator.

    Returns:
        Level to picture, shape and dtype of a frame.

    Raises:
        ValueError: if there are too few frames for a level.
    """
    middle, step = len(frames) // 2, 1
    if interpolate:
        frames, step = _interleave(frames, interpolate)
    averaged = {n: np.empty_like(frames[0]) for n in levels}
    white = float(np.iinfo(frames[0].dtype).max)
    for top in range(0, len(frames[0]), _BAND):
        rows = slice(top, top + _BAND)
        stored = np.stack([frame[rows] for frame in frames]).astype(np.float32) / np.float32(white)
        for n, band in _levels_of(torch.from_numpy(stored), middle, levels, crf, step).items():
            averaged[n][rows] = band.mul(white).round().numpy().astype(frames[0].dtype)
    return averaged


def _levels_of(
    stored: torch.Tensor, middle: int, levels: Sequence[int], crf: CRF, step: int
) -> dict[int, torch.Tensor]:
    """Level to average; every `step`-th frame is a captured one, and `middle` counts captured frames."""

    def spread(n: int) -> int:
        return (n - 1) * step + 1

    half = max((n // 2 for n in levels if n % 2), default=0) * step
    centred = stored[middle * step - half : middle * step + half + 1]
    ladder = temporal_ladder(centred, [spread(n) for n in levels if n % 2], crf)
    return {
        n: ladder[spread(n)]
        if n % 2
        else temporal_level(stored, spread(n), crf, start=(middle - n // 2) * step)
        for n in levels
    }


def _interleave(frames: Sequence[Pixels], interpolate: Interpolate) -> tuple[list[Pixels], int]:
    """The captured and interpolated frames in order, and the distance between two captured frames."""
    dense = [frames[0]]
    for before, after in pairwise(frames):
        dense += [*interpolate(before, after), after]
    step, remainder = divmod(len(dense) - 1, max(1, len(frames) - 1))
    if remainder or any(dense[index * step] is not frame for index, frame in enumerate(frames)):
        raise ValueError("the interpolator must always return the same number of frames")
    return dense, step


@lru_cache(maxsize=1)
def _frame_window(clip: Clip) -> FrameWindow:
    """A clip's frame window, shared by consecutive exposures of the clip in a process."""
    return FrameWindow(clip)
