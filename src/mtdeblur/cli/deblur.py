"""The command `mtdeblur deblur`."""

from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import DeviceOption, IterationsOption, Precision, PrecisionOption, WeightsOption


def _tile(value: str) -> str:
    """Check a tile size; "auto" and "off" are words of the deblurrer's own.

    Raises:
        typer.BadParameter: for anything else that is not a positive whole number.
    """
    if value in ("auto", "off") or (value.isascii() and value.isdigit() and int(value) > 0):
        return value
    raise typer.BadParameter(f"{value!r} is not a size in pixels, 'off' or 'auto'")


def deblur(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTO", help="Photographs, and folders of them.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file for one photograph (its suffix decides the format), otherwise a folder.",
            show_default=False,
        ),
    ],
    weights: WeightsOption = None,
    iterations: IterationsOption = None,
    save_iterations: Annotated[
        bool, typer.Option("--save-iterations", help="Write the estimate of every iteration too.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write a before/after picture beside each result too.")
    ] = False,
    device: DeviceOption = "auto",
    tile: Annotated[
        str,
        typer.Option(
            metavar="SIZE|off|auto",
            callback=_tile,
            help="Tile size in pixels: smaller takes less memory, the result is the same.",
        ),
    ] = "auto",
    precision: PrecisionOption = Precision.auto,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist already; never a PHOTO itself.")
    ] = False,
) -> None:
    """Deblur photographs: JPEG, PNG, TIFF and WebP, 8 or 16 bit.

    Each file keeps its name, format, depth, transparency, profile and EXIF.
    A folder keeps its structure. What exists stays, unless --overwrite is given.
    A file that cannot be read is reported, the rest goes on; exit code 1 tells.
    """
    from mtdeblur.cli.progress import show_progress
    from mtdeblur.inference.batch import deblur_files, plan
    from mtdeblur.inference.deblurrer import load

    deblurrer = load(
        weights,
        iterations=iterations,
        device=device,
        precision=precision.value,
        tile=int(tile) if tile.isdigit() else tile,
    )
    saved = deblurrer.iterations if save_iterations else 0
    jobs = plan(photos, output, iterations=saved, compare=compare, overwrite=overwrite)
    with show_progress(len(jobs), deblurrer.iterations) as observer:
        failures = deblur_files(deblurrer, jobs, observer)
    if failures:
        raise typer.Exit(1)
