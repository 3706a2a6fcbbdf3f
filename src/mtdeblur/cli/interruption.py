"""Ctrl-C and SIGTERM: both end a command cleanly."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
"""The shells' exit codes after Ctrl-C and SIGTERM."""
WHOLE = "interrupted; no file is left half-written"
"""What is said after an interruption."""


class Terminated(KeyboardInterrupt):
    """The process got SIGTERM."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A command was interrupted; the text says in one line how to resume.

    Attributes:
        code: exit code.
    """

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


def exit_code(interruption: KeyboardInterrupt) -> int:
    """The exit code after an interruption."""
    return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


@contextmanager
def sigterm_interrupts() -> Generator[None]:
    """Let SIGTERM raise `Terminated` in the block, and end the command if nothing catches it."""

    def terminate(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except Terminated as terminated:
        raise Interrupted(WHOLE, TERMINATED) from terminated
    finally:
        signal.signal(signal.SIGTERM, before)
