"""The exception for errors that the user can fix, and helpers that raise it."""

from importlib import import_module
from operator import index
from typing import Any


class UserError(Exception):
    """An error that the user can fix; its one-line text says what is wrong and what to do.

    The command line prints the text without a traceback and exits with code 1.
    """


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's text in one line, or its type's name if the text is empty.

    Args:
        error: any exception.
        limit: maximum length in characters; longer texts are cut and end with three dots.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def whole_number(name: str, value: object) -> int:
    """Convert a count of at least 1 to a Python integer.

    Args:
        name: of the counted things, for the error, such as "iterations".
        value: an integer of Python, NumPy or another library.

    Raises:
        UserError: if it is anything else.
    """
    try:
        number = 0 if isinstance(value, bool) else index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        number = 0
    if number < 1:
        raise UserError(f"the number of {name} must be a whole number and at least 1, not {value}")
    return number


def require(package: str, extra: str = "", what: str = "this") -> Any:
    """Import an optional package, or a module of mtdeblur that depends on optional packages.

    Args:
        package: the module to import.
        extra: the extra of mtdeblur that installs the missing packages; empty for a package that no extra
            installs.
        what: the feature that needs it, for the error.

    Returns:
        The module.

    Raises:
        UserError: if a package is not installed or cannot be loaded.
    """
    advice = f"pip install 'mtdeblur[{extra}]'" if extra else f"pip install {package}"
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mtdeblur"):
            raise
        raise UserError(f"{what} needs {error.name or package}: {advice}") from error
    except ImportError as error:
        name = error.name or package
        if name.startswith("mtdeblur"):
            raise
        raise UserError(
            f"{what} needs {name}, which cannot be loaded ({one_line(error)}): {advice}"
        ) from error
