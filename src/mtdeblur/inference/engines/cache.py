"""Converted and compiled models on disk, so that the first picture of a later run starts at once.

An entry is one file, named by the hash of all facts that its content depends on, and written atomically: two
processes may make the same entry at once. A damaged entry is deleted and made again. The least recently used
entries are deleted beyond `LIMIT` bytes. Without a writable folder nothing is kept.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import write_atomically

VARIABLE = "MTDEBLUR_CACHE"
"""Environment variable for the folder; `off` keeps nothing."""
LIMIT = 2_000_000_000
"""Maximum size of all entries together, in bytes."""
SUFFIX = ".model"
_DIGEST = hashlib.sha256().digest_size


def folder() -> Path | None:
    """The folder of the entries, which need not exist; None if nothing is to be kept."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return None if named == "off" else Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification ignores relative paths
        base = os.environ.get("LOCALAPPDATA", "") if sys.platform == "win32" else ""
        usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
        base = base or os.path.expanduser(usual)
    return Path(base) / "mtdeblur" if os.path.isabs(base) else None


def read(facts: Mapping[str, Any]) -> bytes | None:
    """The content of an entry; None if there is none, or it was damaged.

    Args:
        facts: everything that the content depends on, of JSON's types.
    """
    path = _path(facts)
    if path is None:
        return None
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    content = entry[_DIGEST:]
    with suppress(OSError):
        if hashlib.sha256(content).digest() == entry[:_DIGEST]:
            os.utime(path)
            return content
        path.unlink(missing_ok=True)
    return None


def write(facts: Mapping[str, Any], content: bytes) -> None:
    """Keep an entry if possible, and delete the least recently used ones beyond the limit.

    Args:
        facts: as for `read`.
        content: of the entry.
    """
    path = _path(facts)
    if path is None or len(content) > LIMIT:
        return
    with suppress(UserError, OSError):
        write_atomically(path, hashlib.sha256(content).digest() + content)
        _shrink(path)


def forget(facts: Mapping[str, Any]) -> None:
    """Delete an entry, such as one that its runtime rejects."""
    path = _path(facts)
    if path is not None:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _path(facts: Mapping[str, Any]) -> Path | None:
    place = folder()
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return place and place / (name + SUFFIX)


def _shrink(newest: Path) -> None:
    entries: list[tuple[float, int, Path]] = []
    for path in newest.parent.glob(f"*{SUFFIX}"):
        with suppress(OSError):  # another process deleted it
            status = path.stat()
            entries.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT:
            break
        if path != newest:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            total -= size
