"""Warnings about the pictures that a search leaves out."""

import logging
from collections.abc import Callable, Sequence

LOG = logging.getLogger("mtdeblur")
"""The logger of these warnings, which the command line shows on standard error."""
MAX_WARNINGS = 5

Report = Callable[[Sequence[str]], None]
"""Receives one line for each picture left out, with the reason."""


def warn(faults: Sequence[str]) -> None:
    """Log the first few faults, and the number of the others, as warnings."""
    for fault in faults[:MAX_WARNINGS]:
        LOG.warning("%s", fault)
    if len(faults) > MAX_WARNINGS:
        LOG.warning("%s", f"and {len(faults) - MAX_WARNINGS} more pictures are left out")


def summary(faults: Sequence[str]) -> str:
    """The first fault, and the number of the others, for an error."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}"
