"""A decoded photograph."""

from dataclasses import dataclass, field, replace

from mtdeblur.media import exif as exif_blocks
from mtdeblur.media import xmp
from mtdeblur.media.facts import Coding, Resolution
from mtdeblur.media.primaries import Colour
from mtdeblur.media.samples import WHITE, Pixels, averaged, turned


@dataclass(frozen=True)
class Picture:
    """A decoded photograph.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16, full range, or float32, in the file's own RGB encoding and stored
            orientation; the three channels of a grey picture are equal.
        alpha: (H, W) of the same dtype, or None.
        grey: whether the file has one colour channel, as will a file written from this picture.
        icc: colour profile, or None.
        exif: EXIF block, beginning with its byte order mark, or None; holds the orientation.
        xmp: XMP packet, or None.
        iptc: IPTC records, or None.
        photoshop: Photoshop's other image resources, or None.
        resolution: pixels per unit of length, or None.
        coding: how the file was coded, which a file of the same format keeps.
        colour: encoding of the colours where there is no profile; None for sRGB.
        notices: what was left out or converted, in one line each.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    xmp: bytes | None = field(default=None, repr=False)
    iptc: bytes | None = field(default=None, repr=False)
    photoshop: bytes | None = field(default=None, repr=False)
    resolution: Resolution | None = None
    coding: Coding = field(default_factory=Coding, repr=False)
    colour: Colour | None = None
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse arrays of another shape or dtype.

        Raises:
            ValueError: with the shape or dtype.
        """
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"pixels must be (H, W, 3) and not empty, not {pixels.shape}")
        if pixels.dtype.name not in WHITE:
            raise ValueError(f"pixels must be uint8, uint16 or float32, not {pixels.dtype}")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise ValueError(
                f"alpha must be {pixels.shape[:2]} {pixels.dtype}, not {alpha.shape} {alpha.dtype}"
            )

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 (stored upright) to 8."""
        return exif_blocks.orientation(self.exif)

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """The same photograph with other pixels, without its outdated EXIF thumbnail.

        Args:
            pixels: shape and dtype of `self.pixels`; those of a grey picture are averaged over the channels.

        Raises:
            ValueError: if shape or dtype differ.
        """
        if pixels.shape != self.pixels.shape or pixels.dtype != self.pixels.dtype:
            raise ValueError(
                f"pixels must be {self.pixels.shape} {self.pixels.dtype}, not {pixels.shape} {pixels.dtype}"
            )
        pixels = averaged(pixels) if self.grey else pixels
        return replace(
            self,
            pixels=pixels,
            exif=exif_blocks.without_thumbnail(self.exif),
            xmp=xmp.without_thumbnails(self.xmp),
        )

    def upright(self) -> "Picture":
        """The picture turned and mirrored according to its orientation tag, with the tag set to 1."""
        turn = self.orientation
        return replace(
            self,
            pixels=turned(self.pixels, turn),
            alpha=None if self.alpha is None else turned(self.alpha, turn),
            exif=exif_blocks.upright(self.exif),
            resolution=self.resolution.turned if self.resolution and turn > 4 else self.resolution,
        )
