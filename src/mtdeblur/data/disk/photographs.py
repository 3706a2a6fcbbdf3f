"""Sharp photographs for the simulated high-speed camera: the user's own, and those of scikit-image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mtdeblur.errors import require
from mtdeblur.files.atomic import distinct_names
from mtdeblur.media.formats import list_pictures
from mtdeblur.media.pictures import read_pixels

PUBLIC_DOMAIN: Mapping[str, str] = {
    "astronaut": "NASA; public domain",
    "chelsea": "Stefan van der Walt; CC0",
    "coffee": "Rachel Michetti; CC0",
    "rocket": "SpaceX; public domain",
}
"""Photographs in scikit-image's package that need no download, and their licences as it states them."""


@dataclass(frozen=True)
class Photograph:
    """A sharp photograph.

    Attributes:
        name: used in the names of the pictures made from it.
        source: its path, or a description of its origin.
        read: returns (H, W, 3), uint8 or uint16; must be picklable for use in worker processes.
    """

    name: str
    source: str
    read: Callable[[], NDArray[Any]] = field(compare=False)


def public_domain_photographs() -> list[Photograph]:
    """The photographs of `PUBLIC_DOMAIN`.

    Raises:
        UserError: if scikit-image is missing.
    """
    data = require("skimage.data", "data", "the set of public-domain photographs")
    return [
        Photograph(name, f"scikit-image ({licence})", getattr(data, name))
        for name, licence in PUBLIC_DOMAIN.items()
    ]


def find_photographs(paths: Sequence[Path]) -> list[Photograph]:
    """Photographs from files and, recursively, from folders.

    A photograph is named after its file's stem; duplicate names are prefixed with parent folders, see
    `mtdeblur.files.atomic.distinct_names`. A photograph given twice counts once.

    Raises:
        UserError: if a folder contains no pictures.
    """
    listed = [file for path in paths for file in (list_pictures(path) if path.is_dir() else [path])]
    places: dict[Path, Path] = {}
    for file in listed:
        places.setdefault(file.resolve(), file)
    files = list(places.values())
    names = distinct_names(files, [file.stem for file in files])
    return [
        Photograph(name, str(file), partial(read_pixels, file))
        for name, file in zip(names, files, strict=True)
    ]
