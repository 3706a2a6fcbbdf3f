"""Colours for fully transparent pixels: meaningless ones would be mixed into visible edges."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtdeblur.media import spool
from mtdeblur.media.samples import Pixels

_BAND, _HALO = 512, 128
Floats = NDArray[np.floating[Any]]


def fill(pixels: Pixels, alpha: Pixels) -> Pixels:
    """A copy in which pixels without any alpha have the colours of visible pixels near them.

    Colours are averaged over blocks of 2, 4, 8 ... pixels; each hidden pixel gets those of the smallest block
    with a visible pixel in it. Visible pixels are unchanged.

    Args:
        pixels: (H, W, 3) uint8 or uint16.
        alpha: (H, W).
    """
    filled = spool.like(pixels, pixels.shape, pixels.dtype)
    for start in range(0, len(pixels), _BAND):
        end = min(len(pixels), start + _BAND)
        first, last = max(0, start - _HALO), min(len(pixels), end + _HALO)
        visible = (alpha[first:last] > 0).astype(np.float32)[..., None]
        colours = _spread(pixels[first:last].astype(np.float32) * visible, visible)
        band = np.rint(colours[start - first : end - first]).astype(pixels.dtype)
        shown = alpha[start:end, :, None] > 0
        filled[start:end] = np.where(shown, pixels[start:end], band)
        spool.release(pixels, filled, alpha)
    return filled


def _spread(colours: Floats, weights: Floats) -> Floats:
    """Weighted colours (H, W, 3) by their weights (H, W, 1); without weight, those of coarser blocks."""
    if weights.all() or max(weights.shape[:2]) <= 1:
        return colours / np.maximum(weights, np.float32(1e-6))
    coarse = _spread(_halved(colours), _halved(weights))
    near = coarse.repeat(2, axis=0).repeat(2, axis=1)[: len(colours), : colours.shape[1]]
    return np.where(weights > 0, colours / np.maximum(weights, np.float32(1e-6)), near)


def _halved(array: NDArray[Any]) -> NDArray[Any]:
    """Means of blocks of 2 x 2; rows and columns beyond the edge count as zeros."""
    height, width = array.shape[:2]
    padded = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)))
    rows = padded[::2] + padded[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) / 4
