"""A cache of decoded pictures.

Training reads small crops of large pictures many times. From a memory-mapped array, the cost of a crop does
not depend on the size of its picture (`docs/experiments/loading.md`).
"""

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from mtdeblur.data.disk.decode import Entry, Pixels, decode
from mtdeblur.data.feeding.contents import TrainingData
from mtdeblur.errors import UserError
from mtdeblur.files.atomic import atomic_path


class Decoded:
    """A cache of decoded pictures.

    Args:
        folder: of the cache, with one array file (`.npy`) a picture; processes and runs share it, and a
            changed picture gets a new file. None: a cache in memory that drops the least recently used.
        memory: maximum size of the cache in memory, in bytes.
    """

    def __init__(self, folder: Path | None = None, memory: int = 2 * 2**30) -> None:
        self.folder, self.memory = folder, memory
        self._kept: dict[str, Pixels] = {}  # least recently used first
        self._bytes = 0

    def __call__(self, entry: Entry) -> Pixels:
        """A picture's samples.

        Returns:
            (H, W, 3) uint8, RGB, read-only; with a folder, memory-mapped.

        Raises:
            UserError: if the picture cannot be read, or the folder cannot be written.
        """
        if self.folder is None:
            return self._from_memory(entry)
        file = self._file(self.folder, entry)
        if not file.exists():
            self._store(entry, file)
        return np.asarray(np.load(file, mmap_mode="r"))

    def store(self, data: TrainingData) -> Iterator[int]:
        """Decode all missing pictures into the folder, in parallel; can be interrupted and resumed.

        Args:
            data: the training data.

        Yields:
            after each 64 pictures, the number still missing.

        Raises:
            UserError: if a picture cannot be read, or the folder cannot be written or has too little space.
        """
        if self.folder is None:
            return
        count = sum(1 for _ in self._missing(data))
        missing = self._missing(data)
        with ThreadPoolExecutor() as threads:
            while chunk := list(islice(missing, 64)):
                entries, files = zip(*chunk, strict=True)
                list(threads.map(self._store, entries, files))
                count -= len(chunk)
                self._check_room(self.folder, files[0], count)
                yield count

    def _missing(self, data: TrainingData) -> Iterator[tuple[Entry, Path]]:
        assert self.folder is not None
        for entry in data.pictures():
            file = self._file(self.folder, entry)
            if not file.exists():
                yield entry, file

    def _store(self, entry: Entry, file: Path) -> None:
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, decode(entry))

    def _check_room(self, folder: Path, stored: Path, count: int) -> None:
        """Raise UserError if `count` more pictures of the size of `stored` do not fit."""
        needed, free = stored.stat().st_size * count, shutil.disk_usage(folder).free
        if needed > free:
            sizes = f"{free / 1e9:.1f} GB are free, about {needed / 1e9:.1f} GB are needed"
            raise UserError(f"{folder} has no room for the decoded pictures: {sizes}")

    @staticmethod
    def _file(folder: Path, entry: Entry) -> Path:
        key = _cache_key(entry).encode("utf-8", "surrogateescape")
        return folder / f"{hashlib.sha256(key).hexdigest()[:32]}.npy"

    def _from_memory(self, entry: Entry) -> Pixels:
        key = str(entry)
        pixels = self._kept.pop(key, None)
        if pixels is None:
            pixels = decode(entry)
            self._bytes += pixels.nbytes
            while self._kept and self._bytes > self.memory:
                self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        self._kept[key] = pixels
        return pixels


def _cache_key(entry: Entry) -> str:
    """Cache key: path, size and modification time (or CRC)."""
    if isinstance(entry, zipfile.Path):
        info = entry.root.getinfo(entry.at)
        return f"{entry.at} {info.file_size} {info.CRC}"
    if isinstance(entry, Path):
        status = entry.stat()
        return f"{entry.resolve()} {status.st_size} {status.st_mtime_ns}"
    raise TypeError(f"{entry!r} is neither a file nor part of an archive")
