"""The command `mtdeblur simulate`."""

from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import DistributedOption, WorkersOption


def simulate(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder to create, with blur/ and sharp/ or a data set.",
            show_default=False,
        ),
    ],
    photos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PHOTO", help="Sharp photographs, or folders of them.", show_default=False),
    ] = None,
    public_domain: Annotated[
        bool, typer.Option("--public-domain", help="Use the public-domain photographs of scikit-image.")
    ] = False,
    exposures: Annotated[int, typer.Option(min=1, help="Exposures of each photograph.")] = 4,
    temporal: Annotated[
        bool,
        typer.Option(
            "--temporal",
            help="Make a temporal data set for training, as augment does: all levels, a manifest, and every "
            "tenth photograph held out.",
        ),
    ] = False,
    level: Annotated[
        list[int] | None,
        typer.Option(
            min=3,
            max=13,
            help="Temporal level of the blurred pictures, odd. With --temporal repeatable: they take turns.",
            show_default="11; 7, 9, 11, 13",
        ),
    ] = None,
    length: Annotated[
        float, typer.Option(min=0, max=400, help="Longest path of the camera over 13 frames, in pixels.")
    ] = 24.0,
    longest: Annotated[
        int, typer.Option(min=64, help="Longer side in pixels to which larger photographs are reduced first.")
    ] = 1280,
    crf: Annotated[
        str, typer.Option(help="Camera response function: gamma, identity, or a file with two columns.")
    ] = "gamma",
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same pictures.")] = 0,
    workers: WorkersOption = None,
    distributed: DistributedOption = False,
) -> None:
    """Make blurred and sharp pairs, or a temporal data set, with a simulated high-speed camera.

    The pictures are smaller than the photographs: the moving camera needs a margin.
    The same command, given again, resumes interrupted work.
    """
    from mtdeblur.cli.progress import show_stages
    from mtdeblur.data.disk.photographs import find_photographs, public_domain_photographs
    from mtdeblur.data.making.camera import Simulation
    from mtdeblur.data.making.from_photographs import simulate as build
    from mtdeblur.errors import UserError
    from mtdeblur.exposure.crf import crf_named
    from mtdeblur.exposure.simulate import Motion

    if bool(photos) == public_domain:
        raise UserError("give either photographs or --public-domain")
    if level and len(level) > 1 and not temporal:
        raise UserError("pairs have one --level; --temporal takes several")
    levels = level or ([7, 9, 11, 13] if temporal else [11])
    settings = Simulation(
        level=levels[0],
        seed=seed,
        longest=longest,
        crf=crf_named(crf),
        motion=Motion(length=length),
    )
    photographs = find_photographs(photos) if photos else public_domain_photographs()
    with show_stages() as progress:
        faults = build(
            photographs,
            output,
            exposures,
            settings,
            levels if temporal else (),
            workers=workers,
            distributed=distributed,
            progress=progress,
        )
    exposed = len(photographs) - len(faults)
    typer.echo(f"{output}: {exposures * exposed} exposures of {exposed} photographs")
    if faults:
        raise typer.Exit(1)
