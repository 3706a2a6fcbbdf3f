"""Files and folders that are on disk or at an fsspec address, such as `s3://bucket/photographs`.

A place on disk is a `Path`; one at an address is a `upath.UPath`, which has the same methods and is typed as
a path here.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mtdeblur.errors import UserError, one_line, require


def place_of(source: str | Path) -> Path:
    """The file or folder at a path or an fsspec address.

    Raises:
        UserError: if it is an address and universal-pathlib or fsspec's driver is not installed.
    """
    text = str(source)
    if "://" not in text and "::" not in text:
        return Path(text)
    upath = require("upath", "data", f"opening {text}")
    try:
        return upath.UPath(text)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot open {text}: {one_line(error)} (fsspec's driver may be missing)") from error


def is_local(place: object) -> bool:
    """Whether a place is on disk."""
    return isinstance(place, Path)


def is_there(place: Path) -> bool:
    """Whether a file, a folder or a link is there, even a link to nothing."""
    return os.path.lexists(place) if is_local(place) else place.exists()


def real(place: Path) -> Path:
    """The absolute path without links; an address itself."""
    return Path(os.path.realpath(place)) if is_local(place) else place


def walk(folder: Path, enter: Callable[[Path], bool], failed: Callable[[OSError], None]) -> Iterator[Path]:
    """The files of a folder and its sub-folders; links to folders are not followed.

    Args:
        folder: to search.
        enter: whether to search a sub-folder.
        failed: receives the error of a folder that cannot be listed.
    """
    if is_local(folder):
        for root, folders, names in os.walk(folder, onerror=failed):
            folders[:] = [name for name in folders if enter(Path(root, name))]
            yield from (Path(root, name) for name in names)
        return
    waiting: list[Any] = [folder]
    while waiting:
        try:
            entries = list(waiting.pop().iterdir())
        except OSError as error:
            failed(error)
            continue
        for entry in entries:
            if entry.is_dir():
                waiting += [entry] if enter(entry) else []
            else:
                yield entry
