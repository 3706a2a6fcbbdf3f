"""The command `mtdeblur benchmark`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from mtdeblur.cli.options import flag

NETWORKS = ("mtrnn-mixed", "mtnaf-small", "maxim-gopro")


def picture_size(value: str) -> tuple[int, int]:
    """Height and width of a text such as 1280x720.

    Raises:
        typer.BadParameter: if it is no size.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    width, height = (int(part) for part in match.groups()) if match else (0, 0)
    if not width * height:
        raise typer.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 1280x720")
    return height, width


def benchmark(
    networks: Annotated[
        list[str],
        typer.Option(
            "--network",
            help="Names or paths of weights, or registered networks, which get random weights. The first is "
            "the reference of all.",
        ),
    ] = list(NETWORKS),  # noqa: B006 - never changed
    engines: Annotated[
        list[str] | None, typer.Option("--engine", show_default="all that are installed")
    ] = None,
    precisions: Annotated[list[str] | None, typer.Option("--precision", show_default="all")] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="WIDTHxHEIGHT", help="Of pictures.", show_default="1280x720"),
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of every network.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Measured turns, after one to warm up.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads.", show_default="PyTorch's choice")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="Pairs for the PSNR, as for evaluate.",
            show_default="simulated exposures of scikit-image's photographs",
        ),
    ] = None,
    psnr: Annotated[bool, flag(" /--no-psnr", help="Do not measure the PSNR.")] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for benchmark.md and benchmark.json.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure speed, memory and PSNR of networks, engines and precisions here.

    Every case is compared with the plain path: PyTorch, float32, NCHW, eager.
    The options --network, --engine, --precision and --size can be repeated.
    """
    import tempfile

    import torch

    from mtdeblur.cli.progress import Complaints
    from mtdeblur.data.disk.pairs import find_pairs
    from mtdeblur.errors import counted
    from mtdeblur.evaluation import benchmark as measuring
    from mtdeblur.evaluation import benchmark_report as report
    from mtdeblur.evaluation.benchmark_worker import Case, load_model, steps_of
    from mtdeblur.evaluation.runtime import matrix_product_peak
    from mtdeblur.files.atomic import check_writable, write_text
    from mtdeblur.networks.cost import multiply_accumulates

    files = {kind: output / f"benchmark.{kind}" for kind in ("md", "json")} if output else {}
    for path in files.values():
        check_writable(path)
    models = {name: load_model(name) for name in networks}
    cases = measuring.list_cases(
        list(models),
        [model.contract for model in models.values()],  # pyright: ignore[reportArgumentType]
        [picture_size(size) for size in sizes or ["1280x720"]],
        engines or (),
        precisions or (),
        iterations,
    )
    if threads is not None:
        torch.set_num_threads(threads)

    def macs(case: Case) -> int:
        model = models[case.network]
        return multiply_accumulates(model, steps_of(model, iterations), (case.height, case.width))[0]

    complaints = Complaints()
    dtypes = {case.precision: getattr(torch, case.precision, None) for case in cases}
    peaks = {
        name: matrix_product_peak(torch.device("cpu"), dtype) / 1e9
        for name, dtype in dtypes.items()
        if dtype is not None and dtype.is_floating_point
    }
    with tempfile.TemporaryDirectory() as folder, complaints.console.status("") as status:
        pairs = []
        if psnr and dataset:
            pairs = find_pairs(dataset, report=complaints.left_out)
        elif psnr:
            pairs = measuring.public_domain_pairs(Path(folder))
        figures = measuring.measure_cases(
            cases, macs, pairs, repeats=repeats, threads=threads, tell=status.update
        )
    source = dataset.name if dataset else "scikit-image's photographs with simulated blur"
    pictures = f"mean over {counted(len(pairs), 'pair')}, {source}"
    given = report.conditions(
        torch.get_num_threads(), peaks, repeats, iterations, pictures if pairs else "not measured"
    )
    if files:
        write_text(files["md"], report.as_markdown(given, figures))
        write_text(files["json"], report.as_json(given, figures))
    typer.echo(report.as_markdown(given, figures), nl=False)
