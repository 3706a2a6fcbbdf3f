"""A picture file, on disk or in an archive, and its samples as training reads them."""

import io
import warnings
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError, one_line
from mtdeblur.files.atomic import read_whole, reason

Pixels = NDArray[Any]


class Entry(Protocol):
    """What a file on disk and one in an archive can both do."""

    @property
    def name(self) -> str:
        """Its name without folders."""
        ...

    def read_bytes(self) -> bytes:
        """What it holds."""
        ...

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        ...


def decode(entry: Entry) -> NDArray[np.uint8]:
    """Read one picture with Pillow, turned upright; alpha is dropped, 16-bit grey keeps its upper 8 bits.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UserError: if it cannot be read, naming it.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of, it has read nevertheless
            with Image.open(io.BytesIO(read_whole(entry))) as image:
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I;16"):
                    upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
                return np.asarray(upright.convert("RGB"))
    except Exception as error:  # broken files make decoders and archives fail in many ways
        why = reason(error) if isinstance(error, OSError) and error.strerror else one_line(error)
        raise UserError(f"cannot read the picture {entry}: {why}") from error
