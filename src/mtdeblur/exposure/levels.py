"""Temporal levels: TL n is the image of an exposure over n consecutive sharp frames, Eq. (1).

Frames are (T, ..., H, W) float tensors of stored values in [0, 1], on any device: (T, 3, H, W) for one
exposure, (T, B, 3, H, W) for a batch. `torch.from_numpy` converts NumPy arrays without a copy.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from mtdeblur.exposure.crf import CRF, IDENTITY


def temporal_level(frames: Tensor, n: int, crf: CRF = IDENTITY, *, start: int | None = None) -> Tensor:
    """TL n: g(mean of n frames), Eq. (1).

    Args:
        frames: (T, ..., H, W) in [0, 1], float.
        n: number of frames; odd, unless `start` is given.
        crf: camera response function g.
        start: index of the first averaged frame; the run may then be anywhere and n even. By default the run
            is centred on the mid-frame T // 2, and T must be odd.

    Returns:
        (..., H, W) in [0, 1], dtype and device of the frames.

    Raises:
        ValueError: if there is no such run of frames, or they are not floats.
    """
    if start is None:
        return temporal_ladder(frames, (n,), crf)[n]
    _check_frames(frames)
    if n < 1 or start < 0 or start + n > len(frames):
        raise ValueError(f"{len(frames)} frames hold no run of {n} from frame {start}")
    total = torch.zeros_like(frames[0], dtype=_sum_dtype(frames))
    for frame in frames[start : start + n]:
        total += crf.decode(frame.to(total))
    return crf.encode(total / n).to(frames)


def temporal_ladder(
    frames: Tensor, levels: Collection[int] | None = None, crf: CRF = IDENTITY
) -> dict[int, Tensor]:
    """Levels of one exposure, centred on its mid-frame, from one running sum that linearises each frame once.

    Args:
        frames: (T, ..., H, W) in [0, 1], float, T odd; the mid-frame is T // 2.
        levels: odd, from 1 to T; by default all.
        crf: camera response function g.

    Returns:
        Level to image (..., H, W) in [0, 1], levels increasing. TL1 is the mid-frame itself, unchanged.

    Raises:
        ValueError: if T or a level is even, a level is out of range, or the frames are not floats.
    """
    _check_frames(frames)
    if len(frames) % 2 == 0:
        raise ValueError(f"{len(frames)} frames have no mid-frame; give an odd number")
    ordered = sorted(set(range(1, len(frames) + 1, 2) if levels is None else levels))
    for n in ordered:
        if n < 1 or n % 2 == 0 or n > len(frames):
            raise ValueError(f"a level of {len(frames)} frames is an odd number up to {len(frames)}, not {n}")
    middle, dtype = len(frames) // 2, _sum_dtype(frames)
    means = centred_means(lambda index: crf.decode(frames[index].to(dtype)), len(frames), ordered)
    return {
        n: frames[middle].clone() if n == 1 else crf.encode(mean).to(frames)
        for n, mean in zip(ordered, means, strict=True)
    }


def centred_means(frame: Callable[[int], Tensor], frames: int, counts: Sequence[int]) -> Iterator[Tensor]:
    """Means over increasing runs of frames around the mid-frame, from one running sum.

    Args:
        frame: returns the frame with an index from 0, in linear light; called once for each frame.
        frames: number of frames, odd.
        counts: lengths of the runs, odd, increasing.

    Yields:
        The mean over each run.
    """
    middle, total = frames // 2, frame(frames // 2).clone()
    reached = 1
    for count in counts:
        for n in range(reached + 2, count + 1, 2):
            total += frame(middle - n // 2)
            total += frame(middle + n // 2)
        reached = count
        yield total / count


def _check_frames(frames: Tensor) -> None:
    if frames.dim() < 3 or 0 in frames.shape:
        raise ValueError(f"frames must be (T, ..., H, W) and not empty, not {tuple(frames.shape)}")
    if not frames.is_floating_point():
        raise ValueError(f"frames must be float in [0, 1], not {frames.dtype}")


def _sum_dtype(frames: Tensor) -> torch.dtype:
    """At least single precision, for frames in half precision."""
    return torch.promote_types(frames.dtype, torch.float32)
