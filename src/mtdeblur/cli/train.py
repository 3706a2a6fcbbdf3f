"""`mtdeblur train`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mtdeblur.cli.options import TrainingDeviceOption


class Resume(StrEnum):
    """What a run goes on from."""

    checkpoint = "checkpoint"
    auto = "auto"


class TrainCommand(TyperCommand):
    """Lets `--resume` stand alone: Typer has no options whose value may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the value that is meant."""
        spelled: list[str] = []
        for word, following in zip(args, [*args[1:], ""], strict=True):
            alone = word == "--resume" and following not in list(Resume)
            spelled += [word, Resume.checkpoint] if alone else [word]
        return super().parse_args(ctx, spelled)


def train(
    config: Annotated[Path, typer.Argument(help="Configuration of the run (YAML).")],
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the run; runs/NAME of the configuration by default."),
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Training pack, in place of the configuration's data.")
    ] = None,
    photos: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of sharp photographs, in place of the configuration's data."),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Data set on disk, in place of the configuration's data.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder on a fast disk that keeps pictures decoded, 3 bytes a pixel."),
    ] = None,
    resume: Annotated[
        Resume | None,
        typer.Option(
            help="Go on where the run stopped, if it has begun. With auto, and where its checkpoint is not "
            "at hand: from the configuration's network.weights, with a short warm-up.",
            show_default=False,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.0001, help="End cleanly, ready to resume, after so many minutes.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.0001, help="Train for so many minutes, with a schedule that ends then."),
    ] = None,
    device: TrainingDeviceOption = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes or GPUs that share each batch.")] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="Fuse the network's operations first.")] = False,
) -> None:
    """Train a network by incremental temporal training, from photographs, a training pack or a data set."""
    from mtdeblur.errors import UserError, require

    sources: dict[str, object] = {"data.pack": pack, "data.photos": photos or (), "data.dataset": dataset}
    given = sum(map(bool, sources.values()))
    if given > 1:
        raise UserError("give one of --pack, --photos and --dataset, not more")
    overrides = sources if given else {}
    if cache is not None:
        overrides["data.cache"] = cache
    require("mtdeblur.training.run", "train", "training")
    from mtdeblur.training.progress import say
    from mtdeblur.training.reading import read_config
    from mtdeblur.training.run import train as start

    outcome = start(
        read_config(config, overrides),
        run or Path("runs") / config.stem,
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
