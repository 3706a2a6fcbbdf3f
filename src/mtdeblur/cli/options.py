"""Options that several commands share."""

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

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


def iteration_number(value: str | None) -> str | None:
    """Check a number of iterations.

    Raises:
        typer.BadParameter: if it is not "auto" or a whole number from 1 up.
    """
    if value is None or value == "auto" or (value.isascii() and value.isdigit() and int(value) > 0):
        return value
    raise typer.BadParameter(f"{value!r} is not a number of iterations from 1 up or 'auto'")


def iteration_number_or_zero(value: str | None) -> str | None:
    """Check a number of iterations, which may be zero.

    Raises:
        typer.BadParameter: if it is not "auto" or a whole number from 0 up.
    """
    return value if value == "0" else iteration_number(value)


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


def flag(name: str, *, help: str) -> Any:
    """An option without a value; the help shows the type of the others."""
    return typer.Option(name, metavar="", help=help)


def with_bare_option(name: str, value: StrEnum, values: type[StrEnum]) -> type[TyperCommand]:
    """A class of commands whose option may stand without a value, which Typer's may not.

    Args:
        name: of the option, such as "--compare".
        value: of the option without one.
        values: what may follow the option.
    """

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            spelled: list[str] = []
            for word, following in zip(args, [*args[1:], ""], strict=False):
                alone = word == name and following not in list(values)
                spelled += [word, value] if alone else [word]
            return super().parse_args(ctx, spelled)

    return Command


class Precision(StrEnum):
    """Precision of the computation."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


class Engine(StrEnum):
    """The engines of `mtdeblur.inference.engines`."""

    auto = "auto"
    pytorch = "pytorch"
    openvino = "openvino"
    onnxruntime = "onnxruntime"


WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Name of shipped weights, a path (a file, another program's file or folder, an export), or "
        "hf:OWNER/NAME for a model on the Hugging Face Hub.",
        show_default="the default weights",
    ),
]


def _iterations(callback: Callable[..., Any]) -> Any:
    """The option --iterations, with its check."""
    return typer.Option(
        metavar="NUMBER|auto",
        callback=callback,
        help="Number of iterations. auto: a part of the picture is done when an iteration changes it little; "
        "of a change that motion blur does not explain, less is kept.",
        show_default="auto for the weights of good and best, otherwise as the weights advise",
    )


IterationsOption = Annotated[str | None, _iterations(iteration_number)]
IterationsOrNoneOption = Annotated[str | None, _iterations(iteration_number_or_zero)]
DeviceOption = Annotated[
    str,
    typer.Option(metavar="DEVICE", callback=device_name, help="auto, cpu, gpu, cuda, cuda:1, mps or xpu."),
]
TrainingDeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", callback=training_device, help="auto, cpu, gpu, cuda or mps.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(help="auto uses bfloat16 where the device is fast at it. int8 needs the engine openvino."),
]
EngineOption = Annotated[
    Engine, typer.Option(help="auto uses the fastest one that is installed and safe for the network.")
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="For int8, blurred pictures to calibrate with.",
        show_default="packaged pictures",
    ),
]
TileOption = Annotated[
    str,
    typer.Option(
        metavar="SIZE|off|auto",
        callback=tile_size,
        help="Size in pixels of the parts that are processed separately; smaller parts need less memory. "
        "auto: as large as memory allows. The result is the same with mtnaf-small, and differs slightly with "
        "MAXIM.",
    ),
]
MemoryOption = Annotated[
    str,
    typer.Option(
        metavar="SIZE|auto",
        help="Limit such as 2GB, for the whole program on a CPU and for its tensors on a GPU. It decides the "
        "size of the parts that are processed separately. auto: a share of what is free, on a CPU at most "
        "2 GiB.",
    ),
]
DistributedOption = Annotated[
    bool,
    flag(
        "--distributed",
        help="Use the Ray cluster at RAY_ADDRESS, or the one of this machine; all nodes must share the paths "
        "of inputs and outputs.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Number of processes.", show_default="one per processor")
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        metavar="CODEC",
        help="Of a video: h264, hevc, av1, vp9, prores, ffv1 and others.",
        show_default="that of the video, or h264",
    ),
]
CrfOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Of a video: constant rate factor; lower is better and larger.",
        show_default="20 for h264 and hevc, 24 for av1 and vp9",
    ),
]
