"""How well interpolated frames give temporal levels: high-speed frames are left out and made again.

    python benchmarks/interpolation.py CLIP

CLIP is a folder of frames or a video. Every 2nd, 4th or 8th frame is kept, and those in between are made
again: by RIFE, by a linear blend of the two kept frames, or by the nearest kept frame. The levels of both
kinds of frames are compared, on exposures spread evenly over the clip, whose mid-frame is a kept one. The
second table is about single gaps, also wider ones: PSNR of the frame in the middle, and whether
`mtdeblur augment --interpolate` would accept the gap.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from mtdeblur.data.disk.frames import Clip, FrameWindow, clip_at, clip_frames
from mtdeblur.data.making.average import average_levels
from mtdeblur.data.making.interpolation import Interpolation
from mtdeblur.data.making.plan import pick_evenly
from mtdeblur.data.making.rife import Rife
from mtdeblur.evaluation.provenance import commit, processor_name
from mtdeblur.metrics.arrays import psnr

Pixels = NDArray[Any]
LEVELS = (3, 5, 7, 9, 11, 13)
HALF = LEVELS[-1] // 2
RIFE = Rife()


def blend(before: Pixels, after: Pixels, at: float) -> Pixels:
    """The mean of both frames, weighted by time."""
    return np.round((1 - at) * before + at * after.astype(np.float32)).astype(before.dtype)


def nearest(before: Pixels, after: Pixels, at: float) -> Pixels:
    """The frame that is nearer in time."""
    return before if at <= 0.5 else after


WAYS: dict[str, Callable[[Pixels, Pixels, float], Pixels]] = {
    "RIFE": RIFE.between,
    "linear blend": blend,
    "nearest frame": nearest,
}


def read(window: FrameWindow, first: int, count: int) -> list[Pixels]:
    """Frames of a clip."""
    return [pixels for _, pixels in window.run(first, count)]


def thinned(frames: list[Pixels], every: int, way: Callable[[Pixels, Pixels, float], Pixels]) -> list[Pixels]:
    """The frames, of which only every so many are kept and the others are made again."""
    made = list(frames)
    for index in range(len(frames)):
        part = index % every
        if part:
            made[index] = way(frames[index - part], frames[index - part + every], part / every)
    return made


def measure_levels(clip: Clip, frames: int, every: int, most: int) -> None:
    """Print PSNR of each level, by each way, over all exposures and over those that would be made."""
    interpolation = Interpolation(RIFE, every)
    reach = -(-HALF // every) * every
    middles = pick_evenly(range(reach, frames - reach, every), most)
    window = FrameWindow(clip)
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    accepted: list[bool] = []
    for middle in middles:
        run = read(window, middle - reach, 2 * reach + 1)
        needed = slice(reach - HALF, reach + HALF + 1)
        real = average_levels(run[needed], LEVELS)
        kept = run[::every]
        motions = [RIFE.motion(*pair) for pair in pairwise(kept)]
        accepted.append(not any(interpolation.refusal(motion) for motion in motions))
        for name, way in WAYS.items():
            levels = average_levels(thinned(run, every, way)[needed], LEVELS)
            for level in LEVELS:
                found[name, level].append(psnr(levels[level], real[level]))
    print(f"\nEvery {every}: {len(middles)} exposures, of which {sum(accepted)} would be made\n")
    print("| " + " | ".join(["frames in between", *(f"TL{level}" for level in LEVELS)]) + " |")
    print("| --- " * (len(LEVELS) + 1) + "|")
    for name in WAYS:
        for title, chosen in ((name, np.ones(len(middles), bool)), (f"{name}, made", np.array(accepted))):
            if chosen.any() and (title == name or not chosen.all()):
                means = (float(np.mean(np.array(found[name, level])[chosen])) for level in LEVELS)
                print(f"| {title} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    worst = [min(found["RIFE", level]) for level in LEVELS]
    print("| RIFE, worst exposure | " + " | ".join(f"{value:.2f}" for value in worst) + " |", flush=True)


def measure_gaps(clip: Clip, frames: int, every: int, most: int) -> None:
    """Print one line about gaps of one width: motion and PSNR of the middle, accepted and refused."""
    window = FrameWindow(clip)
    lines: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    for first in pick_evenly(range(frames - every), most):
        run = read(window, first, every + 1)
        motion = RIFE.motion(run[0], run[-1])
        made = (way(run[0], run[-1], 0.5) for way in WAYS.values())
        quality = [psnr(picture, run[every // 2]) for picture in made]
        lines[not Interpolation(RIFE, 8).refusal(motion)].append((*motion, *quality))
    for accepted, values in lines.items():
        if values:
            low, middle, high = (np.quantile(np.array(values), q, axis=0) for q in (0, 0.5, 1))
            numbers = [f"{m:.1f} ({a:.1f} to {b:.1f})" for a, m, b in zip(low, middle, high, strict=True)]
            verdict = "accepted" if accepted else "refused"
            print(f"| {every} | {verdict} | {len(values)} | " + " | ".join(numbers[:3]), end="")
            print(f" | {middle[3]:.1f} | {middle[4]:.1f} |", flush=True)


def main(
    clip: Annotated[Path, typer.Argument(help="Folder of frames, or video, of a high-speed camera.")],
    every: Annotated[list[int], typer.Option(help="Keep every so many frames: 2, 4 or 8.")] = [8, 4, 2],  # noqa: B006
    exposures: Annotated[int, typer.Option(min=1, help="Exposures for each of these, at most.")] = 12,
    gap: Annotated[list[int], typer.Option(help="Widths of single gaps, even.")] = [2, 4, 8, 16, 32],  # noqa: B006
    gaps: Annotated[int, typer.Option(help="Gaps of each width, at most; 0 for none.")] = 12,
) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    source = clip_at(clip)
    frames = sum(1 for _ in clip_frames(source))
    print(f"commit {commit()}; {processor_name()}, 1 thread; {source.name}, {frames} frames; {RIFE.name}")
    begin = time.process_time()
    for number in every:
        measure_levels(source, frames, number, exposures)
    if gaps:
        print("\nMedian (smallest to largest); motion in pixels, PSNR of the middle frame in dB\n")
        print("| frames | gap is | gaps | motion | disagreement | RIFE | linear blend | nearest frame |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for number in gap:
            measure_gaps(source, frames, number, gaps)
    print(f"\n{time.process_time() - begin:.0f} processor seconds")


if __name__ == "__main__":
    typer.run(main)
