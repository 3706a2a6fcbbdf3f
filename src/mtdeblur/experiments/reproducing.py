"""Reproduction of a table or figure: train the missing rows, measure them, write the results."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtdeblur.experiments.catalogue import (
    Budget,
    Experiment,
    Row,
    at_equal_cost,
    base,
    budget,
    experiment,
    only,
    training_config,
)
from mtdeblur.experiments.drawing import draw
from mtdeblur.experiments.entries import Entry, given, trained
from mtdeblur.experiments.external_weights import ExternalWeights, take_weights
from mtdeblur.experiments.material import Material, prepare
from mtdeblur.experiments.provenance import provenance
from mtdeblur.experiments.results import Report, Result
from mtdeblur.experiments.runs import carry_out_all
from mtdeblur.experiments.tabulating import as_csv, as_markdown
from mtdeblur.files.atomic import check_writable, write_atomically
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.progress import say


@dataclass(frozen=True)
class Request:
    """A request to reproduce a table or figure.

    Attributes:
        target: name of a table or figure, such as `table1`.
        budget: "smoke", "hours" or "paper".
        data: as for `material.prepare`.
        output: folder for runs, test sets and results.
        seeds: number of runs of each row, with seeds from 0.
        device: "auto", "cpu", "gpu", "cuda" or "mps".
        devices: processes or GPUs that share each run.
        parallel: "local" for one run at a time, "ray" for many.
        rows: names of the rows; empty for all.
        weights: `ROW=WEIGHTS` for rows to measure with given weights, see `take_weights`.
    """

    target: str
    budget: str = "smoke"
    data: Sequence[str] = ()
    output: Path = Path("reproduced")
    seeds: int = 1
    device: str = "auto"
    devices: int = 1
    parallel: str = "local"
    rows: Sequence[str] = ()
    weights: Sequence[str] = ()


def reproduce(request: Request) -> list[Path]:
    """Reproduce the table or figure; finished runs are reused and interrupted ones resumed.

    Returns:
        The files written.

    Raises:
        UserError: if the request is invalid.
        InterruptionError: if the user interrupts it; the same request resumes it.
    """
    whole = experiment(request.target)
    shown, settings = only(whole, request.rows), budget(whole, request.budget)
    weights = take_weights(shown, request.weights, request.output / "given")
    target = request.output / request.budget / request.target
    check_writable(target.with_suffix(".md"))
    material = _material(shown, request, settings)
    entries = [_enter(row, whole, weights.get(row.name), request, settings, material) for row in shown.rows]
    runs = [run for entry in entries for run in entry.runs]
    carry_out_all(runs, device=request.device, devices=request.devices, parallel=request.parallel)

    results = tuple(_measure(entry, shown, settings, material) for entry in entries)
    report = Report(
        experiment=shown,
        results=results,
        titles={name: base().test_sets[name].title for name in material.sets},
        stand_ins=dict(material.stamps),
        budget=request.budget,
        timed=f"{settings.run_time.width}x{settings.run_time.height}",
        provenance=provenance(whole, entries, request.budget, settings, material),
        picture="" if shown.kind == "table" else f"{request.target}.png",
    )
    texts = {".md": as_markdown(report), ".csv": as_csv(report)}
    files = {suffix: text.encode("utf-8", "backslashreplace") for suffix, text in texts.items()}
    if shown.kind != "table":
        subjects = {entry.row.name: entry.subjects for entry in entries if entry.subjects}
        files |= draw(report, subjects, material)
    for suffix, content in files.items():
        write_atomically(target.with_suffix(suffix), content)
    return [target.with_suffix(suffix) for suffix in files]


def _material(shown: Experiment, request: Request, settings: Budget) -> Material:
    """The training data and test sets."""
    names = dict.fromkeys(name for row in shown.rows for name in shown.sets_of(row))
    stand_ins = {name: base().test_sets[name] for name in names}
    say("preparing the training pack and the test sets")
    material = prepare(request.data, stand_ins, settings.test, request.output / "data")
    if standing := [stand_ins[name].title for name, stamp in material.stamps.items() if stamp]:
        say(f"no real test sets given: using stand-ins for {', '.join(standing)}; see --data")
    return material


def _enter(
    row: Row,
    whole: Experiment,
    weights: ExternalWeights | None,
    request: Request,
    settings: Budget,
    material: Material,
) -> Entry:
    """The runs or given weights of a row."""
    device = "cuda" if request.device == "gpu" else request.device
    if row.reported:
        return Entry(row)
    if weights is not None:
        return given(row, weights, device)
    configs: list[TrainingConfig] = []
    for seed in range(request.seeds):
        data = dict(material.data)
        config = training_config(row, settings, data, seed)
        if whole.equal_cost:
            config = at_equal_cost(config, training_config(whole.rows[0], settings, data, seed))
        configs.append(config)
    return trained(row, configs, material.key, request.output / "runs", device)


def _measure(entry: Entry, shown: Experiment, settings: Budget, material: Material) -> Result:
    if not entry.subjects:
        return entry.result()
    say(f"measuring {entry.row.name}")
    figures = {
        name: [subject.figures(material.sets[name]) for subject in entry.subjects]
        for name in shown.sets_of(entry.row)
    }
    run_time = entry.subjects[0].run_time(settings.run_time)
    return replace(entry.result(), figures=figures, convention=shown.ssim, run_time=run_time)
