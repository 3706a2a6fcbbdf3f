"""Sharp photographs for the simulated high-speed camera: the user's own, and some that anybody has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mtdeblur.errors import require
from mtdeblur.files.atomic import distinct_names
from mtdeblur.media.pictures import list_pictures, read_pixels

PUBLIC_DOMAIN: Mapping[str, str] = {
    "astronaut": "NASA; public domain",
    "chelsea": "Stefan van der Walt; CC0",
    "coffee": "Rachel Michetti; CC0",
    "rocket": "SpaceX; public domain",
}
"""Photographs that come with scikit-image, no download needed, and their licences as it states them."""


@dataclass(frozen=True)
class Photograph:
    """A sharp photograph.

    Attributes:
        name: what the pictures made from it are called.
        source: where it comes from: a path, or in words.
        read: gives (H, W, 3), uint8 or uint16; picklable where it is called in other processes.
    """

    name: str
    source: str
    read: Callable[[], NDArray[Any]] = field(compare=False)


def public_domain_photographs() -> list[Photograph]:
    """The photographs of `PUBLIC_DOMAIN`.

    Raises:
        UserError: if scikit-image is missing.
    """
    data = require("skimage.data", "data", "photographs in the public domain")
    return [
        Photograph(name, f"scikit-image ({licence})", getattr(data, name))
        for name, licence in PUBLIC_DOMAIN.items()
    ]


def find_photographs(paths: Sequence[Path]) -> list[Photograph]:
    """Photographs from files, and from folders and what lies in them.

    A photograph is called by its file's stem; photographs that share one, as in the folders of a camera, are
    told apart by their folders, see `mtdeblur.files.atomic.distinct_names`. One that is given twice counts
    once.

    Raises:
        UserError: if a folder holds no pictures.
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
