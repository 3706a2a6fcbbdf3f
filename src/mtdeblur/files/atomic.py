"""Atomic files and folders: a reader sees the old file or the whole new one, never half of it."""

import errno
import os
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from mtdeblur.errors import UserError

_PART = ".part"


def reason(error: OSError) -> str:
    """The system's reason in one line, without the error's number and the path."""
    return error.strerror or type(error).__name__


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Give a temporary path in the folder of `path`; it takes the place of `path` when the block ends well.

    The folder is made if it is missing. The temporary file has the suffix of `path`, is hidden, and is
    synchronised to the disk before it is renamed. If the block raises anything, a keyboard interrupt
    included, it is deleted and `path` is left as it was. A symbolic link at `path` is replaced; what it
    points to stays.

    Args:
        path: file to write.

    Yields:
        an empty file to write or to replace.

    Raises:
        UserError: if the system refuses the file: the folder cannot be made or written, `path` is a folder or
            a device, the disk is full.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{_PART}{path.suffix}")
    try:
        _refuse_unreplaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unlike the private files of `tempfile`, this one gets the permissions that any new file would get.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file at once, or nothing.

    Raises:
        UserError: as `atomic_path` does.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text whole, as UTF-8; bytes of a file name that are not UTF-8 are escaped as JSON does it.

    Raises:
        UserError: as `atomic_path` does.
    """
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """Give a folder that is not there yet; it becomes `path`, also new, when the block ends well.

    If it does not end well, what was written stays beside `path` until the next attempt begins anew.

    Args:
        path: folder to make.

    Yields:
        where to make it.
    """
    part = path.with_name(path.name + _PART)
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(path)


def plain_name(name: str) -> str:
    """A file's name, or a part of it, as text that can be stored anywhere: bytes that are no text become %E9.

    On most systems a file's name is any bytes. Python keeps those that are not UTF-8 in a form that neither
    Parquet nor most other programs take.
    """
    return re.sub("[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def distinct_names(places: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Names by which no two files are called alike, upper and lower case alike, and which can be stored.

    A name that is the only one of its kind stays. Others get the names of so many folders before them as
    tell them apart: `100-IMG_0001`; then what their suffix is; then a number.

    Args:
        places: the files or folders: paths, or what has a name, a suffix and parents as these.
        names: of each, such as its name without suffix.

    Returns:
        The new name of each; see also `plain_name`.
    """
    found = [plain_name(name) for name in names]
    paths = [Path(os.path.abspath(place)) if isinstance(place, Path) else place for place in places]
    folders = [[plain_name(folder.name) for folder in path.parents if folder.name] for path in paths]
    for depth in range(max(map(len, folders), default=0)):
        homes: dict[str, set[Path]] = {}
        crowded = _crowded(found)
        for index in crowded:
            homes.setdefault(found[index].casefold(), set()).add(paths[index].parent)
        for index in crowded:
            apart = len(homes[found[index].casefold()]) > 1
            if apart and depth < len(folders[index]):
                found[index] = f"{folders[index][depth]}-{found[index]}"
    for index in _crowded(found):
        found[index] += plain_name(paths[index].suffix).replace(".", "-")
    numbers = count(2)
    while crowded := _crowded(found):
        found[crowded[-1]] += f"-{next(numbers)}"
    return found


def _crowded(names: Sequence[str]) -> list[int]:
    """Places of names that are not the only ones of their kind."""
    times = Counter(name.casefold() for name in names)
    return [index for index, name in enumerate(names) if times[name.casefold()] > 1]


def read_whole(place: Any) -> bytes:
    """What a file holds, on disk or wherever it is.

    Raises:
        OSError: if it cannot be read, or is no regular file: a pipe or device might never end.
    """
    check_regular(place)
    return place.read_bytes()


def check_regular(place: object) -> None:
    """Refuse to open what a program might wait for without end.

    Args:
        place: a path; what is no path of this machine's is not looked at.

    Raises:
        OSError: if it cannot be looked at, or is a named pipe, a socket or a device.
    """
    if isinstance(place, Path):
        mode = place.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a regular file", str(place))


def remove_parts(folder: Path) -> None:
    """Delete the partial files of killed processes, in a folder and its sub-folders."""
    for part in folder.rglob(f".*{_PART}*"):
        if re.fullmatch(rf"\.[0-9a-f]{{16}}\{_PART}(\.\w+)?", part.name):
            part.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Check before long work that a file can be written at its end; nothing is created.

    Raises:
        UserError: if `path` is a folder or a device, or the nearest folder that exists cannot be written.
    """
    try:
        _refuse_unreplaceable(path)
        parent = path.parent
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
        parent_is_folder = parent.is_dir()
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    if not parent_is_folder:
        raise UserError(f"cannot write {path}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: no permission to write in {parent}")


def _refuse_unreplaceable(path: Path) -> None:
    """Raise UserError where renaming over `path` would fail or do harm: folders and devices."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(mode):
        raise UserError(f"cannot write {path}: it is a folder")
    if not stat.S_ISREG(mode):
        raise UserError(f"cannot write {path}: it is not a regular file")
