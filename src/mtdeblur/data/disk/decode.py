"""Decoding of picture files, on disk or in an archive, for training."""

import io
import warnings
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError, one_line
from mtdeblur.files.atomic import read_whole, reason

Pixels = NDArray[Any]


class Entry(Protocol):
    """A file or folder, on disk or in an archive."""

    @property
    def name(self) -> str:
        """Its name without folders."""
        ...

    def read_bytes(self) -> bytes:
        """Its content."""
        ...

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        ...


def decode(entry: Entry) -> NDArray[np.uint8]:
    """Decode a picture with Pillow, upright; alpha is dropped, 16-bit grey keeps its upper 8 bits.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UserError: if it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow reads the picture in spite of its warnings
            with Image.open(io.BytesIO(read_whole(entry))) as image:
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I;16"):
                    upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
                return np.asarray(upright.convert("RGB"))
    except Exception as error:  # decoders and archives raise many types of error for broken files
        why = reason(error) if isinstance(error, OSError) and error.strerror else one_line(error)
        raise UserError(f"cannot read the picture {entry}: {why}") from error
