"""Entry point of the command line: commands and one-line errors."""

import logging
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from mtdeblur import __version__
from mtdeblur.cli import (
    augment,
    benchmark,
    curve,
    deblur,
    evaluate,
    export,
    networks,
    pack,
    reproduce,
    serve,
    sheets,
    simulate,
    train,
)
from mtdeblur.cli.interruption import INTERRUPTED, WHOLE, Interrupted
from mtdeblur.errors import UserError

app = typer.Typer(
    name="mtdeblur",
    help="Progressive image deblurring by the multi-temporal approach.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("deblur", cls=deblur.DeblurCommand)(deblur.deblur)
app.command("evaluate")(evaluate.evaluate)
app.command("curve")(curve.curve)
app.command("benchmark")(benchmark.benchmark)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("augment")(augment.augment)
app.command("sheets")(sheets.sheets)
app.command("simulate")(simulate.simulate)
app.command("train", cls=train.TrainCommand)(train.train)
app.command("pack")(pack.pack)
app.command("networks")(networks.networks)
app.command("reproduce")(reproduce.reproduce)


def main() -> None:
    """Run the command line.

    Exit codes: 0; 1 after a UserError; 2 for an invalid command line; 130 after Ctrl-C, 143 after SIGTERM.
    All but the first are accompanied by one line on standard error.
    """
    _prepare_streams()
    # PyTorch's threads sleep while they wait for one another. By default they spin, and then a second busy
    # program makes this one many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        _stop(str(error), 1)
    except Interrupted as interruption:
        _stop(str(interruption), interruption.code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except OSError as error:
        # Standard output may have failed: redirect it, or the interpreter fails to flush it at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of the output has closed it
            sys.exit(1)
        _stop(f"{error.filename or 'standard output'}: {error.strerror or error}", 1)
    except Exception as error:
        # Typer's usage errors share no public base class across its versions.
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        context = getattr(error, "ctx", None)
        command = f" {context.info_name}" if context is not None and context.parent is not None else ""
        reason = describe().rstrip(".").replace("Value error, ", "")  # Pydantic's, in Typer's message
        _stop(f"{reason} (see mtdeblur{command} --help)", 2)
    if code == INTERRUPTED:
        _stop(WHOLE, INTERRUPTED)
    sys.exit(code or 0)


def _stop(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # standard error may be closed
        typer.echo(f"mtdeblur: {' '.join(message.splitlines())}", err=True)
    sys.exit(code)


def _prepare_streams() -> None:
    """Make output work without standard streams and for any file name.

    A closed stream, as under a service or pythonw, is opened on the null device, so that no other file gets
    its number. Characters that a stream cannot encode, as in file names of another encoding, are escaped.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mtdeblur: %(message)s"))
    logging.getLogger("mtdeblur").handlers = [handler]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mtdeblur {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            help="Print the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
