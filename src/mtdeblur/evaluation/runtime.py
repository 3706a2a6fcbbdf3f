"""Run time as in Section 5 of the paper: one picture at a time, without data loading."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor


class RunTime(NamedTuple):
    """Median seconds for one picture.

    Attributes:
        synchronised: until the last estimate is available.
        unsynchronised: until the call returns. A GPU may still be computing then, which is why some published
            run times are too short; for a CPU there is no difference.
    """

    synchronised: float
    unsynchronised: float


def measure_run_time(
    progress: Callable[[Tensor], Iterable[Tensor]],
    device: torch.device,
    *,
    height: int = 720,
    width: int = 1280,
    repeats: int = 20,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> RunTime:
    """Measure the run time for a picture in the device's memory.

    Args:
        progress: from a blurred picture (1, 3, height, width) in [0, 1] to the estimate of every iteration.
        device: of `progress`.
        height: of the picture, in pixels; by default GoPro's.
        width: of the picture, in pixels; by default GoPro's.
        repeats: number of measurements.
        warm_up: number of unmeasured runs before.
        clock: returns a time in seconds.
    """
    blurred = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)
    for _ in range(warm_up):
        deque(progress(blurred), maxlen=0)
    times: list[RunTime] = []
    for _ in range(repeats):
        synchronise(device)
        started = clock()
        deque(progress(blurred), maxlen=0)
        returned = clock()
        synchronise(device)
        times.append(RunTime(clock() - started, returned - started))
    return RunTime(*(median(column) for column in zip(*times, strict=True)))


def matrix_product_peak(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> float:
    """The rate of large matrix products, in FLOP/s: what other rates on the same machine are compared with.

    Args:
        device: where they run.
        dtype: of both matrices.
    """
    side, repeats = (8192, 20) if device.type == "cuda" else (2048, 5)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(3):  # the first one warms up
        synchronise(device)
        started = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b)
        synchronise(device)
        best = max(best, 2 * side**3 * repeats / (time.perf_counter() - started))
    return best


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
