"""Pictures of a photograph and its estimates that any browser can show."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.inference.finish import Finish, Rectangle
from mtdeblur.media import spool
from mtdeblur.media.formats import LONGEST_SIDE
from mtdeblur.media.picture import Picture
from mtdeblur.media.pictures import encode_picture
from mtdeblur.media.samples import converted
from mtdeblur.media.working import seen, with_estimate

LIVE = 1280
"""Longest side in pixels of the views of an iteration in work."""
LARGEST = 24_000_000
"""Pixels of the largest view of a finished iteration; larger pictures are reduced."""
_ROWS = 64  # rows of a reduced picture that are made at once


def reduced(samples: NDArray[Any], factor: int) -> NDArray[Any]:
    """Means over squares of `factor` x `factor` samples; those at the right and lower edge may be smaller.

    Args:
        samples: (H, W, C).
        factor: 1 or more; 1 changes nothing.

    Returns:
        (ceil(H / factor), ceil(W / factor), C) of the same dtype.
    """
    if factor == 1:
        return samples
    height, width, channels = samples.shape
    starts, across = _blocks(width, factor)
    result = np.empty((-(-height // factor), len(starts), channels), samples.dtype)
    for first in range(0, len(result), _ROWS):
        part = samples[first * factor : (first + _ROWS) * factor]
        tops, down = _blocks(len(part), factor)
        sums = np.add.reduceat(np.add.reduceat(part, tops, axis=0, dtype=np.float32), starts, axis=1)
        means = sums / np.multiply.outer(down, across)[..., None]
        result[first : first + _ROWS] = means if samples.dtype == np.float32 else np.rint(means)
    spool.release(samples)
    return result


def _blocks(length: int, factor: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """First samples and lengths of the blocks along an axis."""
    starts = list(range(0, length, factor))
    lengths = [min(factor, length - start) for start in starts]
    return np.array(starts, np.intp), np.array(lengths, np.float32)


def view(picture: Picture, most: int = LARGEST) -> tuple[bytes, str]:
    """A picture as a file that browsers show, upright, with its colours and no other metadata.

    Args:
        picture: in its stored orientation.
        most: pixels; a larger picture is reduced by a whole factor.

    Returns:
        the file, and its suffix: `.jpg`, or `.webp` or `.png` with transparency.
    """
    height, width = picture.pixels.shape[:2]
    small = _small(picture, max(1, math.ceil(math.sqrt(height * width / most)))).upright()
    pixels, alpha, icc = small.pixels, small.alpha, small.icc
    if pixels.dtype == np.float32:  # no browser shows them: here as the network sees them
        pixels, icc = seen(small), None
        alpha = None if alpha is None else converted(alpha, pixels.dtype)
    colour = None if small.colour is None or small.colour.is_hdr else small.colour
    shown = Picture(pixels, alpha, small.grey, icc, colour=colour)
    kind = "jpeg"
    if alpha is not None:
        kind = "webp" if max(pixels.shape) <= LONGEST_SIDE["webp"] else "png"
    return encode_picture(shown, kind), {"jpeg": ".jpg"}.get(kind, f".{kind}")


class LiveView:
    """A small view of the iteration in work, with the rows that are finished.

    Args:
        picture: the photograph.
        finish: what the result keeps of the estimate.
    """

    def __init__(self, picture: Picture, finish: Finish) -> None:
        self._factor = max(1, math.ceil(max(picture.pixels.shape[:2]) / LIVE))
        self._picture = _small(picture, self._factor)
        self._shown = seen(self._picture)
        self._finish = replace(finish, region=_scaled(finish.region, self._factor))
        self._canvases: dict[int, NDArray[Any]] = {}
        self._rows: dict[int, int] = {}

    def add(self, step: int, estimate: NDArray[Any], rows: int) -> None:
        """Add the rows of a step that are finished; see `mtdeblur.inference.strips.Watch`."""
        factor = self._factor
        if step not in self._canvases:
            self._canvases[step], self._rows[step] = self._shown.copy(), 0
        canvas, known = self._canvases[step], self._rows[step]
        finished = len(canvas) if rows == len(estimate) else rows // factor
        if finished > known:
            canvas[known:finished] = reduced(estimate[known * factor : finished * factor], factor)
            self._rows[step] = finished

    def encode(self) -> tuple[int, bytes]:
        """The newest step of which there are rows, from 0, and its view as a JPEG or WebP file."""
        step = max(self._canvases)
        result = self._finish(self._picture, self._shown, self._canvases[step])
        return step, view(with_estimate(self._picture, self._shown, result))[0]

    def drop(self, step: int) -> None:
        """Forget a step that is finished, and those before it."""
        for known in [known for known in self._canvases if known <= step]:
            del self._canvases[known], self._rows[known]

    @property
    def empty(self) -> bool:
        """Whether there are no rows."""
        return not self._canvases


def _small(picture: Picture, factor: int) -> Picture:
    if factor == 1:
        return picture
    alpha = None if picture.alpha is None else reduced(picture.alpha[..., None], factor)[..., 0]
    return replace(picture, pixels=reduced(picture.pixels, factor), alpha=alpha)


def _scaled(region: object, factor: int) -> Rectangle | None:
    """A rectangle in a reduced picture."""
    if not isinstance(region, Rectangle):
        return None
    x, y = region.x // factor, region.y // factor
    right, below = -(-(region.x + region.width) // factor), -(-(region.y + region.height) // factor)
    return Rectangle(x, y, right - x, below - y)
