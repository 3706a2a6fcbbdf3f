"""Conversion of arrays, tensors and Pillow images to pixels, and of results back to the same type."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[Any]

_FROM_RGB = ("HSV", "La", "RGBX", "RGBa", "YCbCr")
"""Modes of Pillow that it makes of RGB, or of RGBA or LA, by rounding alone."""


class Taken(NamedTuple):
    """A converted input.

    Attributes:
        pixels: (H, W, 3), uint8, uint16 or float32; such an array unchanged, and another array of a shape or
            dtype that is not supported as well.
        back: converts pixels of the same shape and dtype to the type of the input.
    """

    pixels: Pixels
    back: Callable[[Pixels], Any]


class Batch(NamedTuple):
    """Several images in one object.

    Attributes:
        images: each as for `take`.
        join: makes an object of the same type of as many results.
    """

    images: Sequence[Any]
    join: Callable[[Sequence[Any]], Any]


def as_batch(image: Any) -> Batch | None:
    """The images of a batch; None for one image.

    Args:
        image: a list or tuple of images of any types and sizes, an array (B, H, W, 3), or a tensor
            (B, 3, H, W); the results are joined to the same.

    Raises:
        ValueError: if an array or a tensor has no images.
    """
    if isinstance(image, list | tuple):
        images = cast("Sequence[Any]", image)
        return Batch(images, list if isinstance(image, list) else tuple)
    shape = cast("tuple[int, ...]", getattr(image, "shape", ()))
    if not isinstance(image, np.ndarray | Tensor) or len(shape) != 4:
        return None
    if 0 in shape:
        raise ValueError(f"image must be (H, W, 3) and not empty, not {tuple(shape)}")
    stack: Any = torch.stack if isinstance(image, Tensor) else np.stack
    return Batch(list(cast("Sequence[Any]", image)), stack)


def take(image: Any) -> Taken:
    """Convert an image of any supported type to pixels.

    Args:
        image: one of these.

            - An array, (H, W, 3), or (H, W) if it is grey, or (H, W, 4) with alpha, which is kept; uint8,
              uint16, or float16, float32 or float64 in [0, 1]. The result has its shape and dtype.
            - A tensor, (3, H, W), or (H, W, 3) if only the last axis has length 3; uint8, uint16, or floating
              point in [0, 1]. The result has its shape, dtype and device, and no gradient.
            - A Pillow image of any mode with 8 or 16 bits. The result has its mode, transparency and
              metadata; for the modes 1 (then L), P, CMYK and LAB, which Pillow cannot make from RGB without
              loss, it is RGB or, with transparency, RGBA.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(image, np.ndarray):
        return _take_array(cast(Pixels, image))
    if isinstance(image, Tensor):
        return _take_tensor(image)
    if type(image).__module__.startswith("PIL.") or hasattr(image, "getbands"):
        return _take_pillow(image)
    if hasattr(image, "__array__"):
        return _take_array(np.asarray(image))
    raise ValueError(f"image must be an array, a tensor or a Pillow image, not {type(image).__name__}")


def _take_array(image: Pixels) -> Taken:
    dtype = image.dtype.newbyteorder("=")
    values = image.astype(np.float32) if dtype.name in ("float16", "float64") else image

    def back(pixels: Pixels) -> Pixels:
        return pixels.astype(dtype, copy=False)

    def back_grey(pixels: Pixels) -> Pixels:
        return _mean(pixels, dtype)

    def back_alpha(pixels: Pixels) -> Pixels:
        return np.concatenate([back(pixels), image[..., 3:]], axis=2, dtype=dtype)

    if image.ndim == 2:
        return Taken(np.repeat(values[..., None], 3, axis=2), back_grey)
    if image.ndim == 3 and image.shape[2] == 4:
        return Taken(values[..., :3], back_alpha)
    return Taken(values, back)


def _take_tensor(image: Tensor) -> Taken:
    shape, dtype, device = image.shape, image.dtype, image.device
    values = image.detach().cpu()
    if values.is_floating_point():
        values = values.float()
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
            return _with(Image.fromarray(_mean(pixels, pixels.dtype)), info)

        return Taken(np.repeat(deep[..., None], 3, axis=2), back_deep)
    mode = image.mode
    if mode in ("I", "F"):
        raise ValueError(f"a Pillow image must have 8 or 16 bits a channel, not the mode {mode!r}")
    image = image.convert("LA") if mode == "La" else image
    grey = mode in ("1", "L", "LA", "La")
    alpha = None
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in info:
        alpha = image.convert("RGBA").getchannel("A")
    if mode in ("CMYK", "LAB"):
        info.pop("icc_profile", None)

    def back(pixels: Pixels) -> Any:
        result = Image.fromarray(_mean(pixels, pixels.dtype) if grey else pixels)
        if alpha is not None:
            info.pop("transparency", None)
            result.putalpha(alpha)
        return _with(result.convert(mode) if mode in _FROM_RGB else result, info)

    return Taken(np.asarray(image.convert("RGB")), back)


def _mean(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Mean over the channels of (H, W, 3), rounded for integers: (H, W)."""
    mean = pixels.mean(axis=2, dtype=np.float64)
    return (np.rint(mean) if dtype.kind == "u" else mean).astype(dtype)


def _with(picture: Any, info: dict[str, Any]) -> Any:
    picture.info.update(info)
    return picture
