"""The command `mtdeblur reproduce`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import TrainingDeviceOption


class Parallel(StrEnum):
    """One run at a time, or many on a Ray cluster."""

    local = "local"
    ray = "ray"


def reproduce(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TABLE_OR_FIGURE]",
            help="Such as table1 or figure6. Without it, the command lists what there is.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            help="smoke: a check that takes minutes. hours: hours on two cores. paper: full size, for GPUs."
        ),
    ] = "smoke",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Data for training and held-out pictures: photographs, a pack, or a temporal data set such "
            "as T-GoPro. NAME=FOLDER (gopro=..., t-gopro=..., su=...) gives a test set of pairs. Repeatable.",
            show_default="photographs in scikit-image",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of runs, test sets and results.")
    ] = Path("reproduced"),
    row: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW", help="Only this row. Repeatable.", show_default="all rows"),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW=WEIGHTS",
            help="Measure this row with existing weights instead of training it: a name, file or folder as "
            "for deblur --weights. Repeatable.",
            show_default="every row is trained",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row; cells show mean ± deviation.")] = 1,
    device: TrainingDeviceOption = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes or GPUs that share each run.")] = 1,
    parallel: Annotated[
        Parallel, typer.Option(help="local: one run at a time. ray: many at once on a Ray cluster.")
    ] = Parallel.local,
) -> None:
    """Reproduce a table or figure of the paper: train the missing rows, measure them, write the results.

    Tables share finished runs. The same command, given again, resumes an
    interrupted run. --weights measures a row with existing weights instead of
    training it.
    """
    from mtdeblur.errors import require

    require("mtdeblur.experiments.reproducing", "reproduce")
    from mtdeblur.experiments.catalogue import experiment, names
    from mtdeblur.experiments.reproducing import Request
    from mtdeblur.experiments.reproducing import reproduce as start
    from mtdeblur.experiments.runs import InterruptionError

    if target is None:
        width = max(map(len, names()))
        for name in names():
            typer.echo(f"{name:{width}}  {experiment(name).title}")
        return
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
