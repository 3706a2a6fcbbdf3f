"""Comparison of an export, in its own runtime, with PyTorch in float32."""

import math
from collections.abc import Iterable, Sequence
from importlib import import_module

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import members, pad_to_multiple
from mtdeblur.networks.unroll import Step, unroll
from mtdeblur.weights.exported.manifest import Difference
from mtdeblur.weights.exported.network import ExportedModel
from mtdeblur.weights.exported.runtimes import Run

TOLERANCE = 1e-4
"""Largest accepted absolute difference, relative to the largest value, or to white if that is larger: a
fortieth of a grey level of 8 bits."""
PHOTOGRAPHS = ("astronaut", "coffee")
SIDES = (144, 208)
"""Sides of the pictures in pixels, before they are rounded up to the network's multiple."""


def pictures(multiple: int, size: tuple[int, int] | None) -> list[Tensor]:
    """Pictures to compare on, (1, 3, H, W) in [0, 1], float32.

    They are public-domain photographs of scikit-image, or random pictures with the spectrum of photographs if
    that is not installed.

    Args:
        multiple: of the network.
        size: the only height and width; None for two sizes that are padded.
    """
    short, long = (-(-side // multiple) * multiple for side in SIDES)
    sizes = [(max(1, short - 3), long), (long, max(1, short - 1))] if size is None else [size]
    return [_picture(number, *one) for number, one in enumerate(sizes)]


def _picture(number: int, height: int, width: int) -> Tensor:
    try:
        data = import_module("skimage.data")
    except ImportError:
        return natural(number, height, width)
    pixels = getattr(data, PHOTOGRAPHS[number])()  # (H, W, 3), uint8
    photograph = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255  # pyright: ignore[reportUnknownMemberType]
    if height <= photograph.shape[-2] and width <= photograph.shape[-1]:
        return photograph[..., :height, :width].contiguous()
    return functional.interpolate(photograph, (height, width), mode="bicubic").clamp(0, 1)


def natural(seed: int, height: int, width: int) -> Tensor:
    """A random picture whose amplitudes fall with the frequency as those of photographs, (1, 3, H, W)."""
    noise = np.fft.rfft2(np.random.default_rng(seed).normal(size=(3, height, width)))
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    values = np.fft.irfft2(noise / frequency, s=(height, width))
    values = (0.5 + 0.2 * (values - values.mean()) / max(values.std(), 1e-9)).clip(0, 1)
    return torch.from_numpy(values.astype(np.float32))[None]  # pyright: ignore[reportUnknownMemberType]


def compare_steps(model: nn.Module, exported: ExportedModel, steps: Sequence[Step]) -> list[Difference]:
    """Compare all steps of an export.

    Args:
        model: the model in PyTorch, float32, on the CPU.
        exported: the export, open for these steps.
        steps: to compare.

    Raises:
        UserError: if a difference is too large.
    """
    found: list[Difference] = []
    for picture in pictures(exported.contract.multiple, exported.contract.size):
        estimates = unroll(exported.members, picture, steps)
        found.append(_difference(picture, _expected(model, picture, steps), estimates))
    return found


def compare_unrolled(
    model: nn.Module, run: Run, name: str, steps: Sequence[Step], multiple: int, size: tuple[int, int] | None
) -> list[Difference]:
    """Compare an unrolled graph.

    Args:
        model: the model in PyTorch, float32, on the CPU.
        run: runs the graph.
        name: of its file.
        steps: of the graph.
        multiple: of the graph's pictures.
        size: the only height and width; None for any.

    Raises:
        UserError: if a difference is too large.
    """
    found: list[Difference] = []
    for picture in pictures(multiple, size):
        padded = pad_to_multiple(picture, multiple)
        difference = _difference(padded, _expected(model, padded, steps), run([padded]))
        found.append(difference.model_copy(update={"file": name}))
    return found


@torch.no_grad()
def _expected(model: nn.Module, picture: Tensor, steps: Sequence[Step]) -> list[Tensor]:
    return list(unroll(members(model), picture, steps))


def _difference(picture: Tensor, expected: Sequence[Tensor], found: Iterable[Tensor]) -> Difference:
    height, width = picture.shape[-2:]
    worst, mean_square = 0.0, 0.0
    for number, (right, got) in enumerate(zip(expected, found, strict=True), 1):
        error = (got - right).abs()
        largest = float(error.max())
        if not largest <= TOLERANCE * max(1.0, float(right.abs().max())):  # NaN fails as well
            raise UserError(
                f"the export differs from PyTorch by {largest:.2g} at step {number} on a picture of "
                f"{width}x{height} pixels, more than {TOLERANCE:.0e}: nothing was written"
            )
        worst = max(worst, largest)
        mean_square = max(mean_square, float(error.double().square().mean()))
    psnr = round(-10 * math.log10(mean_square), 1) if mean_square else None
    return Difference(
        height=height, width=width, iterations=len(expected), max_abs=float(f"{worst:.3g}"), psnr=psnr
    )
