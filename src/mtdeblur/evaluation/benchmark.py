"""Speed, memory and fidelity of networks, engines, precisions and sizes on this machine, in one run.

Every case runs in a process of its own, so that its peak memory is its own too. The processes take turns,
so that other work on the machine slows all cases. A picture is an array before and after: conversion counts.
"""

import multiprocessing
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median
from typing import Any

from mtdeblur.data.disk.pairs import Pair
from mtdeblur.data.disk.photographs import public_domain_photographs
from mtdeblur.data.making.camera import SimulatedExposure, Simulation, make_exposure
from mtdeblur.errors import UserError
from mtdeblur.evaluation.benchmark_worker import Answer, Case, serve
from mtdeblur.inference.engines.choice import offered
from mtdeblur.networks.contract import Contract

PLAIN = "plain"
"""The engine that others are compared with: PyTorch, float32, NCHW, eager, the trained form."""


@dataclass(frozen=True)
class Figures:
    """What was measured of a case.

    Attributes:
        case: what ran.
        seconds: for one picture and all steps, median, by the clock.
        seconds_of_cores: of all cores together, median.
        seconds_of_system: the part of it that the operating system took, median.
        times_plain: the plain path's time over this one, for the same network and size.
        times_reference: the same with the plain path of the first network; None without that case.
        gflops: multiply-accumulates of the network, times two, in 1e9 a second.
        peak_mib: resident memory of the whole process at its peak, in MiB; None where it is unknown.
        psnr: mean over the pictures, dB; None if not measured.
        psnr_change: the same less the plain path's.
    """

    case: Case
    seconds: float
    seconds_of_cores: float
    seconds_of_system: float
    times_plain: float
    times_reference: float | None
    gflops: float
    peak_mib: float | None
    psnr: float | None
    psnr_change: float | None


def list_cases(
    networks: Sequence[str],
    contracts: Sequence[Contract],
    sizes: Sequence[tuple[int, int]],
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    iterations: int = 1,
) -> list[Case]:
    """All cases, the plain path of each network and size first.

    Args:
        networks: names of weights, or of registered networks, which get random weights.
        contracts: their properties.
        sizes: heights and widths of pictures.
        engines: to compare with the plain path; all that are installed if empty.
        precisions: likewise.
        iterations: number of steps.

    Raises:
        UserError: if an engine is not installed, or nothing remains.
    """
    installed = offered()
    if missing := set(engines) - set(installed):
        raise UserError(f"engine {min(missing)!r} is not one of {', '.join(installed)}")
    ways = [
        (engine, precision)
        for engine in engines or installed
        for precision in installed[engine]
        if not precisions or precision in precisions
    ]
    if not ways:
        raise UserError(f"no engine offers {', '.join(precisions)}: choose float32 or bfloat16")
    cases: list[Case] = []
    for network, contract in zip(networks, contracts, strict=True):
        for height, width in sizes:
            cases.append(Case(network, PLAIN, "float32", height, width, iterations))
            cases += (
                Case(network, engine, precision, height, width, iterations)
                for engine, precision in ways
                if precision in contract.precisions
            )
    return cases


def measure_cases(
    cases: Sequence[Case],
    macs: Callable[[Case], int],
    pairs: Sequence[Pair],
    *,
    repeats: int = 5,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Figures]:
    """Measure all cases.

    Args:
        cases: as `list_cases` gives them.
        macs: multiply-accumulates of a case.
        pairs: blurred and sharp pictures for the PSNR; it is measured at the first size only.
        repeats: measured turns, after one to warm up.
        threads: of each process; None for PyTorch's choice.
        tell: receives a line about what is being done.

    Raises:
        UserError: if a case fails.
    """
    turns: list[list[Answer]] = []
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(case, threads)) for case in cases]
        for turn in range(repeats + 1):
            tell(f"turn {turn} of {repeats}" if turn else "warming up")
            turns.append([ask("time") for ask in processes])
        peaks = [ask("memory") for ask in processes]
        first = (cases[0].height, cases[0].width)
        tell("measuring PSNR")
        quality = [
            [float(ask(pair)) for pair in pairs] if (case.height, case.width) == first else []
            for case, ask in zip(cases, processes, strict=True)
        ]
    columns = zip(*turns[1:], strict=True)
    taken = [[median(column) for column in zip(*times, strict=True)] for times in columns]
    plain = {
        (case.network, case.height, case.width): number
        for number, case in enumerate(cases)
        if case.engine == PLAIN
    }
    figures: list[Figures] = []
    for number, case in enumerate(cases):
        own = plain[case.network, case.height, case.width]
        reference = plain.get((cases[0].network, case.height, case.width))
        seconds, cores, system = taken[number]
        psnr, psnr_plain = (fmean(values) if values else None for values in (quality[number], quality[own]))
        figures.append(
            Figures(
                case=case,
                seconds=seconds,
                seconds_of_cores=cores,
                seconds_of_system=system,
                times_plain=taken[own][0] / seconds,
                times_reference=None if reference is None else taken[reference][0] / seconds,
                gflops=2 * macs(case) / seconds / 1e9,
                peak_mib=peaks[number],
                psnr=psnr,
                psnr_change=None if psnr is None or psnr_plain is None else psnr - psnr_plain,
            )
        )
    return figures


def public_domain_pairs(folder: Path, longest: int = 384) -> list[Pair]:
    """One simulated exposure of each of scikit-image's public-domain photographs.

    Args:
        folder: for the pictures.
        longest: longest side of a photograph, in pixels.

    Raises:
        UserError: if scikit-image is missing.
    """
    settings = Simulation(longest=longest)
    pairs: list[Pair] = []
    for photograph in public_domain_photographs():
        make_exposure(SimulatedExposure(photograph, 0, "", settings.level), folder, settings)
        name = f"{photograph.name}-0"
        pairs.append(Pair(name, folder / f"blur/{name}.png", folder / f"sharp/{name}.png"))
    return pairs


@contextmanager
def _process(case: Case, threads: int | None) -> Generator[Callable[[Any], Any]]:
    """A process that measures one case, as a function from question to answer."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, case, threads), daemon=True)
    process.start()
    there.close()

    def ask(question: Any) -> Any:
        try:
            here.send(question)
            answer = here.recv()
        except (EOFError, OSError):
            raise UserError(f"{case}: the process died; is there enough memory?") from None
        if isinstance(answer, str):
            raise UserError(f"{case}: {answer}")
        return answer

    try:
        yield ask
    finally:
        _close(here)
        process.join(10)
        process.terminate()


def _close(connection: Connection) -> None:
    try:
        connection.send(None)
        connection.close()
    except OSError:
        pass
