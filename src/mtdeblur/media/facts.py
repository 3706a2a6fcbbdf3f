"""What a picture file says besides its samples, and how it was coded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

from mtdeblur.media.primaries import Colour

Unit = Literal["none", "inch", "cm"]
_MOST = 1_000_000
_IN_CM = {"inch": 1 / 2.54, "cm": 1.0}


class Resolution(NamedTuple):
    """Pixels per unit of length, across and down; with the unit "none" only their ratio counts."""

    across: float
    down: float
    unit: Unit = "inch"

    @property
    def turned(self) -> "Resolution":
        """That of the picture turned by a quarter."""
        return Resolution(self.down, self.across, self.unit)

    @property
    def per_metre(self) -> tuple[int, int] | None:
        """Whole pixels per metre, as PNG has them; None without a unit."""
        if self.unit == "none":
            return None
        factor = 100 * _IN_CM[self.unit]
        return max(1, round(self.across * factor)), max(1, round(self.down * factor))

    @property
    def _is_whole(self) -> bool:
        return self.across % 1 == self.down % 1 == 0

    def whole(self) -> tuple[int, int, Unit]:
        """The resolution in whole numbers up to 65,535, as JFIF has it, in inches if that is more exact."""
        if self.unit == "none":
            ratio = Fraction(self.across / self.down).limit_denominator(255)
            same = self._is_whole and max(self[:2]) <= 65535
            across, down = (self.across, self.down) if same else (ratio.numerator, ratio.denominator)
            return min(65535, max(1, int(across))), min(65535, max(1, int(down))), "none"
        factor = 1 if self.unit == "inch" else 2.54
        inches = Resolution(self.across * factor, self.down * factor, "inch")
        exact = self if self._is_whole else inches
        across, down = (min(65535, max(1, round(value))) for value in exact[:2])
        return across, down, exact.unit


def resolution(across: float | None, down: float | None, unit: Unit) -> Resolution | None:
    """A resolution if the values are plausible and say something; a missing one is the other direction's."""
    across, down = across or down, down or across
    if not across or not down or not (0 < across < _MOST and 0 < down < _MOST):
        return None
    if unit == "none" and across == down == 1:
        return None
    return Resolution(float(across), float(down), unit)


@dataclass(frozen=True)
class Coding:
    """How a file was coded, for files of the same format.

    Attributes:
        container: the format.
        quality: of JPEG, 1 to 100; None: the default.
        subsampled: whether JPEG has chroma at half the resolution in both directions.
        lossless: whether a WebP file was coded without loss.
        bits: bits of a sample in AVIF and HEIC.
        premultiplied: whether colours are stored multiplied by alpha (in TIFF).
        pieces: chunks (PNG) or segments (JPEG) that are kept as they are: text, comments, colour.
    """

    container: str = ""
    quality: int | None = None
    subsampled: bool = False
    lossless: bool = False
    bits: int | None = None
    premultiplied: bool = False
    pieces: Sequence[bytes] = field(default=(), repr=False)


@dataclass(frozen=True)
class Facts:
    """What is found in a file without decoding its samples.

    Attributes:
        coding: how it was coded.
        resolution: as stored outside EXIF.
        blobs: any of "icc", "exif", "xmp", "iptc" (IIM records) and "photoshop" (resources of Photoshop).
        colour: encoding of its colours if no profile tells.
        notices: what of the file is left out, in one line each, such as "its gain map (HDR) is left out".
        page: number of the picture to decode, from 0.
        sub_page: number of the picture below it (SubIFD), or None.
        pictures: number of pictures in the file, or None if the decoder has to tell.
    """

    coding: Coding = field(default_factory=Coding)
    resolution: Resolution | None = None
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    colour: Colour | None = None
    notices: tuple[str, ...] = ()
    page: int = 0
    sub_page: int | None = None
    pictures: int | None = None
