"""Options that several commands share."""

import re
from enum import StrEnum
from typing import Annotated

import typer

DEVICE = re.compile(r"auto|cpu|gpu|mps|(?:cuda|xpu)(?::\d+)?")
"""Names of devices, of which not all are on every machine."""


def tile_size(value: str) -> str:
    """Check a tile size.

    Raises:
        typer.BadParameter: if it is not "auto", "off" or a whole number from 1 up.
    """
    if value in ("auto", "off") or (value.isascii() and value.isdigit() and int(value) > 0):
        return value
    raise typer.BadParameter(f"{value!r} is not a size in pixels, 'off' or 'auto'")


def device_name(value: str) -> str:
    """Check the spelling of a device's name; whether there is such a device is found out later.

    Raises:
        typer.BadParameter: if there is no such name.
    """
    if DEVICE.fullmatch(value):
        return value
    raise typer.BadParameter(f"{value!r} is not auto, cpu, gpu, cuda, cuda:1 (or another number), mps or xpu")


def training_device(value: str) -> str:
    """Check the name of a kind of device, of which --devices says how many train.

    Raises:
        typer.BadParameter: if there is no such name.
    """
    if DEVICE.fullmatch(value) and ":" not in value and value != "xpu":
        return value
    raise typer.BadParameter(f"{value!r} is not auto, cpu, gpu, cuda or mps")


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
DeviceOption = Annotated[
    str,
    typer.Option(metavar="DEVICE", callback=device_name, help="auto, cpu, gpu, cuda, cuda:1, mps or xpu."),
]
TrainingDeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", callback=training_device, help="auto, cpu, gpu, cuda or mps.")
]
PrecisionOption = Annotated[
    Precision, typer.Option(help="auto takes bfloat16 where the processor is good at it.")
]
TileOption = Annotated[
    str,
    typer.Option(
        metavar="SIZE|off|auto",
        callback=tile_size,
        help="Size in pixels of the parts that a picture is run over: smaller takes less memory. The result "
        "is the same with --quality fast, and differs a little with the others.",
    ),
]
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
