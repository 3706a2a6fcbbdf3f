"""The command `mtdeblur evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import (
    CalibrationOption,
    DeviceOption,
    Engine,
    EngineOption,
    IterationsOption,
    Precision,
    PrecisionOption,
    TileOption,
    WeightsOption,
)


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET",
            help="Folder with blur/ and sharp/, pictures matched by name; or a folder of such folders; or a "
            "data set in its own layout, of which the test split is used.",
            show_default=False,
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Layout: GoPro, T-GoPro, REDS, HIDE, RealBlur-J, RealBlur-R, RSBlur, Su (DVD), Lai, or "
            "pairs.",
            show_default="detected",
        ),
    ] = None,
    weights: WeightsOption = None,
    iterations: IterationsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    engine: EngineOption = Engine.auto,
    calibration: CalibrationOption = None,
    tile: TileOption = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for evaluation.csv and evaluation.json.", show_default=False
        ),
    ] = None,
    max_images: Annotated[
        int | None,
        typer.Option(min=1, help="Measure only this many, spread over the data set.", show_default="all"),
    ] = None,
) -> None:
    """Measure PSNR and SSIM over a folder of blurred and sharp pairs.

    Measures the blurred pictures and every iteration, by named conventions.
    Pairs that cannot be measured, and pictures without a partner, are reported
    and skipped; the exit code is then 1.
    """
    from rich.console import Console
    from rich.progress import track

    from mtdeblur.cli.progress import Complaints, say
    from mtdeblur.data.disk.pairs import find_pairs
    from mtdeblur.evaluation import tables
    from mtdeblur.evaluation.protocol import measure_all
    from mtdeblur.evaluation.provenance import describe
    from mtdeblur.files.atomic import check_writable, write_text
    from mtdeblur.inference.deblurrer import load

    files = {kind: output / f"evaluation.{kind}" for kind in ("csv", "json")} if output else {}
    for path in files.values():
        check_writable(path)
    complaints = Complaints()
    pairs = find_pairs(folder, dataset, maximum=max_images, report=complaints.left_out)
    deblurrer = load(
        weights,
        iterations=iterations,
        device=device,
        precision=precision.value,
        tile=tile,
        engine=engine.value,
        calibration=calibration,
        notice=say,
    )
    subject = describe(str(folder), weights, deblurrer)

    shown = track(pairs, "Measuring", console=complaints.console)
    measured = measure_all(shown, deblurrer.progress, failed=complaints.say)
    if not measured:
        raise typer.Exit(1)

    report = tables.Report(subject, tuple(measured))
    try:
        if files:
            write_text(files["csv"], tables.as_csv(report))
            write_text(files["json"], tables.as_json(report))
    finally:
        terminal = Console()
        (terminal if terminal.is_terminal else Console(width=160)).print(tables.as_tables(report))
    if complaints.number:
        raise typer.Exit(1)
