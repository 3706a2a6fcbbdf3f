"""Atomic files and folders: readers see the old file or the complete new one, never a partial one."""

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from mtdeblur.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: no locking there
    fcntl = None

_PART = ".part"
_LOST = frozenset(
    getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EROFS", "ESTALE", "ENODEV", "ENXIO", "EIO")
)


class DiskError(UserError):
    """A disk is full, has failed or is gone: other files cannot be written there either."""


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
        DiskError: if the disk is full or gone.
        UserError: if the file cannot be written: the folder cannot be created or written, or `path` is a
            folder or a device.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{_PART}{path.suffix}")
    try:
        _refuse_unreplaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # `tempfile` would make the file private; this one gets the usual permissions of a new file.
        created = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            with _marked_as_used(created):
                yield temporary
                synchronise(temporary)
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        kind = DiskError if error.errno in _LOST else UserError
        raise kind(f"cannot write {path}: {reason(error)}") from error


def synchronise(path: Path) -> None:
    """Wait until the content of a file is on the disk.

    Raises:
        OSError: if it cannot be written, for instance because the disk is full.
    """
    with path.open("r+b") as file:  # Windows refuses this for a file that is open for reading alone
        os.fsync(file.fileno())


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


def without_case(name: str) -> str:
    """A form that is equal for names that differ in case or in Unicode's forms of composition alone."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def name_one_file(first: Path, second: Path) -> bool:
    """Whether the file system takes two absolute paths, equal by `without_case`, for one file.

    It is asked by a file that exists for a moment, in the nearest existing folder that both share.
    """
    place, names = Path(first.anchor), (first.name, second.name)
    for one, other in zip(first.parts[1:], second.parts[1:], strict=True):
        if one != other:
            names = one, other
            break
        place /= one
    try:
        if (place / names[0]).exists() or (place / names[1]).exists():
            return (place / names[0]).samefile(place / names[1])
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryDirectory(prefix=".", dir=place) as folder:
            (Path(folder) / names[0]).touch()
            return (Path(folder) / names[1]).exists()
    except OSError:  # `samefile` of two files, one of which does not exist; or nothing can be written
        return False


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


def remove_parts(folder: Path, *, recursive: bool = True) -> None:
    """Delete the partial files that killed processes left in a folder; those of living processes stay.

    Args:
        folder: the folder.
        recursive: whether to search its sub-folders, too.
    """
    pattern = f".*{_PART}*"
    for part in folder.rglob(pattern) if recursive else folder.glob(pattern):
        if re.fullmatch(rf"\.[0-9a-f]{{16}}\{_PART}(\.\w+)?", part.name):
            with suppress(OSError):  # on Windows, open files cannot be deleted
                if not _is_used(part):
                    part.unlink()


@contextmanager
def _marked_as_used(file: int) -> Generator[None]:
    """Lock an open file while it is written, and close it; on Windows it is only closed."""
    if fcntl is None:
        os.close(file)
        yield
        return
    try:
        with suppress(OSError):  # there are file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _is_used(part: Path) -> bool:
    """Whether a living process writes a partial file."""
    if fcntl is None:
        return False
    with part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
