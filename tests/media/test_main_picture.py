"""Which picture of a TIFF file is taken."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mtdeblur.media.pictures import read_picture, write_picture


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    "layout", ["thumbnail first", "below", "pyramid", "pyramid below", "unmarked", "old type"]
)
def test_the_main_picture_is_taken(tmp_path: Path, order: str, big: bool, layout: str) -> None:
    main = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    small = main[::4, ::4].copy()
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as file:
        if layout == "thumbnail first":
            file.write(small, photometric="rgb", subfiletype=1)
            file.write(main, photometric="rgb", description="a harbour", metadata=None)
        elif layout == "old type":
            file.write(small, photometric="rgb", extratags=[(255, 3, 1, 2, True)])
            file.write(main, photometric="rgb")
        elif layout == "below":
            file.write(
                small, photometric="rgb", subfiletype=1, subifds=2, description="a harbour", metadata=None
            )
            file.write(small[::2], photometric="rgb", subfiletype=1)
            file.write(main, photometric="rgb")
        elif layout == "pyramid":
            file.write(main, photometric="rgb")
            file.write(small, photometric="rgb", subfiletype=1)
        elif layout == "pyramid below":
            file.write(main, photometric="rgb", subifds=1)
            file.write(small, photometric="rgb", subfiletype=1)
        else:
            file.write(small, photometric="rgb")
            file.write(main, photometric="rgb")
    picture, target = read_picture(path), tmp_path / "b.tif"
    write_picture(target, picture)
    np.testing.assert_array_equal(picture.pixels, main)
    np.testing.assert_array_equal(tifffile.imread(target), main)
    assert len(picture.notices) == (layout == "unmarked")
    if layout in ("thumbnail first", "below"):
        with Image.open(target) as result:
            assert result.tag_v2[270] == "a harbour"
