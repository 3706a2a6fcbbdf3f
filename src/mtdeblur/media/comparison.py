"""Before/after pictures and pages."""

from base64 import b64encode
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from mtdeblur.files.atomic import plain_name, write_atomically
from mtdeblur.media import spool
from mtdeblur.media.picture import Picture
from mtdeblur.media.pictures import encode_picture
from mtdeblur.media.samples import Pixels


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
    return Picture(pixels, alpha, before.grey, before.icc, resolution=before.resolution, coding=before.coding)


def write_page(path: Path, title: str, before: Picture, after: Picture) -> None:
    """Write a web page with a slider between both pictures, upright; it needs nothing but the one file.

    The pictures in it are JPEG, or PNG if they are transparent.

    Args:
        path: the HTML file.
        title: of the page.
        before: (H, W, 3) pixels in its stored orientation.
        after: the same photograph with other pixels.

    Raises:
        UserError: if the file cannot be written, or the pictures are too large for JPEG.
    """
    write_atomically(path, page(title, before, after).encode())


def page(title: str, before: Picture, after: Picture) -> str:
    """The HTML of `write_page`.

    Args:
        title: of the page.
        before: (H, W, 3) pixels in its stored orientation.
        after: the same photograph with other pixels.

    Raises:
        UserError: if the pictures are too large for JPEG.
    """
    height, width = before.upright().pixels.shape[:2]
    template = Template(files("mtdeblur.media").joinpath("comparison.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(plain_name(title)),
        width=width,
        height=height,
        before=_address(before),
        after=_address(after),
    )


def _address(picture: Picture) -> str:
    """A picture as a `data:` address, upright, with its colour profile and no other metadata."""
    upright = picture.upright()
    shown = Picture(upright.pixels, upright.alpha, upright.grey, upright.icc)
    kind = "jpeg" if shown.alpha is None else "png"
    return f"data:image/{kind};base64,{b64encode(encode_picture(shown, kind)).decode()}"


def _join(left: Pixels, right: Pixels) -> Pixels:
    """Two (H, W) or (H, W, 3) arrays side by side, with a line of about W / 200 pixels between them."""
    height, width = left.shape[:2]
    line = max(2, round(width / 200))
    joined = spool.like(left, (height, 2 * width + line, *left.shape[2:]), left.dtype)
    for rows in spool.strips(joined, left, right):
        joined[rows, :width] = left[rows]
        joined[rows, width : width + line] = np.iinfo(left.dtype).max
        joined[rows, width + line :] = right[rows]
    return joined
