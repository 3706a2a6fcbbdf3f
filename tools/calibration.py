"""Make the packaged pictures that calibrate int8: one mosaic of simulated exposures.

    mtdeblur simulate --public-domain --longest 640 -o pairs
    python tools/calibration.py pairs/blur

The photographs are scikit-image's, in the public domain.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from mtdeblur.inference.engines.int8 import NUMBER, PACKAGED, SIDE
from mtdeblur.media.formats import list_pictures
from mtdeblur.media.pictures import read_pixels


def main(folder: Path) -> None:
    """Write the mosaic: the middles of 16 pictures."""
    crops: list[NDArray[Any]] = []
    for file in list_pictures(folder)[:NUMBER]:
        pixels = read_pixels(file)
        top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
        crops.append(pixels[top : top + SIDE, left : left + SIDE])
    rows = [np.hstack(crops[start : start + 4]) for start in range(0, NUMBER, 4)]
    picture = pyvips.Image.new_from_array(np.ascontiguousarray(np.vstack(rows)))
    picture.webpsave(str(PACKAGED), Q=95, smart_subsample=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
