"""The command `mtdeblur deblur`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import (
    CalibrationOption,
    CodecOption,
    CrfOption,
    DeviceOption,
    DistributedOption,
    Engine,
    EngineOption,
    IterationsOrNoneOption,
    MemoryOption,
    Precision,
    PrecisionOption,
    TileOption,
    WeightsOption,
    flag,
    with_bare_option,
)
from mtdeblur.files.places import place_of


class Quality(StrEnum):
    """The qualities of `mtdeblur.weights.catalogue`."""

    fast = "fast"
    good = "good"
    best = "best"


class Comparison(StrEnum):
    """The forms of `mtdeblur.inference.batch.Comparison`."""

    side = "side"
    page = "page"


DeblurCommand = with_bare_option("--compare", Comparison.side, Comparison)
"""Allows `--compare` without a value."""


def deblur(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO",
            help="Photographs, folders of them, or addresses such as s3://...; or videos.",
            parser=place_of,
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file for one photograph or video (its suffix decides the format), otherwise a folder.",
            parser=place_of,
            show_default="PHOTO-deblurred beside PHOTO",
        ),
    ] = None,
    quality: Annotated[
        Quality | None,
        typer.Option(
            help="fast: a small network, about a second a photograph. good: the first step of "
            "MAXIM, trained further on varied pictures. "
            "best: all three steps of the original MAXIM. Not together with --weights.",
            show_default="good",
        ),
    ] = None,
    weights: WeightsOption = None,
    iterations: IterationsOrNoneOption = None,
    save_iterations: Annotated[
        bool, flag("--save-iterations", help="Also write the estimate of every iteration.")
    ] = False,
    strength: Annotated[
        float,
        typer.Option(
            metavar="0-1",
            min=0,
            max=1,
            help="What results keep of the change: 0 is the photograph, 1 the whole estimate.",
        ),
    ] = 1.0,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H|MASK",
            help="Change only a rectangle of the upright photograph, in pixels from its upper left corner, "
            "or what is white in a MASK, a picture of the photograph's size. The edge is soft.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        Comparison | None,
        typer.Option(
            help="Also write a before/after file for each result: side: one picture, also without a value. "
            "page: an HTML file with a slider, for any browser.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = "auto",
    tile: TileOption = "auto",
    precision: PrecisionOption = Precision.auto,
    engine: EngineOption = Engine.auto,
    calibration: CalibrationOption = None,
    quality_jpeg: Annotated[
        int | None,
        typer.Option(
            "--quality-jpeg",
            metavar="1-100",
            min=1,
            max=100,
            help="Quality of JPEG files.",
            show_default="that of a JPEG photograph, otherwise 95",
        ),
    ] = None,
    codec: CodecOption = None,
    crf: CrfOption = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Of folders, take only files with such names ('*.jpg') or paths ('day 1/*'). Repeatable; "
            "upper and lower case are equal.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Of folders, leave out files and sub-folders with such names or paths. Repeatable.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="NUMBER",
            help="Number of photographs at once. One uses all processors already, but several are faster "
            "for small pictures; each needs its own memory. The results are the same.",
            show_default="1; with --distributed one per processor of the cluster",
        ),
    ] = None,
    distributed: DistributedOption = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write a report for other programs: what became of each file, and why.",
            show_default=False,
        ),
    ] = None,
    skip_existing: Annotated[
        bool, flag("--skip-existing", help="Leave out photographs whose results exist.")
    ] = False,
    overwrite: Annotated[
        bool, flag("--overwrite", help="Replace existing files, but never a PHOTO itself.")
    ] = False,
) -> None:
    """Deblur photographs and videos.

    Photographs: JPEG, PNG, TIFF, WebP, AVIF, GIF, BMP and PNM; with an extra HEIC and JPEG XL.

    The first line shows the model and the estimated time, at most.
    Parts of a picture that need no deblurring are left alone (--iterations auto).
    Each file keeps its name, format, depth, transparency, colours, JPEG quality and metadata.
    --iterations 0 only reads and writes.
    A folder keeps its structure. Existing files are not replaced without --overwrite.
    Pictures of more than 500 million pixels, or MTDEBLUR_MAX_PIXELS, are refused.
    Unreadable files are reported and skipped; the exit code is then 1.
    Files of a folder that are no pictures are passed over, counted in one line; that is no error.
    Repeat the command to resume after an interruption; finished pictures are not done again.
    A video keeps its timestamps, sound, subtitles, colours and rotation.
    """
    from mtdeblur.cli.batch import deblur_photographs
    from mtdeblur.cli.interruption import sigterm_interrupts
    from mtdeblur.cli.progress import say
    from mtdeblur.errors import UserError
    from mtdeblur.inference import batch
    from mtdeblur.inference.finding import Patterns
    from mtdeblur.inference.finish import Finish, parse_region
    from mtdeblur.inference.folder import Means
    from mtdeblur.inference.memory import keep_freed_memory
    from mtdeblur.inference.planning import Existing, plan
    from mtdeblur.inference.recipe import Recipe
    from mtdeblur.inference.resuming import Ledger
    from mtdeblur.inference.unchanged import Unchanged
    from mtdeblur.media.clip import are_videos

    for_photographs = {
        "--save-iterations": save_iterations,
        "--strength": strength != 1,
        "--region": region is not None,
        "--compare": compare is not None,
        "--quality-jpeg": quality_jpeg is not None,
        "--include": include,
        "--exclude": exclude,
        "--processes": processes,
        "--distributed": distributed,
        "--report": report,
        "--skip-existing": skip_existing,
        "--iterations 0": iterations == "0",
    }
    videos = are_videos(photos, [name for name, given in for_photographs.items() if given])
    if not videos and (codec is not None or crf is not None):
        raise UserError("--codec and --crf are for videos")
    if skip_existing and overwrite:
        raise UserError("--skip-existing and --overwrite contradict each other; give one of them")
    existing = Existing.REFUSE
    if skip_existing or overwrite:
        existing = Existing.SKIP if skip_existing else Existing.REPLACE
    keep_freed_memory()
    finish = Finish(strength, None if region is None else parse_region(region), quality_jpeg)
    recipe = Recipe(
        weights=weights,
        quality=quality.value if quality else None,
        iterations=iterations,
        device=device,
        precision=precision.value,
        tile=tile,
        memory=memory,
        engine=engine.value,
        calibration=calibration,
    )
    with sigterm_interrupts():
        deblurrer = recipe.load(say)
        if videos and not isinstance(deblurrer, Unchanged):  # which the check above refuses
            from mtdeblur.cli.video import deblur_videos

            settings = recipe.settings(deblurrer)
            deblur_videos(photos, output, deblurrer, settings, codec=codec, crf=crf, overwrite=overwrite)
            return
        work = plan(
            photos,
            output,
            iterations=deblurrer.iterations if save_iterations else 0,
            compare=batch.Comparison(compare.value) if compare else None,
            patterns=Patterns(include or (), exclude or ()),
            existing=existing,
            ledger_of=lambda folder: Ledger(folder, recipe.settings(deblurrer) | finish.settings()),
        )
        means = Means(recipe, processes or (None if distributed else 1), distributed, finish)
        deblur_photographs(work, deblurrer, means, report)
