"""Conversion of arrays, tensors and Pillow images to pixels, and of results back to the same type."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[Any]


class Taken(NamedTuple):
    """A converted input.

    Attributes:
        pixels: (H, W, 3); an array input unchanged, of any shape.
        back: converts pixels of the same shape and dtype to the type of the input.
    """

    pixels: Pixels
    back: Callable[[Pixels], Any]


def take(image: Any) -> Taken:
    """Convert an image of any supported type to pixels.

    Args:
        image: one of these.

            - An array, (H, W, 3); the result is an array.
            - A tensor, (3, H, W) or (1, 3, H, W), or (H, W, 3) if only the last axis has length 3; uint8,
              uint16, or floating point in [0, 1]. The result has its shape, dtype and device.
            - A Pillow image of any mode with 8 or 16 bits. The result has its mode, transparency and
            metadata;
              for palettes and modes that Pillow cannot make from RGB it is RGB or, with transparency, RGBA.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(image, np.ndarray):
        return Taken(cast(Pixels, image), _unchanged)
    if isinstance(image, Tensor):
        return _take_tensor(image)
    if type(image).__module__.startswith("PIL.") or hasattr(image, "getbands"):
        return _take_pillow(image)
    if hasattr(image, "__array__"):
        return Taken(np.asarray(image), _unchanged)
    raise ValueError(f"image must be an array, a tensor or a Pillow image, not {type(image).__name__}")


def _unchanged(pixels: Pixels) -> Pixels:
    return pixels


def _take_tensor(image: Tensor) -> Taken:
    shape, dtype, device = image.shape, image.dtype, image.device
    values = image.detach().cpu()
    if values.is_floating_point() and dtype != torch.float64:
        values = values.float()
    if values.dim() == 4 and shape[0] == 1:
        values = values[0]
    planes = values.dim() == 3 and values.shape[0] == 3  # (3, H, W)
    if planes:
        values = values.movedim(0, -1)

    def back(pixels: Pixels) -> Tensor:
        result = torch.as_tensor(np.ascontiguousarray(pixels))
        result = result.movedim(-1, 0) if planes else result
        return result.reshape(shape).to(device, dtype)

    return Taken(values.numpy(), back)


def _take_pillow(image: Any) -> Taken:
    from PIL import Image

    info = dict(image.info)
    if image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.uint16)

        def back_deep(pixels: Pixels) -> Any:
            return _with(Image.fromarray(_mean(pixels)), info)

        return Taken(np.repeat(deep[..., None], 3, axis=2), back_deep)
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in info:
        alpha = image.convert("RGBA").getchannel("A")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        info.pop("icc_profile", None)
    elif image.mode in ("I", "F"):
        raise ValueError(f"a Pillow image must have 8 or 16 bits a channel, not the mode {image.mode!r}")

    def back(pixels: Pixels) -> Any:
        result = Image.fromarray(_mean(pixels) if grey else pixels)
        if alpha is not None:
            info.pop("transparency", None)
            result.putalpha(alpha)
        return _with(result, info)

    return Taken(np.asarray(image.convert("RGB")), back)


def _mean(pixels: Pixels) -> Pixels:
    """Rounded mean over the channels of (H, W, 3) integers: (H, W)."""
    return np.rint(pixels.mean(axis=2)).astype(pixels.dtype)


def _with(picture: Any, info: dict[str, Any]) -> Any:
    picture.info.update(info)
    return picture
