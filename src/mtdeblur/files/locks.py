"""Locks on bytes of a file, by which processes leave room for one another.

The system releases a process's locks when it ends, however it ends; and all its locks on a file as soon as it
closes the file, even if it has it open twice. Where a file system has no locks, every lock is granted.
"""

import errno
import hashlib
import os
import sys
import time
from contextlib import suppress
from typing import IO, Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_PAUSE = 0.05  # seconds between attempts


def byte_of(name: str) -> int:
    """The byte that stands for a name, far behind the end of any file."""
    return 2**40 + int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=6).digest())


def lock(file: IO[Any], place: int, *, shared: bool = False) -> bool:
    """Lock a byte without waiting; whether it is locked now.

    Args:
        file: open for reading and writing.
        place: of the byte, which need not exist.
        shared: whether others may have the same lock; on Windows it then locks nothing.
    """
    try:
        if sys.platform == "win32":
            if not shared:
                file.seek(place)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.lockf(file, kind | fcntl.LOCK_NB, 1, place)
    except OSError as error:
        return error.errno not in _TAKEN
    return True


def wait_for_lock(file: IO[Any], place: int, *, shared: bool = False) -> None:
    """Lock a byte as soon as it is free."""
    while not lock(file, place, shared=shared):
        time.sleep(_PAUSE)


def unlock(file: IO[Any], place: int) -> None:
    """Release the lock of a byte."""
    with suppress(OSError):
        if sys.platform == "win32":
            file.seek(place)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)
