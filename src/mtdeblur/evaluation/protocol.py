"""The evaluation protocol: every estimate of every pair, measured by every named convention."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from numpy.typing import NDArray

from mtdeblur.data.disk.pairs import Pair
from mtdeblur.errors import UserError, one_line
from mtdeblur.inference.devices import out_of_memory
from mtdeblur.media.pictures import read_pixels
from mtdeblur.metrics.arrays import psnr, ssims
from mtdeblur.metrics.quality import SMALLEST_SIDE

Pixels = NDArray[Any]
"""(H, W, 3), uint8 or uint16."""
Reader = Callable[[Path], Pixels]
Progress = Callable[[Pixels], Iterable[Pixels]]
"""From a blurred picture to the estimate of every iteration, of the same shape and dtype."""


@dataclass(frozen=True)
class Figures:
    """Quality of one picture, or the mean over several, after one iteration.

    Attributes:
        iteration: from 1; 0 is the blurred picture itself.
        psnr: dB, see `metrics.quality.PSNR_CONVENTION`.
        ssim: by name of the convention, see `metrics.quality.SSIM_CONVENTIONS`.
        images: number of pictures.
    """

    iteration: int
    psnr: float
    ssim: dict[str, float]
    images: int = 1


@dataclass(frozen=True)
class PairFigures:
    """Figures of one pair: the blurred picture's own, then each iteration's."""

    name: str
    iterations: tuple[Figures, ...]


def measure(pair: Pair, progress: Progress, read: Reader) -> PairFigures:
    """Measure one pair: the blurred picture and every estimate against the ground truth.

    Args:
        pair: the pair.
        progress: the method under test.
        read: reads a picture file.

    Raises:
        UserError: if the pictures differ in size or are too small for SSIM.
        Exception: of `read`.
    """
    blurred, sharp = read(pair.blur), read(pair.sharp)
    _check_sizes(pair, blurred, sharp)
    estimates = chain([blurred], progress(blurred))
    return PairFigures(pair.name, tuple(_figures(i, estimate, sharp) for i, estimate in enumerate(estimates)))


def measure_all(
    pairs: Iterable[Pair],
    progress: Progress,
    read: Reader = read_pixels,
    *,
    failed: Callable[[str], None] | None = None,
) -> list[PairFigures]:
    """Measure several pairs.

    Args:
        pairs: the pairs.
        progress: the method under test.
        read: reads a picture file.
        failed: receives a line for each pair that cannot be measured, which is skipped; None raises the
            error.
    """
    measured: list[PairFigures] = []
    for pair in pairs:
        try:
            measured.append(measure(pair, progress, read))
        except Exception as error:
            if failed is None:
                raise
            failed(_why(pair, error))
    return measured


def _why(pair: Pair, error: Exception) -> str:
    if out_of_memory(error):
        return f"cannot measure {pair.blur}: not enough memory; use a smaller --tile"
    text = one_line(error)
    if isinstance(error, UserError):
        named = str(pair.blur) in str(error) or str(pair.sharp) in str(error)
        return text if named else f"cannot measure {pair.blur}: {text}"
    return f"cannot measure {pair.blur}: {type(error).__name__}: {text}"


def averages(pairs: Sequence[PairFigures]) -> tuple[Figures, ...]:
    """Means over the pictures for each iteration; PSNR is averaged in dB.

    Args:
        pairs: figures of one or more pairs, all with the same number of iterations.

    Raises:
        ValueError: if there are none, or the numbers of iterations differ.
    """
    by_iteration = zip(*(pair.iterations for pair in pairs), strict=True)
    means = tuple(_mean(figures) for figures in by_iteration)
    if not means:
        raise ValueError("there are no figures to average")
    return means


def _figures(iteration: int, estimate: Pixels, sharp: Pixels) -> Figures:
    return Figures(iteration, psnr(estimate, sharp), ssims(estimate, sharp))


def _mean(figures: Sequence[Figures]) -> Figures:
    similarity = {name: fmean(one.ssim[name] for one in figures) for name in figures[0].ssim}
    return Figures(figures[0].iteration, fmean(one.psnr for one in figures), similarity, len(figures))


def _check_sizes(pair: Pair, blurred: Pixels, sharp: Pixels) -> None:
    (height, width), (sharp_height, sharp_width) = blurred.shape[:2], sharp.shape[:2]
    if (height, width) != (sharp_height, sharp_width):
        raise UserError(
            f"the pictures of a pair differ in size: {pair.blur} is {width}x{height}, "
            f"{pair.sharp} is {sharp_width}x{sharp_height}"
        )
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f"{pair.blur} is {width}x{height}: SSIM is defined from {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels up"
        )
