"""`mtdeblur train`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import TrainingDeviceOption, flag, with_bare_option


class Resume(StrEnum):
    """What a run is resumed from."""

    checkpoint = "checkpoint"
    auto = "auto"


TrainCommand = with_bare_option("--resume", Resume.checkpoint, Resume)
"""Allows `--resume` without a value."""


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="Name of a packaged configuration, such as modern or paper, or a YAML file.",
        ),
    ],
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the run; by default runs/NAME, after the configuration."),
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Training pack, instead of the configuration's data.")
    ] = None,
    photos: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of sharp photographs, instead of the configuration's data."),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Data set on disk, instead of the configuration's data.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder on a fast disk for decoded pictures, 3 bytes a pixel."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a setting of the configuration, such as optimiser.batches=1000 (value in YAML). "
            "Repeatable.",
        ),
    ] = None,
    resume: Annotated[
        Resume | None,
        typer.Option(
            help="Continue the run from its last checkpoint, if it has one. auto: if there is no checkpoint, "
            "start from network.weights with a short warm-up.",
            show_default=False,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0.0001, help="Stop after this many minutes, with a checkpoint to resume from."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.0001, help="Train for this many minutes; the learning rate schedule is fitted to them."
        ),
    ] = None,
    device: TrainingDeviceOption = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes or GPUs that share each batch.")] = 1,
    compiled: Annotated[bool, flag("--compile", help="Compile the network with torch.compile.")] = False,
) -> None:
    """Train a network by incremental temporal training, from photographs, a training pack or a data set."""
    from mtdeblur.errors import UserError, require

    sources: dict[str, object] = {"data.pack": pack, "data.photos": photos or (), "data.dataset": dataset}
    given = sum(map(bool, sources.values()))
    if given > 1:
        raise UserError("give only one of --pack, --photos and --dataset")
    require("mtdeblur.training.run", "train", "training")
    from mtdeblur.training.config_file import find_config, parse_settings, read_config
    from mtdeblur.training.progress import say
    from mtdeblur.training.run import train as start

    file = find_config(config)
    overrides = parse_settings(settings or ())
    if given:
        overrides |= sources
    if cache is not None:
        overrides["data.cache"] = cache
    outcome = start(
        read_config(file, overrides),
        run or Path("runs") / file.stem,
        resume=resume is not None,
        rebuild=resume is Resume.auto,
        max_minutes=max_minutes,
        minutes=minutes,
        device=device,
        devices=devices,
        compiled=compiled,
    )
    say(f"weights: {outcome.weights}")
    if outcome.interrupted is not None:
        raise typer.Exit(128 + outcome.interrupted)
