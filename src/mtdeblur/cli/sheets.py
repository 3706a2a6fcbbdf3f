"""The command `mtdeblur sheets`."""

from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import DeviceOption, IterationsOption, Precision, PrecisionOption, TileOption


def sheets(
    folder: Annotated[
        Path, typer.Argument(help="Folder of pictures; sub-folders are included.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the sheets.", show_default=False)],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of shipped weights, or a file. Repeatable: a column each.",
            show_default="the default weights",
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of other programs' outputs, named NAME or NAME-ANYTHING. Repeatable.",
            show_default=False,
        ),
    ] = None,
    iterations: IterationsOption = None,
    side: Annotated[int, typer.Option(min=64, help="Height and width of the crops, in pixels.")] = 400,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    tile: TileOption = "auto",
) -> None:
    """Make before/after sheets of a folder of pictures.

    A sheet shows the whole picture, and five crops in full resolution at the same
    places in every picture. Existing sheets are replaced.
    """
    from rich.console import Console
    from rich.progress import track

    from mtdeblur.errors import UserError
    from mtdeblur.evaluation.provenance import identify_weights
    from mtdeblur.files.atomic import check_writable
    from mtdeblur.inference.deblurrer import Deblurrer, load
    from mtdeblur.media.pictures import write_picture
    from mtdeblur.media.sheets import make_sheet, plan

    items = plan(folder, output, beside or [])
    for item in items:
        check_writable(item.target)
    methods: dict[str, Deblurrer] = {}
    for source in weights or [None]:
        method = load(source, iterations=iterations, device=device, precision=precision.value, tile=tile)
        count = f"{method.iterations} iteration{'s' if method.iterations > 1 else ''}"
        methods[f"{Path(identify_weights(source)[0]).stem}, {count}"] = method
    failed = False
    console = Console(stderr=True)
    for item in track(items, "Sheets", console=console):
        try:
            sheet, notices = make_sheet(item, methods, side)
            write_picture(item.target, sheet)
        except UserError as error:
            failed, notices = True, [str(error)]
        for notice in notices:
            console.print(f"mtdeblur: {notice}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
