"""The command `mtdeblur reproduce`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import TrainingDeviceOption


class Parallel(StrEnum):
    """How runs are carried out."""

    local = "local"
    ray = "ray"


def reproduce(
    target: Annotated[
        str, typer.Argument(metavar="TABLE_OR_FIGURE", help="Such as table1 or figure6.", show_default=False)
    ],
    budget: Annotated[
        str,
        typer.Option(help="smoke: minutes, to see that it runs. hours: of two cores. paper: for GPUs."),
    ] = "smoke",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="What to train on and to hold pictures out of: photographs, a pack, or a temporal data "
            "set such as T-GoPro. NAME=FOLDER (gopro=..., t-gopro=..., su=...) for a test set of pairs.",
            show_default="photographs in scikit-image",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of runs, test sets and results.")
    ] = Path("reproduced"),
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW", help="Only this row; again for further ones.", show_default="all of them"
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW=WEIGHTS",
            help="Measure this row with weights that are there, instead of training it: a name, file or "
            "folder as for deblur --weights. Again for further rows.",
            show_default="every row is trained",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row; cells get mean and spread.")] = 1,
    device: TrainingDeviceOption = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes or GPUs that share each run.")] = 1,
    parallel: Annotated[
        Parallel, typer.Option(help="One run after the other, or many at once through Ray.")
    ] = Parallel.local,
) -> None:
    """Make a table or figure of the paper: train what is missing, measure, write it down.

    Finished runs are shared between tables and used again; an interrupted
    one goes on when the same command is given again. Released weights can be
    put into a row instead of training it.
    """
    from mtdeblur.errors import require

    require("mtdeblur.experiments.reproducing", "reproduce")
    from mtdeblur.experiments.reproducing import Request
    from mtdeblur.experiments.reproducing import reproduce as start
    from mtdeblur.experiments.runs import InterruptionError

    request = Request(
        target,
        budget,
        data or (),
        output,
        seeds,
        device,
        devices,
        parallel.value,
        rows=row or (),
        weights=weights or (),
    )
    try:
        for file in start(request):
            typer.echo(file)
    except InterruptionError as interruption:
        raise typer.Exit(128 + interruption.number) from None
