"""Pictures as strips of rows: where a network takes its input from, and what it gives."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtdeblur.errors import UserError
from mtdeblur.media import spool

Report = Callable[[float], None]
"""Receives the finished share of the work, from 0 to 1."""

Watch = Callable[[int, NDArray[Any], int], None]
"""Receives the number of a step from 0, its estimate, (H, W, 3), and how many of its rows from the top are
finished; the values of the others have no meaning."""

AT_ONCE = 250_000
"""Samples that are converted at once, so that they stay in the cache."""
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


class Strip(NamedTuple):
    """Finished rows of one step's estimate.

    Attributes:
        step: number of the step, from 0.
        start: the first row.
        rows: (B, 3, rows, W), float, not clamped.
    """

    step: int
    start: int
    rows: Tensor


class Source(Protocol):
    """A blurred picture, given window by window."""

    @property
    def height(self) -> int:
        """Height in pixels."""
        ...

    @property
    def width(self) -> int:
        """Width in pixels."""
        ...

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        """A window: (B, 3, h, w) float in [0, 1], channels-last."""
        ...


class TensorSource:
    """A blurred picture that is a tensor: (B, 3, H, W), float in [0, 1]."""

    def __init__(self, blurred: Tensor) -> None:
        self._blurred = blurred
        self.height, self.width = blurred.shape[-2:]

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        """A window, not copied."""
        return self._blurred[..., rows, columns]


class ArraySource:
    """A blurred picture that is an array: each window is converted when it is asked for.

    Args:
        pixels: (H, W, 3), uint8, uint16, or float32 in [0, 1], in memory or in a file.
        device: of the windows.

    Raises:
        ValueError: if the array is another one.
    """

    def __init__(self, pixels: NDArray[Any], device: torch.device) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ValueError(f"image must be (H, W, 3) and not empty, not {pixels.shape}")
        if pixels.dtype.name not in WHITE:
            raise ValueError(f"image must be uint8, uint16 or floating point, not {pixels.dtype}")
        if pixels.dtype.name == "float32" and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"a floating point image must be in [0, 1], not {pixels.min()} to {pixels.max()}: "
                "divide it by its white value, or clip it"
            )
        self._pixels, self._device = pixels, device
        self.height, self.width = pixels.shape[:2]

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, 3, h, w) float32, channels-last."""
        window = self._pixels[rows, columns]
        values = np.empty(window.shape, np.float32)  # native and contiguous
        values[...] = window
        values /= WHITE[window.dtype.name]
        spool.release(self._pixels)
        tensor = torch.from_numpy(values).permute(2, 0, 1)[None]  # pyright: ignore[reportUnknownMemberType]
        return tensor.to(self._device, memory_format=torch.channels_last)


def to_array(estimate: Tensor, out: NDArray[Any]) -> None:
    """Fill an array (h, W, 3) from (1, 3, h, W): clamped and, for integers, rounded.

    Raises:
        UserError: if the estimate is not finite, as that of a diverged network.
    """
    if not bool(torch.stack(torch.aminmax(estimate)).isfinite().all()):  # NaN is both
        raise UserError(
            "the network's output is not finite (NaN or infinity): its weights have diverged, or overflow in "
            "this precision; try --precision float32, or other weights"
        )
    pixels, samples = estimate[0].permute(1, 2, 0).cpu(), torch.from_numpy(out)  # pyright: ignore[reportUnknownMemberType]
    white = WHITE[out.dtype.name]
    rows = max(1, AT_ONCE // (3 * pixels.shape[1]))
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows]
        rounded = part.clamp(0, 1) if white == 1 else part.mul(white).round_().clamp_(0, white)
        samples[start : start + rows] = rounded
    spool.release(out)
