"""No iterations: pictures are read and written as they are."""

from collections.abc import Iterator, Sequence
from typing import Any

from mtdeblur.inference.parts import Parts


class Unchanged:
    """A deblurrer of zero iterations, to see what reading and writing alone change."""

    iterations = 0

    def describe(self, sizes: Sequence[tuple[int, int]], within: Any = None) -> str:
        """What it does, in one line."""
        return "0 iterations: pictures are only read and written"

    def parts(self, height: int, width: int, results: int = 1) -> Parts:
        """The whole picture."""
        return Parts("whole")

    def in_turn(self, height: int, width: int) -> bool:
        """True."""
        return True

    def keep_parts(self, height: int, width: int, kept: Any = (), /) -> list[Any]:
        """The whole picture."""
        return []

    def progress(self, *_: Any, **__: Any) -> Iterator[Any]:
        """No estimates."""
        return iter(())
