"""The command line's entry: registers one thin file a command and turns errors into one clear line."""

import sys

import typer

from mtdeblur.cli import evaluate, pack, simulate, train
from mtdeblur.errors import UserError

app = typer.Typer(
    name="mtdeblur",
    help="Progressive image deblurring by the multi-temporal approach.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("pack")(pack.pack)
app.command("evaluate")(evaluate.evaluate)
app.command("simulate")(simulate.simulate)


def main() -> None:
    """Run the command line; a UserError becomes one line on standard error and exit code 1."""
    try:
        app()
    except UserError as error:
        typer.echo(f"mtdeblur: {error}", err=True)
        sys.exit(1)
