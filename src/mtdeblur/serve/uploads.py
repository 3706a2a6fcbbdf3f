"""Uploaded files: into a folder of their own, and checked before they wait in the queue."""

from pathlib import Path
from typing import BinaryIO

from mtdeblur.errors import UserError
from mtdeblur.media import formats
from mtdeblur.media.formats import sniff
from mtdeblur.media.pictures import read_picture, read_size
from mtdeblur.serve.limits import Limits, Refused
from mtdeblur.serve.queue import Queue
from mtdeblur.serve.tasks import Task, safe_name
from mtdeblur.serve.wishes import Wishes

_AT_ONCE = 2**20  # bytes


def accept(queue: Queue, file: BinaryIO, name: str, wishes: Wishes, *, watched: bool) -> Task:
    """Take an uploaded photograph into the queue.

    Args:
        queue: the queue.
        file: the upload.
        name: as the client gives it.
        wishes: what the client asks for.
        watched: whether views of the iterations are wanted.

    Raises:
        Refused: if the queue is full, or the photograph exceeds a limit or is none.
        UserError: if the result cannot be written in that format.
    """
    limits = queue.limits
    if wishes.iterations != "auto" and int(wishes.iterations) > limits.iterations:
        raise Refused(422, f"at most {limits.iterations} iterations are possible, not {wishes.iterations}")
    queue.check_room()
    folder = queue.new_folder()
    task: Task | None = None
    try:
        source = folder / safe_name(name)
        with source.open("wb") as copy:
            while part := file.read(_AT_ONCE):
                copy.write(part)
        size = checked_size(source, limits)
        task = Task(folder.name, wishes.job(source), wishes, size, watched)
        queue.submit(task)
    except BaseException:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        raise
    return task


def checked_size(source: Path, limits: Limits) -> tuple[int, int]:
    """Height and width of a photograph as it is stored, from its header.

    Args:
        source: the file.
        limits: of which it must not exceed that of pixels.

    Raises:
        Refused: with status 415 if it is no picture or damaged, and 413 if it has too many pixels.
    """
    try:
        with source.open("rb") as file:
            sniff(file.read(formats.HEAD))
        size = read_size(source)
        if size is None:  # the reader knows why
            height, width = read_picture(source, spooled=True).pixels.shape[:2]
            size = height, width
    except UserError as error:
        raise Refused(415, f"{source.name}: {str(error).removeprefix(f'cannot read {source}: ')}") from None
    height, width = size
    if height * width > limits.pixels:
        raise Refused(
            413,
            f"{source.name} has {width} x {height} pixels, {height * width / 1e6:.3g} megapixels; at most "
            f"{limits.pixels / 1e6:.3g} are accepted here",
        )
    return size
