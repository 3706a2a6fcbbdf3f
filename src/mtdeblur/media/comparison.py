"""Before/after pictures."""

import numpy as np

from mtdeblur.media.pictures import Picture, Pixels


def side_by_side(before: Picture, after: Picture) -> Picture:
    """Both pictures upright, separated by a thin white line.

    Args:
        before: (H, W, 3) pixels in its stored orientation.
        after: the same photograph with other pixels.

    Returns:
        a picture with the depth, greyness, alpha and colour profile of `before`, without other metadata.

    Raises:
        ValueError: if the two differ in size or depth.
    """
    before, after = before.upright(), after.upright()
    if before.pixels.shape != after.pixels.shape or before.pixels.dtype != after.pixels.dtype:
        raise ValueError(
            f"cannot compare {before.pixels.shape} {before.pixels.dtype} "
            f"with {after.pixels.shape} {after.pixels.dtype}"
        )
    alpha = None
    if before.alpha is not None and after.alpha is not None:
        alpha = _join(before.alpha, after.alpha)
    pixels = _join(before.pixels, after.pixels)
    return Picture(pixels, alpha, before.grey, before.icc, resolution=before.resolution)


def _join(left: Pixels, right: Pixels) -> Pixels:
    """Two (H, W) or (H, W, 3) arrays side by side, with a line of about W / 200 pixels between them."""
    height, width = left.shape[:2]
    white = np.iinfo(left.dtype).max
    line = np.full((height, max(2, round(width / 200)), *left.shape[2:]), white, left.dtype)
    return np.concatenate([left, line, right], axis=1)
