"""Atomic files and folders: readers see the old file or the complete new one, never a partial one."""

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
    """The system's message in one line, without error number and path."""
    return error.strerror or type(error).__name__


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` if the block succeeds.

    A missing folder is created. The temporary file is hidden, has the suffix of `path` and is synchronised to
    the disk before it is renamed. If the block raises (KeyboardInterrupt included), it is deleted and `path`
    is unchanged. A symbolic link at `path` is replaced; its target is unchanged.

    Args:
        path: file to write.

    Yields:
        an empty file to write or to replace.

    Raises:
        UserError: if the file cannot be written: the folder cannot be created or written, `path` is a folder
            or a device, or the disk is full.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{_PART}{path.suffix}")
    try:
        _refuse_unreplaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # `tempfile` would make the file private; this one gets the usual permissions of a new file.
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
    """Write a file atomically.

    Raises:
        UserError: as `atomic_path` does.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text atomically as UTF-8; undecodable bytes of file names are escaped as in JSON.

    Raises:
        UserError: as `atomic_path` does.
    """
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """Yield the path of a folder to create, and rename it to `path` if the block succeeds.

    If the block fails, the partial folder stays beside `path` until the next attempt deletes it.

    Args:
        path: folder to create; it must not exist.

    Yields:
        temporary path, which does not exist yet.
    """
    part = path.with_name(path.name + _PART)
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(path)


def plain_name(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8, such as %E9.

    Python represents such bytes as surrogates, which Parquet and most other programs reject.
    """
    return re.sub("[\ud800-\udfff]", lambda match: f"%{ord(match[0]) & 0xFF:02X}", name)


def distinct_names(places: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Make names unique, ignoring case, and escape them with `plain_name`.

    Unique names are unchanged. Duplicates are prefixed with as many parent folders as needed
    (`100-IMG_0001`), then extended by their suffix, then by a number.

    Args:
        places: the files or folders: paths, or objects with `name`, `suffix` and `parents`.
        names: name of each, such as its stem.

    Returns:
        The unique names, in order.
    """
    unique = [plain_name(name) for name in names]
    paths = [Path(os.path.abspath(place)) if isinstance(place, Path) else place for place in places]
    folders = [[plain_name(folder.name) for folder in path.parents if folder.name] for path in paths]
    for depth in range(max(map(len, folders), default=0)):
        homes: dict[str, set[Path]] = {}
        duplicates = _duplicates(unique)
        for index in duplicates:
            homes.setdefault(unique[index].casefold(), set()).add(paths[index].parent)
        for index in duplicates:
            if len(homes[unique[index].casefold()]) > 1 and depth < len(folders[index]):
                unique[index] = f"{folders[index][depth]}-{unique[index]}"
    for index in _duplicates(unique):
        unique[index] += plain_name(paths[index].suffix).replace(".", "-")
    numbers = count(2)
    while duplicates := _duplicates(unique):
        unique[duplicates[-1]] += f"-{next(numbers)}"
    return unique


def _duplicates(names: Sequence[str]) -> list[int]:
    """Indices of the names that occur more than once, ignoring case."""
    counts = Counter(name.casefold() for name in names)
    return [index for index, name in enumerate(names) if counts[name.casefold()] > 1]


def read_whole(place: Any) -> bytes:
    """The content of a file, local or remote.

    Raises:
        OSError: if it cannot be read, or is not a regular file.
    """
    check_regular(place)
    return place.read_bytes()


def check_regular(place: object) -> None:
    """Refuse pipes, sockets and devices, reading from which might never end.

    Args:
        place: a local path; anything else is accepted unchecked.

    Raises:
        OSError: if its status cannot be read, or it is a named pipe, a socket or a device.
    """
    if isinstance(place, Path):
        mode = place.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a regular file", str(place))


def remove_parts(folder: Path) -> None:
    """Delete the partial files that killed processes left in a folder and its sub-folders."""
    for part in folder.rglob(f".*{_PART}*"):
        if re.fullmatch(rf"\.[0-9a-f]{{16}}\{_PART}(\.\w+)?", part.name):
            part.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Check before a long job that its output file can be written; nothing is created.

    Raises:
        UserError: if `path` is a folder or a device, or its nearest existing folder cannot be written.
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
    """Raise UserError if `path` is a folder or a device, which must not be renamed over."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(mode):
        raise UserError(f"cannot write {path}: it is a folder")
    if not stat.S_ISREG(mode):
        raise UserError(f"cannot write {path}: it is not a regular file")
