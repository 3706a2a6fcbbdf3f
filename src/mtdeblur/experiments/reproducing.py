"""Make one of the paper's tables or figures: train what is missing, measure it, write it down."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtdeblur.evaluation.metrics import PSNR_CONVENTION, SSIM_CONVENTIONS
from mtdeblur.experiments.catalogue import (
    Budget,
    Experiment,
    Row,
    at_equal_cost,
    base,
    budget,
    experiment,
    training_config,
)
from mtdeblur.experiments.drawing import draw
from mtdeblur.experiments.material import Material, prepare
from mtdeblur.experiments.measuring import Subject, count_parameters
from mtdeblur.experiments.runs import as_run, carry_out_all
from mtdeblur.experiments.tabulating import Report, Result, as_csv, as_markdown
from mtdeblur.media.files import check_writable, write_atomically
from mtdeblur.training.progress import say


@dataclass(frozen=True)
class Request:
    """What somebody asked for.

    Attributes:
        target: name of a table or figure, such as `table1`.
        budget: "smoke", "hours" or "paper".
        data: as for `material.prepare`.
        output: folder for runs, test sets and results.
        seeds: how many runs of each row; their seeds are 0 and up.
        device: "auto", "cpu", "gpu", "cuda" or "mps".
        devices: processes or GPUs that share each run.
        parallel: "local" for one run at a time, "ray" for many.
    """

    target: str
    budget: str = "smoke"
    data: Sequence[str] = ()
    output: Path = Path("reproduced")
    seeds: int = 1
    device: str = "auto"
    devices: int = 1
    parallel: str = "local"


def reproduce(request: Request) -> list[Path]:
    """Make the table or figure; finished runs are used again, an interrupted one goes on.

    Returns:
        The files written.

    Raises:
        UserError: in one line, if something asked for cannot be had.
        InterruptionError: if somebody interrupts; the same command goes on.
    """
    asked, shared = experiment(request.target), base()
    spent = budget(asked, request.budget)
    result = request.output / request.budget / request.target
    check_writable(result.with_suffix(".md"))
    names = dict.fromkeys(name for row in asked.rows for name in asked.sets_of(row))
    stand_ins = {name: shared.test_sets[name] for name in names}
    say("making the training pack and the test sets, unless they are there")
    material = prepare(request.data, stand_ins, spent.test, request.output / "data")
    if standing := [stand_ins[name].title for name, stamp in material.stamps.items() if stamp]:
        say(f"the real test sets are not given: stand-ins serve for {', '.join(standing)}; see --data")
    subjects = {
        row.name: _subjects(row, asked, request, spent, material) for row in asked.rows if not row.reported
    }
    runs = [subject.run for row in subjects.values() for subject in row]
    carry_out_all(runs, device=request.device, devices=request.devices, parallel=request.parallel)

    results: list[Result] = []
    for row in asked.rows:
        if not row.reported:
            say(f"measuring {row.name}")
        names = asked.sets_of(row)
        results.append(_measure(row, subjects.get(row.name, []), names, asked.ssim, spent, material))
    report = Report(
        experiment=asked,
        results=tuple(results),
        titles={name: stand_in.title for name, stand_in in stand_ins.items()},
        stamps={
            name: ", ".join(filter(None, (request.budget, stamp))) for name, stamp in material.stamps.items()
        },
        stamp=request.budget,
        provenance=_provenance(request, asked, spent, material, subjects),
        picture="" if asked.kind == "table" else f"{request.target}.png",
    )
    files = {".md": as_markdown(report).encode(), ".csv": as_csv(report).encode()}
    if asked.kind != "table":
        files |= draw(report, subjects, material)
    for suffix, content in files.items():
        write_atomically(result.with_suffix(suffix), content)
    return [result.with_suffix(suffix) for suffix in files]


def _subjects(
    row: Row, asked: Experiment, request: Request, spent: Budget, material: Material
) -> list[Subject]:
    """The row's runs, one a seed."""
    device = "cuda" if request.device == "gpu" else request.device
    runs: list[Subject] = []
    for seed in range(request.seeds):
        data = dict(material.data)
        config = training_config(row, spent, data, seed)
        if asked.equal_cost:
            config = at_equal_cost(config, training_config(asked.rows[0], spent, data, seed))
        run = as_run(f"{row.name}, seed {seed}", config, material.key, request.output / "runs")
        runs.append(Subject(run, row.iterations, device))
    return runs


def _measure(
    row: Row,
    subjects: Sequence[Subject],
    names: Sequence[str],
    ssim: str,
    spent: Budget,
    material: Material,
) -> Result:
    if not subjects:
        return Result(row)
    measured = {name: [subject.figures(material.sets[name]) for subject in subjects] for name in names}
    full = training_config(row, base().budgets["paper"], {"pack": "any"}, 0)
    return Result(
        row,
        measured,
        ssim,
        parameters=(count_parameters(subjects[0].run.config), count_parameters(full)),
        run_time=subjects[0].run_time(spent.run_time),
    )


def _provenance(
    request: Request,
    asked: Experiment,
    spent: Budget,
    material: Material,
    subjects: Mapping[str, Sequence[Subject]],
) -> dict[str, str]:
    """Where the figures come from, for the reader."""
    runs = [subject.run for row in subjects.values() for subject in row]
    training = [run.account() for run in runs]
    accounts = {account for row in subjects.values() for subject in row for account in subject.accounts}
    timing = spent.run_time
    sets = "; ".join(
        f"{name}: {sum(len(part.pairs) for part in parts)} pairs, {material.stamps[name] or 'real'}"
        for name, parts in material.sets.items()
    )
    return {
        "budget": f"{request.budget}, which changes {json.dumps([spent.training, spent.networks])}",
        "trained on": material.training,
        "test sets": sets,
        "runs": "; ".join(
            f"{name}: {', '.join(subject.run.folder.name for subject in row)}"
            for name, row in subjects.items()
        ),
        "runs of a row": f"{request.seeds}, seeds from 0; ± is the standard deviation over them",
        "trained with": "; ".join(
            sorted({f"{one['devices']} x {one['device']}, commit {one['commit']}" for one in training})
        ),
        "measured with": "; ".join(sorted(accounts)),
        "run time": f"one {timing.width}x{timing.height} picture, after warm-up, median of {timing.repeats}",
        "PSNR": PSNR_CONVENTION,
        "SSIM": SSIM_CONVENTIONS[asked.ssim],
        "assumed, because the paper does not say": "; ".join(base().assumed),
    }
