"""The source of a row: the runs that train it, or the weights given for it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtdeblur.experiments.catalogue import Row, paper_config
from mtdeblur.experiments.external_weights import Given
from mtdeblur.experiments.measuring import Subject, count_parameters
from mtdeblur.experiments.results import Result
from mtdeblur.experiments.runs import Run, as_run
from mtdeblur.training.config import TrainingConfig


@dataclass(frozen=True)
class Entry:
    """A row with what is measured of it; a row that is only reported has nothing.

    Attributes:
        row: which.
        runs: one a seed.
        given: weights in place of runs.
        subjects: of each run, or of the weights.
    """

    row: Row
    runs: tuple[Run, ...] = ()
    given: Given | None = None
    subjects: tuple[Subject, ...] = ()

    def result(self) -> Result:
        """What is known before anything is measured."""
        if self.given is not None:
            return Result(self.row, parameters=self.given.parameters, weights=self.given.name)
        if not self.runs:
            return Result(self.row)
        trained, full = self.runs[0].config, paper_config(self.row)
        return Result(self.row, parameters=count_parameters(trained), full=count_parameters(full))


def trained(row: Row, configs: list[TrainingConfig], material: str, folder: Path, device: str) -> Entry:
    """A row that is trained.

    Args:
        row: which.
        configs: of its runs, seeds from 0.
        material: key of what is trained on.
        folder: of all runs.
        device: where it is measured.
    """
    runs = tuple(
        as_run(f"{row.name}, seed {seed}", config, material, folder) for seed, config in enumerate(configs)
    )
    steps = row.iterations
    subjects = tuple(Subject(run.folder, partial(run.load, steps), steps, device) for run in runs)
    return Entry(row, runs=runs, subjects=subjects)


def given(row: Row, weights: Given, device: str) -> Entry:
    """A row that weights were given for."""
    subject = Subject(weights.folder, weights.load, len(weights.steps), device)
    return Entry(row, given=weights, subjects=(subject,))
