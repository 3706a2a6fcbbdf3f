"""The one exception that is meant for the person at the keyboard, and what other errors become in it."""

from importlib import import_module
from operator import index
from typing import Any


class UserError(Exception):
    """Something that the user can put right; its text is one line: what is wrong, and what to do.

    The command line prints the text without a traceback and exits with code 1.
    """


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's text in one line, or its kind if it has none.

    Args:
        error: any exception.
        limit: longer texts are cut to so many characters, of which the last three are dots.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def whole_number(name: str, value: object) -> int:
    """A number of things, from 1 up, as Python's own integer.

    Args:
        name: what it is the number of, such as "iterations".
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
    """Import a package that is optional, or a module of this program that stands on such packages.

    Args:
        package: the module to import.
        extra: the extra of mtdeblur that brings what may be missing; none for a package that has to be
            installed by itself.
        what: what needs it, for the error.

    Returns:
        The module.

    Raises:
        UserError: if a package is not installed, or cannot be loaded.
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
