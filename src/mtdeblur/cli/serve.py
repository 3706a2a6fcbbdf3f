"""The command `mtdeblur serve`."""

from typing import Annotated

import typer

from mtdeblur.cli.options import (
    DeviceOption,
    Engine,
    EngineOption,
    MemoryOption,
    Precision,
    PrecisionOption,
    flag,
)


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on this address; 0.0.0.0 is all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Listen on this port; 0 is a free one.")] = 8765,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name under which browsers may reach this server, such as photos.example. Repeatable.",
            show_default="localhost, and numeric addresses",
        ),
    ] = None,
    open_page: Annotated[bool, flag("--open", help="Open the page in the browser.")] = False,
    max_upload: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest file, such as 100MB or 1GB.")
    ] = "100MB",
    max_megapixels: Annotated[
        float, typer.Option(min=0.01, metavar="NUMBER", help="Size of the largest photograph.")
    ] = 50,
    max_waiting: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="Photographs that may wait in the queue.")
    ] = 10,
    at_once: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="NUMBER",
            help="Photographs in work at once. One uses all processors already; each needs its own memory.",
        ),
    ] = 1,
    max_time: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Longest work on a photograph.")
    ] = 1800,
    keep: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="Keep a result for so long if nobody downloads it."),
    ] = 600,
    device: DeviceOption = "auto",
    memory: MemoryOption = "auto",
    precision: PrecisionOption = Precision.auto,
    engine: EngineOption = Engine.auto,
) -> None:
    """Serve a page on which photographs sharpen step by step, and the same for programs.

    Drop a photograph on the page, watch it, compare, zoom, and download the file that deblur would write.
    Programs send photographs to /api/deblur; docs/serving.md has examples.
    Photographs stay on this machine, in a temporary folder, until they are downloaded.
    """
    from mtdeblur.cli.interruption import sigterm_interrupts
    from mtdeblur.cli.progress import say
    from mtdeblur.errors import require
    from mtdeblur.inference.memory import to_bytes
    from mtdeblur.inference.recipe import Recipe

    for package in ("python_multipart", "fastapi", "uvicorn"):
        require(package, "serve", "the page")
    from mtdeblur.serve.limits import Limits
    from mtdeblur.serve.running import serve as run

    limits = Limits(
        upload=to_bytes(max_upload) or Limits.upload,
        pixels=round(max_megapixels * 1e6),
        waiting=max_waiting,
        running=at_once,
        seconds=max_time,
        keep=keep,
    )
    base = Recipe(device=device, memory=memory, precision=precision.value, engine=engine.value)
    to_bytes(memory)
    with sigterm_interrupts():
        run(host, port, names=allow_host or (), limits=limits, base=base, say=say, browse=open_page)
