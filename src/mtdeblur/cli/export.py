"""The command `mtdeblur export`."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import flag


class Target(StrEnum):
    """The targets of `mtdeblur.export.targets`."""

    onnx = "onnx"
    openvino = "openvino"
    torch = "torch"


def picture_size(value: str) -> tuple[int, int]:
    """Height and width from text such as 720x1280.

    Raises:
        typer.BadParameter: if it is not two whole numbers from 1 up.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", value)
    if match is None:
        raise typer.BadParameter(f"{value!r} is not height x width in pixels, such as 720x1280")
    return int(match[1]), int(match[2])


def _checked_size(value: str | None) -> str | None:
    if value is not None:
        picture_size(value)
    return value


def export(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS", help="A name or a path, as for deblur --weights.", show_default=False
        ),
    ],
    to: Annotated[Target, typer.Option(help="The format, and with it the runtime.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder.", show_default=False)
    ],
    iterations: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of iterations.", show_default="as the weights advise", metavar="NUMBER"
        ),
    ] = None,
    unrolled: Annotated[
        bool, flag("--unrolled", help="Also write one graph of all steps, from the picture to all estimates.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            callback=_checked_size,
            help="Only for pictures of this height and width, padded to the network's multiple.",
            show_default="any size",
        ),
    ] = None,
) -> None:
    """Export weights to ONNX, OpenVINO or torch.export.

    The export is run in its own runtime on two pictures and compared with PyTorch before it is kept.
    The folder is accepted by --weights of deblur, evaluate and curve.
    Its export.json has contract, licence, SHA-256 of the weights and the measured difference.
    """
    from mtdeblur.export.exporting import export as run

    manifest = run(
        weights,
        output,
        to.value,
        iterations=iterations,
        unrolled=unrolled,
        size=picture_size(size) if size else None,
        report=lambda line: typer.echo(line, err=True),
    )
    worst = max(found.max_abs for found in manifest.measured)
    typer.echo(f"{output}: {len(manifest.files)} files, at most {worst:.1e} from PyTorch in float32")
