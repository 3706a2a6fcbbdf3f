"""A recipe of a deblurrer, by which several processes make the same one, and its settings in words."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtdeblur import __version__
from mtdeblur.files.digest import fingerprint
from mtdeblur.weights.catalogue import DEFAULT, Quality, find_weights, offered

if TYPE_CHECKING:
    from collections.abc import Callable

    from mtdeblur.inference.deblurrer import Deblurrer
    from mtdeblur.inference.unchanged import Unchanged


@dataclass(frozen=True)
class Recipe:
    """Arguments of `mtdeblur.inference.deblurrer.load`, with their meaning there; or 0 iterations."""

    weights: str | None = None
    quality: Quality | None = None
    iterations: str | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: str = "auto"
    memory: str = "auto"
    engine: str = "auto"
    calibration: Path | None = None

    def load(self, notice: "Callable[[str], None] | None" = None) -> "Deblurrer | Unchanged":
        """Load the deblurrer.

        Raises:
            UserError: if an argument is invalid or not available.
        """
        from mtdeblur.inference.deblurrer import load
        from mtdeblur.inference.unchanged import Unchanged

        if self.iterations == "0":
            return Unchanged()
        return load(**vars(self), notice=notice)

    def settings(self, deblurrer: "Deblurrer | Unchanged") -> dict[str, Any]:
        """What decides the pixels of results, of JSON's types.

        Args:
            deblurrer: loaded from this recipe.

        Raises:
            UserError: if a file of the weights cannot be read.
        """
        source = offered(self.quality or DEFAULT)[0] if self.weights is None else self.weights
        return {
            "version": __version__,
            "model": deblurrer.describe(()),
            "weights_sha256": fingerprint(find_weights(source)),
            "tile": self.tile,
            "calibration": self.calibration and fingerprint(self.calibration),
        }

    def given(self) -> dict[str, Any]:
        """The arguments, of JSON's types."""
        return {name: value if value is None else str(value) for name, value in asdict(self).items()}
