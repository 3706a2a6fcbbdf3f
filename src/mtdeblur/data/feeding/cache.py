"""Decoded pictures: each is decoded once, and then read as the plain samples that it is.

Training looks at small crops of large pictures again and again. Stored as plain samples and mapped into
memory, a crop costs its own pixels alone, whatever the picture's size (`docs/experiments/loading.md`).
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
    """Pixels of pictures, decoded once.

    Args:
        folder: where decoded pictures are kept, as one array file (`.npy`) each; processes and runs share
            them, and a picture that changes gets a new file. None keeps the pictures used last in memory.
        memory: bytes of pictures kept in memory where there is no folder.
    """

    def __init__(self, folder: Path | None = None, memory: int = 2 * 2**30) -> None:
        self.folder, self.memory = folder, memory
        self._kept: dict[str, Pixels] = {}  # the one used last stands last
        self._bytes = 0

    def __call__(self, entry: Entry) -> Pixels:
        """A picture's samples.

        Returns:
            (H, W, 3) uint8, RGB, not to be written to; with a folder, mapped from the file: what is not used
            is not read.

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
        """Decode into the folder what is not there yet, in parallel; what is done stays when this is stopped.

        Args:
            data: whose pictures.

        Yields:
            now and then, how many pictures are still missing; nothing where all are there.

        Raises:
            UserError: if a picture cannot be read, the folder cannot be written, or has too little room.
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
        """Raise UserError if so many more pictures do not fit, all taken to be as large as a stored one."""
        wanted, free = stored.stat().st_size * count, shutil.disk_usage(folder).free
        if wanted > free:
            sizes = f"{free / 1e9:.1f} GB are free, about {wanted / 1e9:.1f} GB are needed"
            raise UserError(f"{folder} has no room for the decoded pictures: {sizes}")

    @staticmethod
    def _file(folder: Path, entry: Entry) -> Path:
        identity = _identity(entry).encode("utf-8", "surrogateescape")
        return folder / f"{hashlib.sha256(identity).hexdigest()[:32]}.npy"

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


def _identity(entry: Entry) -> str:
    """What tells a picture from every other, and from what it was before it changed."""
    if isinstance(entry, zipfile.Path):
        info = entry.root.getinfo(entry.at)
        return f"{entry.at} {info.file_size} {info.CRC}"
    if isinstance(entry, Path):
        status = entry.stat()
        return f"{entry.resolve()} {status.st_size} {status.st_mtime_ns}"
    raise TypeError(f"{entry!r} is neither a file nor part of an archive")
