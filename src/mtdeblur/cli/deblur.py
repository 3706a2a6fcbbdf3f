"""The command `mtdeblur deblur`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import (
    DeviceOption,
    IterationsOption,
    Precision,
    PrecisionOption,
    TileOption,
    WeightsOption,
)


class Quality(StrEnum):
    """The qualities of `mtdeblur.weights.catalogue`."""

    fast = "fast"
    good = "good"
    best = "best"


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
    quality: Annotated[
        Quality | None,
        typer.Option(
            help="fast: a small network, about a second a photograph. good: the first step of MAXIM. "
            "best: all three steps. Not together with --weights.",
            show_default="good",
        ),
    ] = None,
    weights: WeightsOption = None,
    iterations: IterationsOption = None,
    save_iterations: Annotated[
        bool, typer.Option("--save-iterations", help="Also write the estimate of every iteration.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write a before/after picture for each result.")
    ] = False,
    device: DeviceOption = "auto",
    tile: TileOption = "auto",
    precision: PrecisionOption = Precision.auto,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files, but never a PHOTO itself.")
    ] = False,
) -> None:
    """Deblur photographs: JPEG, PNG, TIFF and WebP, 8 or 16 bit.

    The first line shows the model and the estimated time.
    Each file keeps its name, format, depth, transparency, profile and EXIF.
    A folder keeps its structure. Existing files are not replaced without --overwrite.
    Unreadable files are reported and skipped; the exit code is then 1.
    """
    from mtdeblur.cli.progress import show_progress
    from mtdeblur.inference.batch import deblur_files, plan, sizes
    from mtdeblur.inference.deblurrer import load

    deblurrer = load(
        weights,
        quality=quality.value if quality else None,
        iterations=iterations,
        device=device,
        precision=precision.value,
        tile=tile,
    )
    saved = deblurrer.iterations if save_iterations else 0
    jobs = plan(photos, output, iterations=saved, compare=compare, overwrite=overwrite)
    with show_progress(len(jobs)) as observer:
        observer.chose(deblurrer.describe(sizes(jobs)))
        failures = deblur_files(deblurrer, jobs, observer)
    if failures:
        raise typer.Exit(1)
