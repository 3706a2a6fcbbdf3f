"""The command `mtdeblur augment`."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import DistributedOption, WorkersOption, flag


class Preset(StrEnum):
    """The paper's data sets, from GOPRO_Large_all."""

    t_gopro = "t-gopro"
    gopro = "gopro"


def augment(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Videos, folders of frames, or folders of these; paths, or addresses such as s3://...",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DATASET", help="Folder to create.", show_default=False),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="Instead, check a data set against its manifest: missing, altered and extra files.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(help="T-GoPro or the GoPro pairs, from GOPRO_Large_all.", show_default=False),
    ] = None,
    level: Annotated[
        list[int] | None,
        typer.Option(
            min=2,
            help="Temporal level of the blurred pictures. Repeatable: several levels take turns.",
            show_default="7, 9, 11, 13",
        ),
    ] = None,
    pairs_only: Annotated[
        bool, flag("--pairs-only", help="Store blur/ and sharp/ only, without the levels in between.")
    ] = False,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1, help="Frames from one mid-frame to the next.", show_default="the highest level: no overlap"
        ),
    ] = None,
    interpolate: Annotated[
        int | None,
        typer.Option(
            metavar="TIMES",
            help="Multiply the frame rate of an ordinary video by 2, 4 or 8 with interpolated frames.",
            show_default=False,
        ),
    ] = None,
    max_motion: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PIXELS",
            help="With --interpolate: leave out exposures with more motion between two frames.",
            show_default="64",
        ),
    ] = None,
    crf: Annotated[
        str, typer.Option(help="Camera response function: identity, gamma, or a file with two columns.")
    ] = "identity",
    train: Annotated[
        list[str] | None,
        typer.Option(metavar="CLIP", help="Clip to train on: a name, or a pattern such as 'GOPR0374*'."),
    ] = None,
    valid: Annotated[list[str] | None, typer.Option(metavar="CLIP", help="Clip to validate on.")] = None,
    test: Annotated[list[str] | None, typer.Option(metavar="CLIP", help="Clip to test on.")] = None,
    keep_faulty: Annotated[
        bool, flag("--keep-faulty", help="Do not search for scene cuts, lost and repeated frames.")
    ] = False,
    limit_size: Annotated[
        float | None,
        typer.Option(min=0.001, help="Largest size in GB; exposures are dropped evenly to fit."),
    ] = None,
    workers: WorkersOption = None,
    distributed: DistributedOption = False,
) -> None:
    """Average the frames of a high-speed camera to a temporal data set, or check one.

    With --interpolate, an ordinary video serves too: levels and stride then count all frames.
    Writes SPLIT/CLIP/blur, sharp and TLn, and manifest.parquet, into DATASET.
    GoPro's clips are split as published; others are for training, unless in a folder valid/ or test/.
    The same command, given again, resumes an interrupted build.
    """
    from mtdeblur.errors import UserError, counted

    if check is not None:
        if sources or output:
            raise UserError("--check takes only a data set")
        _check(check)
        return
    if not sources or output is None:
        raise UserError(
            "give the sources, and the folder to create with -o DATASET (see mtdeblur augment --help)"
        )
    from mtdeblur.cli.progress import show_stages
    from mtdeblur.data.making.from_frames import augment as build
    from mtdeblur.data.making.interpolation import MAX_MOTION, Interpolation
    from mtdeblur.data.making.plan import PRESETS, Recipe, goals_below
    from mtdeblur.exposure.crf import crf_named

    if preset:
        if level or stride or pairs_only or interpolate:
            raise UserError(
                "a preset has its own levels, stride and frame rate; leave out --level, --stride, "
                "--pairs-only and --interpolate"
            )
        recipe = PRESETS[preset.value]
        recipe = replace(recipe, keep_faulty=keep_faulty or recipe.keep_faulty)
    else:
        inputs = tuple(level or (7, 9, 11, 13))
        recipe = Recipe(inputs, () if pairs_only else goals_below(inputs), stride, keep_faulty=keep_faulty)
    interpolation = None
    if interpolate is not None:
        from mtdeblur.data.making.rife import Rife, load_network

        interpolation = Interpolation(Rife(), interpolate, MAX_MOTION if max_motion is None else max_motion)
        load_network()  # before anything is read, so that missing weights are noticed at once
    elif max_motion is not None:
        raise UserError("--max-motion needs --interpolate")
    with show_stages() as progress:
        rows = build(
            sources,
            output,
            recipe,
            crf=crf_named(crf),
            splits={"train": train or (), "valid": valid or (), "test": test or ()},
            limit=None if limit_size is None else int(limit_size * 1e9),
            workers=workers,
            distributed=distributed,
            interpolation=interpolation,
            progress=progress,
        )
    exposures = [row.split for row in rows if row.level == 1]
    counts = ", ".join(
        f"{counted(exposures.count(split), 'exposure')} for {split}"
        for split in ("train", "valid", "test")
        if split in exposures
    )
    size = sum(row.bytes for row in rows) / 1e9
    typer.echo(f"{output}: {counts}; {counted(len(rows), 'picture')}, {size:.2f} GB")


def _check(dataset: Path) -> None:
    from mtdeblur.cli.progress import show_stages
    from mtdeblur.data.disk.manifest import check_dataset
    from mtdeblur.errors import counted

    total, outcomes = check_dataset(dataset)
    problems = 0
    with show_stages() as progress:
        progress.began("files", total, 0)
        for problem in outcomes:
            if problem:
                problems += 1
                typer.echo(problem)
            progress.advanced()
    typer.echo(f"{dataset}: {counted(total, 'file')}, {problems or 'none'} missing, altered or extra")
    if problems:
        raise typer.Exit(1)
