"""The server's temporary folder: it is removed at the end, and after a crash by the next server."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from mtdeblur.files import locks
from mtdeblur.media.spool import temporary_folder

_PREFIX = "mtdeblur-serve-"
_LOCK = "lock"


@contextmanager
def own_folder(parent: Path | None = None) -> Generator[Path]:
    """Yield a new folder that only this user can read; it is removed after the block.

    Folders of servers that were killed are removed first.

    Args:
        parent: where to make it; by default where large pictures are kept, see `mtdeblur.media.spool`.
    """
    parent = parent or Path(temporary_folder())
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    with (folder / _LOCK).open("w+b") as file:
        locks.lock(file, 0)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), (folder / _LOCK).open("r+b") as file:  # other users' cannot be opened
            if locks.lock(file, 0):
                shutil.rmtree(folder, ignore_errors=True)
