"""Search of folders for pictures: patterns, and the files that are no pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath

from mtdeblur.errors import UserError, counted
from mtdeblur.files.atomic import reason
from mtdeblur.files.places import real, walk
from mtdeblur.media.formats import SUFFIXES

_NAMED = 5  # files that a line names; of more it counts the suffixes


@dataclass(frozen=True)
class Patterns:
    """Which files of a folder to take; upper and lower case are equal.

    A pattern has the wildcards of shells: `*`, `?` and `[abc]`. One without a slash applies to names, one
    with a slash to paths below the folder.

    Attributes:
        include: take only files that match one of these; empty for all.
        exclude: leave out files that match one of these, and what is in folders whose name or path does.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def __call__(self, path: PurePath) -> bool:
        """Whether to take a file.

        Args:
            path: relative to the folder.
        """
        if self.include and not any(_matches(path, pattern) for pattern in self.include):
            return False
        places = [path, *path.parents][:-1]  # the last parent is the folder itself
        return not any(_matches(place, pattern) for pattern in self.exclude for place in places)

    def __str__(self) -> str:
        """As given on the command line."""
        return " ".join(
            f"--{name} '{pattern}'" for name in ("include", "exclude") for pattern in getattr(self, name)
        )


def _matches(path: PurePath, pattern: str) -> bool:
    text = path.as_posix() if "/" in pattern else path.name
    return fnmatchcase(text.casefold(), pattern.removeprefix("./").rstrip("/").casefold())


@dataclass(frozen=True)
class Found:
    """The files of a folder and its sub-folders, sorted.

    Attributes:
        folder: the folder.
        pictures: files with a picture's suffix.
        others: all other files.
    """

    folder: Path
    pictures: list[Path]
    others: list[Path]

    def passed_over(self) -> str:
        """The other files in one line for the user; empty if there are none."""
        if not self.others:
            return ""
        if len(self.others) <= _NAMED:
            names = ", ".join(str(path.relative_to(self.folder)) for path in self.others)
        else:
            kinds = Counter(path.suffix.lower() or "no suffix" for path in self.others)
            names = ", ".join(f"{number} with {kind}" for kind, number in kinds.most_common())
            names = names.replace("with no suffix", "without a suffix")
        return f"{self.folder}: passed over {counted(len(self.others), 'file')} of other formats: {names}"


def search(folder: Path, patterns: Patterns, outside: Path | None = None) -> Found:
    """Search a folder and its sub-folders; hidden files and folders are left out, links are not followed.

    Args:
        folder: to search.
        patterns: which files to take.
        outside: an output folder, whose content is left out if it is inside `folder`.

    Raises:
        UserError: if a folder cannot be listed, or there are no pictures to take.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot list {error.filename}: {reason(error)}") from error

    left_out = None if outside is None else real(outside)
    if left_out == real(folder):
        left_out = None
    pictures: list[Path] = []
    others: list[Path] = []
    excluded = False
    for path in walk(folder, lambda place: _is_shown(place) and real(place) != left_out, refuse):
        picture = path.suffix.lower() in SUFFIXES
        if not _is_shown(path):
            continue
        if not patterns(PurePosixPath(path.relative_to(folder).as_posix())):
            excluded = excluded or picture
        else:
            (pictures if picture else others).append(path)
    if not pictures:
        raise UserError(_nothing(folder, outside if left_out else None, f"{patterns}" if excluded else ""))
    return Found(folder, sorted(pictures), sorted(others))


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _nothing(folder: Path, outside: Path | None, patterns: str) -> str:
    """Why there is nothing to do."""
    if patterns:
        return f"none of the pictures in {folder} is left by {patterns}"
    if outside is not None:
        return f"{folder} contains no pictures outside the output folder {outside}"
    return f"{folder} contains no pictures ({', '.join(SUFFIXES)})"
