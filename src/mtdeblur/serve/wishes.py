"""What a client asks for: the options of `mtdeblur deblur` that it may choose."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Form

from mtdeblur.errors import UserError
from mtdeblur.inference.batch import Job
from mtdeblur.inference.finish import Finish, Rectangle
from mtdeblur.inference.planning import plan
from mtdeblur.inference.recipe import Recipe
from mtdeblur.media.formats import container_of
from mtdeblur.serve.limits import Refused
from mtdeblur.weights.catalogue import DEFAULT, Quality

Format = Literal["keep", "jpeg", "png", "tiff", "webp", "avif", "jxl", "bmp", "pnm"]
"""The format of the photograph, or another one."""
_SUFFIXES = {"jpeg": ".jpg", "tiff": ".tif", "pnm": ".ppm"}

QualityField = Annotated[Quality, Form(description="fast, good or best, as of mtdeblur deblur --quality.")]
IterationsField = Annotated[
    str,
    Form(
        pattern=r"^(auto|[1-9][0-9]{0,3})$",
        description="A number of iterations, or auto, which stops early where nothing changes any more.",
    ),
]
StrengthField = Annotated[
    float, Form(ge=0, le=1, description="What the result keeps of the change: 0 is the photograph.")
]
RegionField = Annotated[
    str,
    Form(
        description="Change only this rectangle of the upright photograph: X,Y,W,H in pixels from the upper "
        "left corner. Empty for the whole photograph."
    ),
]
FormatField = Annotated[
    Format, Form(description="keep is that of the photograph, or PNG after GIF and HEIC.")
]
JpegField = Annotated[
    int | None,
    Form(ge=1, le=100, description="Quality of a JPEG file; by default that of a JPEG photograph, else 95."),
]


@dataclass(frozen=True)
class Wishes:
    """A client's options, with the meaning that they have on the command line.

    Attributes:
        quality: selects the weights.
        iterations: a number, or "auto".
        strength: from 0, the photograph, to 1, the estimate.
        region: outside it, the photograph stays as it is; None for everywhere.
        format: of the result.
        jpeg_quality: of a JPEG file, 1 to 100, or None.
    """

    quality: Quality = DEFAULT
    iterations: str = "auto"
    strength: float = 1.0
    region: Rectangle | None = None
    format: Format = "keep"
    jpeg_quality: int | None = None

    def recipe(self, base: Recipe) -> Recipe:
        """How to load the deblurrer, given the server's own options."""
        iterations = None if self.iterations == "auto" else self.iterations
        return replace(base, quality=self.quality, iterations=iterations)

    def finish(self) -> Finish:
        """What the result keeps of the estimate."""
        return Finish(self.strength, self.region, self.jpeg_quality)

    def job(self, source: Path) -> Job:
        """The photograph and the file of its result, beside it, as the command line would name it.

        Args:
            source: the file of the photograph.
        """
        (job,) = plan([source], None).jobs
        if self.format != "keep" and container_of(job.target) != self.format:
            return replace(job, target=job.target.with_suffix(_SUFFIXES.get(self.format, f".{self.format}")))
        return job


async def wishes(
    quality: QualityField = DEFAULT,
    iterations: IterationsField = "auto",
    strength: StrengthField = 1.0,
    region: RegionField = "",
    format: FormatField = "keep",
    jpeg_quality: JpegField = None,
) -> Wishes:
    """The options in a form; FastAPI calls this.

    Raises:
        Refused: if the region is not four numbers, or has no area.
    """
    return Wishes(quality, iterations, strength, rectangle(region), format, jpeg_quality)


def rectangle(text: str) -> Rectangle | None:
    """The rectangle X,Y,W,H; None for an empty text.

    Raises:
        Refused: if it is something else. A file's name, which the command line accepts, would be one of the
            server's own files.
    """
    if not text.strip():
        return None
    if not re.fullmatch(r"\s*-?\d{1,6}\s*(,\s*-?\d{1,6}\s*){3}", text):
        raise Refused(422, "the region must be X,Y,W,H in whole pixels, such as 100,50,640,480")
    found = Rectangle(*map(int, text.split(",")))
    if min(found.width, found.height) < 1:
        raise Refused(422, "the region has no area: give a width and a height from 1 up")
    return found


def check_region(region: Rectangle | None, height: int, width: int) -> None:
    """Refuse a region outside a photograph, before the work.

    Args:
        region: the region.
        height: of the upright photograph, in pixels.
        width: of the upright photograph, in pixels.

    Raises:
        UserError: if no pixel of the photograph is in the region.
    """
    if region is None:
        return
    across = min(width, region.x + region.width) - max(0, region.x)
    down = min(height, region.y + region.height) - max(0, region.y)
    if min(across, down) < 1:
        raise UserError(f"the region {region} is outside the photograph of {width} x {height} pixels")
