"""The command `mtdeblur curve`."""

from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import (
    CalibrationOption,
    DeviceOption,
    Engine,
    EngineOption,
    Precision,
    PrecisionOption,
    TileOption,
)


def curve(
    datasets: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET", help="Folders of pairs, as for mtdeblur evaluate.", show_default=False
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option("--dataset", help="Layout of all data sets, see evaluate.", show_default="detected"),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of shipped weights, or a file; several are measured in turn.",
            show_default="the default weights",
        ),
    ] = None,
    iterations: Annotated[
        int, typer.Option(min=1, help="Number of iterations; models with fewer steps run all of them.")
    ] = 7,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    engine: EngineOption = Engine.auto,
    calibration: CalibrationOption = None,
    tile: TileOption = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the curves (CSV).", show_default=False)
    ] = None,
    max_images: Annotated[
        int | None,
        typer.Option(min=1, help="Measure only this many, spread over each data set.", show_default="all"),
    ] = None,
) -> None:
    """Measure PSNR and SSIM against the number of iterations, and their peaks.

    Prints a table for each of the weights, with a column for each data set.
    All pictures of a data set have equal weight, as do all data sets in the
    mean. Pairs that cannot be measured are reported and skipped; the exit code
    is then 1.
    """
    from rich.console import Console
    from rich.progress import track

    from mtdeblur.cli.progress import Complaints, say
    from mtdeblur.data.disk.pairs import find_pairs
    from mtdeblur.evaluation.curve import as_csv, as_table
    from mtdeblur.evaluation.protocol import measure_all
    from mtdeblur.evaluation.provenance import describe
    from mtdeblur.evaluation.tables import Report
    from mtdeblur.files.atomic import check_writable, write_text
    from mtdeblur.inference.deblurrer import load

    if output is not None:
        check_writable(output)
    complaints = Complaints()
    sets = {
        str(dataset): find_pairs(dataset, layout, maximum=max_images, report=complaints.left_out)
        for dataset in datasets
    }
    methods = [
        (
            source,
            load(
                source,
                iterations=iterations,
                or_fewer=True,
                device=device,
                precision=precision.value,
                tile=tile,
                engine=engine.value,
                calibration=calibration,
                notice=say,
            ),
        )
        for source in weights or [None]
    ]
    reports: list[Report] = []
    terminal = Console()
    terminal = terminal if terminal.is_terminal else Console(width=40 * (len(sets) + 1))
    for source, deblurrer in methods:
        curves: list[Report] = []
        for dataset, pairs in sets.items():
            subject = describe(dataset, source, deblurrer)
            shown = track(pairs, f"{subject.weights} on {dataset}", console=complaints.console)
            if measured := measure_all(shown, deblurrer.progress, failed=complaints.say):
                curves.append(Report(subject, tuple(measured)))
        if curves:
            terminal.print(as_table(curves))
        reports += curves
        if output is not None and reports:  # after each of the weights, in case a later one fails
            write_text(output, as_csv(reports))
    if complaints.number:
        raise typer.Exit(1)
