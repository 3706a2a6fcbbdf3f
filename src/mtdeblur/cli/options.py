"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer


class Precision(StrEnum):
    """Arithmetic that a network runs in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Name of shipped weights, or a path: a file, or another program's file or folder.",
        show_default="the default weights",
    ),
]
IterationsOption = Annotated[
    int | None,
    typer.Option(min=1, help="How many iterations to run.", show_default="what the weights advise"),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="auto takes bfloat16 where the processor is good at it.")
]
TileOption = Annotated[str, typer.Option(help="Tile size in pixels, off or auto.")]
DistributedOption = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Work on the Ray cluster that RAY_ADDRESS names, or that this machine is in; all nodes must see "
        "what is read and written under these paths.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes at work.", show_default="one a processor")
]
