"""The command `mtdeblur deblur`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    """Arithmetic that a network runs in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


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
    weights: Annotated[
        str | None,
        typer.Option(
            help="Name of shipped weights, or a path: a file, or another program's file or folder.",
            show_default="the default weights",
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, help="How many iterations to run.", show_default="what the weights advise"),
    ] = None,
    save_iterations: Annotated[
        bool, typer.Option("--save-iterations", help="Write the estimate of every iteration too.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write a before/after picture beside each result too.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
    tile: Annotated[
        str,
        typer.Option(
            metavar="SIZE|off|auto",
            callback=_tile,
            help="Tile size in pixels: smaller takes less memory, the result is the same.",
        ),
    ] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="auto takes bfloat16 where the processor is good at it.")
    ] = Precision.auto,
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
