"""Whether a recurrent network gains from the previous frame of a video: quality and flicker.

    python benchmarks/warm_start.py HIGH_SPEED_CLIP --weights mtnaf-small

Windows of consecutive frames of a high-speed clip are averaged to the frames of an ordinary, blurred video;
the middle frame of each window is the truth. The network then deblurs them in order. A warm start takes its
first estimate, its recurrent state, or both, from the result for the previous frame instead of from nothing.

The error of a frame is estimate minus truth. Flicker is the mean absolute difference between the errors of
successive frames, in grey levels: zero for errors that stay where they are, however large.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Annotated, NamedTuple, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from mtdeblur.evaluation.provenance import commit, device_name, processor_name
from mtdeblur.exposure.levels import temporal_level
from mtdeblur.media.video import video_frames
from mtdeblur.metrics.arrays import psnr
from mtdeblur.networks.contract import ProgressiveNetwork, State, inference_form
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import load_model

WARM = {"none": (False, False), "estimate": (True, False), "state": (False, True), "both": (True, True)}


class Row(NamedTuple):
    """Mean PSNR in dB, and flicker in grey levels."""

    psnr: float
    flicker: float


def exposures(
    clip: Path, level: int, stride: int, crop: tuple[int, int]
) -> Iterator[tuple[Tensor, NDArray[np.uint8]]]:
    """Blurred frames (1, 3, H, W) in [0, 1], rounded to 8 bits, and their middle frames (H, W, 3)."""
    frames = video_frames(clip)
    while len(window := [centre(frame.read(), crop) for frame in islice(frames, stride)]) >= level:
        sharp = torch.stack([torch.from_numpy(pixels).permute(2, 0, 1) for pixels in window[:level]])
        blurred = temporal_level(sharp / 255, level).mul(255).round().div(255)
        yield blurred[None], window[level // 2]


def centre(pixels: NDArray[np.uint8], crop: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of a picture (H, W, 3), at most of that width and height."""
    height, width = min(crop[1], pixels.shape[0]), min(crop[0], pixels.shape[1])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width].copy()


def measure(
    network: ProgressiveNetwork,
    frames: Sequence[tuple[Tensor, NDArray[np.uint8]]],
    steps: int,
    warm: tuple[bool, bool],
) -> Row:
    """Deblur all frames in order."""
    estimate: Tensor | None = None
    state: State = None
    scores: list[float] = []
    flickers: list[float] = []
    before: NDArray[np.int16] | None = None
    for blurred, truth in frames:
        estimate = estimate if warm[0] and estimate is not None else blurred
        state = state if warm[1] else None
        for _ in range(steps):
            estimate, state = network(blurred, estimate, state)
        estimate = estimate.clamp(0, 1)
        pixels = to_pixels(estimate)
        scores.append(psnr(pixels, truth))
        error = pixels.astype(np.int16) - truth
        if before is not None:
            flickers.append(float(np.abs(error - before).mean()))
        before = error
    return Row(fmean(scores), fmean(flickers))


def to_pixels(estimate: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W) in [0, 1] as (H, W, 3) of 8 bits."""
    return estimate[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()


def identity(blurred: Tensor, estimate: Tensor, state: State) -> tuple[Tensor, State]:
    """The network that leaves a picture blurred."""
    return blurred, None


@torch.inference_mode()
def main(
    clip: Annotated[Path, typer.Argument(help="A high-speed video.")],
    weights: Annotated[str, typer.Option(help="A name or a file.")] = "mtnaf-small",
    level: Annotated[int, typer.Option(help="Averaged frames, odd.")] = 7,
    stride: Annotated[int, typer.Option(help="Frames from one blurred frame to the next.")] = 8,
    iterations: Annotated[list[int] | None, typer.Option(min=1, help="Again for more.")] = None,
    crop: Annotated[tuple[int, int], typer.Option(help="Width and height of the middle that is used.")] = (
        1280,
        720,
    ),
) -> None:
    """Print a table."""
    model, _ = load_model(find_weights(weights))
    network = inference_form(model.eval(), torch.float32)
    print(f"{processor_name()}; {device_name(torch.device('cpu'))}; commit {commit()}; {weights}, float32")
    print("| iterations | warm start | PSNR | flicker |\n| --- | --- | --- | --- |")
    frames = list(exposures(clip, level, stride, crop))
    row = measure(cast(ProgressiveNetwork, identity), frames, 1, (False, False))
    print(f"| 0 | blurred | {row.psnr:.2f} | {row.flicker:.2f} |", flush=True)
    for steps in iterations or [1, 2, 3]:
        for name, warm in WARM.items():
            row = measure(network, frames, steps, warm)
            print(f"| {steps} | {name} | {row.psnr:.2f} | {row.flicker:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
