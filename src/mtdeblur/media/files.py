"""Atomic files: a reader sees the old file or the whole new one, never half of it."""

import os
import re
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

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
