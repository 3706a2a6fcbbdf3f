"""Options that several commands share."""

import re
from enum import StrEnum
from typing import Annotated

import typer

DEVICE = re.compile(r"auto|cpu|gpu|mps|(?:cuda|xpu)(?::\d+)?")
"""Names of devices."""


def tile_size(value: str) -> str:
    """Check a tile size.

    Raises:
        typer.BadParameter: if it is not "auto", "off" or a whole number from 1 up.
    """
    if value in ("auto", "off") or (value.isascii() and value.isdigit() and int(value) > 0):
        return value
    raise typer.BadParameter(f"{value!r} is not a size in pixels, 'off' or 'auto'")


def device_name(value: str) -> str:
    """Check a device's name, but not whether the device is available.

    Raises:
        typer.BadParameter: if there is no such name.
    """
    if DEVICE.fullmatch(value):
        return value
    raise typer.BadParameter(f"{value!r} is not auto, cpu, gpu, cuda, cuda:1 (or another number), mps or xpu")


def training_device(value: str) -> str:
    """Check the name of a kind of device for training; --devices gives the number.

    Raises:
        typer.BadParameter: if there is no such name.
    """
    if DEVICE.fullmatch(value) and ":" not in value and value != "xpu":
        return value
    raise typer.BadParameter(f"{value!r} is not auto, cpu, gpu, cuda or mps")


class Precision(StrEnum):
    """Precision of the computation."""

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
    typer.Option(min=1, help="Number of iterations.", show_default="as the weights advise"),
]
DeviceOption = Annotated[
    str,
    typer.Option(metavar="DEVICE", callback=device_name, help="auto, cpu, gpu, cuda, cuda:1, mps or xpu."),
]
TrainingDeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", callback=training_device, help="auto, cpu, gpu, cuda or mps.")
]
PrecisionOption = Annotated[
    Precision, typer.Option(help="auto uses bfloat16 where the device is fast at it.")
]
TileOption = Annotated[
    str,
    typer.Option(
        metavar="SIZE|off|auto",
        callback=tile_size,
        help="Size in pixels of the parts that are processed separately; smaller parts need less memory. The "
        "result is the same with --quality fast, and differs slightly with the others.",
    ),
]
DistributedOption = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Use the Ray cluster at RAY_ADDRESS, or the one of this machine; all nodes must share the paths "
        "of inputs and outputs.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Number of processes.", show_default="one a processor")
]
