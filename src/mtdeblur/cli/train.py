"""`mtdeblur train`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="Configuration of the run (YAML).")],
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run; runs/NAME of the configuration by default.")
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Training pack, in place of the configuration's data.")
    ] = None,
    photos: Annotated[
        list[Path] | None, typer.Option(help="Folder of sharp photographs, in place of the configuration's data.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped, if it has begun.")] = False,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="End cleanly, ready to resume, after so many minutes.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes or GPUs that share each batch.")] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="Fuse the network's operations first.")] = False,
) -> None:
    """Train a network by incremental temporal training, from your own photographs or a training pack."""
    from mtdeblur.training.config import read_config
    from mtdeblur.training.run import train as start

    overrides: dict[str, object] = {}
    if pack is not None:
        overrides = {"data.pack": pack, "data.photos": ()}
    elif photos:
        overrides = {"data.photos": tuple(photos), "data.pack": None}
    settings = read_config(config, overrides)
    best = start(
        settings,
        run or Path("runs") / config.stem,
        resume=resume,
        max_minutes=max_minutes,
        device=device,
        devices=devices,
        compiled=compiled,
    )
    typer.echo(f"best weights: {best}")
