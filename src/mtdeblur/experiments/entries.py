"""Rows with their runs or given weights."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtdeblur.experiments.catalogue import Row, paper_config
from mtdeblur.experiments.external_weights import ExternalWeights
from mtdeblur.experiments.measuring import Subject, count_parameters
from mtdeblur.experiments.results import Result
from mtdeblur.experiments.runs import Run, as_run
from mtdeblur.training.config import TrainingConfig


@dataclass(frozen=True)
class Entry:
    """A row with its runs or given weights; a row that is only reported has neither.

    Attributes:
        row: the row.
        runs: one for each seed.
        given: weights instead of runs.
        subjects: of each run, or of the weights.
    """

    row: Row
    runs: tuple[Run, ...] = ()
    given: ExternalWeights | None = None
    subjects: tuple[Subject, ...] = ()

    def result(self) -> Result:
        """The result before measurements."""
        if self.given is not None:
            return Result(self.row, parameters=self.given.parameters, weights=self.given.name)
        if not self.runs:
            return Result(self.row)
        trained, full = self.runs[0].config, paper_config(self.row)
        return Result(self.row, parameters=count_parameters(trained), full=count_parameters(full))


def trained(row: Row, configs: list[TrainingConfig], material: str, folder: Path, device: str) -> Entry:
    """A row that is trained.

    Args:
        row: the row.
        configs: of its runs, seeds from 0.
        material: key of the training data.
        folder: of all runs.
        device: for measurements.
    """
    runs = tuple(
        as_run(f"{row.name}, seed {seed}", config, material, folder) for seed, config in enumerate(configs)
    )
    steps = row.iterations
    subjects = tuple(Subject(run.folder, partial(run.load, steps), steps, device) for run in runs)
    return Entry(row, runs=runs, subjects=subjects)


def given(row: Row, weights: ExternalWeights, device: str) -> Entry:
    """A row with given weights."""
    subject = Subject(weights.folder, weights.load, len(weights.steps), device)
    return Entry(row, given=weights, subjects=(subject,))
