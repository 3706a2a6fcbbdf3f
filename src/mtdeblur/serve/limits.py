"""Limits of the server, and the error of a request that exceeds one."""

from dataclasses import dataclass

from mtdeblur.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What the server accepts.

    Attributes:
        upload: largest file, in bytes.
        pixels: of the largest photograph.
        waiting: longest queue, without the photographs in work.
        running: number of photographs in work at once.
        seconds: longest work on a photograph.
        keep: seconds for which a result is kept if it is not downloaded.
        away: seconds for which a photograph stays in the queue or in work without a page that watches it.
        iterations: largest number that a client may ask for.
    """

    upload: int = 100_000_000
    pixels: int = 50_000_000
    waiting: int = 10
    running: int = 1
    seconds: float = 1800
    keep: float = 600
    away: float = 15
    iterations: int = 20


class Refused(UserError):  # noqa: N818 - it says what happened
    """A request that is refused.

    Attributes:
        status: of the HTTP reply.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
