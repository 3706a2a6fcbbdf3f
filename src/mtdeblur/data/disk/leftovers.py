"""What a search for pictures leaves out: it is told, a few lines of it, and the rest is worked with."""

import logging
from collections.abc import Callable, Sequence

LOG = logging.getLogger("mtdeblur")
"""The command line shows what is written here on standard error."""
TOLD = 5

Tell = Callable[[Sequence[str]], None]
"""Is told of what is left out and why, one line each."""


def tell(faults: Sequence[str]) -> None:
    """Write the first few lines, and how many more there are, as warnings to `LOG`."""
    for fault in faults[:TOLD]:
        LOG.warning("%s", fault)
    if len(faults) > TOLD:
        LOG.warning("%s", f"and {len(faults) - TOLD} more pictures are left out")


def in_short(faults: Sequence[str]) -> str:
    """The first line, and how many more there are, for an error."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}"
