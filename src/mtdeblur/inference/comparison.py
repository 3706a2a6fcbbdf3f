"""A before/after slider for notebooks."""

from html import escape
from pathlib import Path
from typing import Any

from mtdeblur.inference.inputs import take
from mtdeblur.media.comparison import page, write_page
from mtdeblur.media.picture import Picture


class Comparison:
    """Two pictures under a slider, as notebooks show them: the page of `mtdeblur deblur --compare page`.

    Args:
        before: (H, W, 3) RGB, or another image that a deblurrer takes, see `mtdeblur.inference.inputs.take`;
            not a batch.
        after: an image of the same size and type.
        title: above the pictures.
        height: of the frame in a notebook, in pixels of the browser.

    Raises:
        ValueError: if they are no images, or differ in shape or dtype.
    """

    def __init__(
        self, before: Any, after: Any, *, title: str = "Before and after", height: int = 480
    ) -> None:
        self.title, self.height = title, height
        self._before, self._after = _picture(before), _picture(after)
        sizes = [(part.pixels.shape, part.pixels.dtype) for part in (self._before, self._after)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"cannot compare {sizes[0][0]} {sizes[0][1]} with {sizes[1][0]} {sizes[1][1]}")

    def save(self, path: str | Path) -> None:
        """Write the page as one HTML file.

        Raises:
            UserError: if it cannot be written, or the pictures are too large for JPEG.
        """
        write_page(Path(path), self.title, self._before, self._after)

    def __repr__(self) -> str:
        height, width = self._before.pixels.shape[:2]
        return f"Comparison({self.title!r}, {width}x{height})"

    def _repr_html_(self) -> str:
        """The page in a frame that shares no styles with the notebook and does not take the focus."""
        content = escape(page(self.title, self._before, self._after))
        return (
            f'<iframe sandbox="allow-scripts" title="{escape(self.title)}" srcdoc="{content}" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )


def _picture(image: Any) -> Picture:
    """An image as pixels with its colour profile and orientation."""
    info, mode = getattr(image, "info", {}), getattr(image, "mode", "RGB")
    icc = None if mode in ("CMYK", "LAB") else info.get("icc_profile")
    exif = info.get("exif")
    exif = exif.removeprefix(b"Exif\0\0") if exif else None
    return Picture(take(image).pixels, grey=mode in ("1", "L", "LA", "La", "I;16"), icc=icc, exif=exif)
