"""Measured results of a table's or figure's rows, and the stamps that qualify them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtdeblur.evaluation.protocol import Figures
from mtdeblur.evaluation.runtime import RunTime
from mtdeblur.experiments.catalogue import Experiment, Row


@dataclass(frozen=True)
class Result:
    """The measured result of a row.

    Attributes:
        row: the row.
        figures: test set to, for each seed, the figures of each step; the first are the blurred pictures'.
        convention: of SSIM.
        parameters: of the measured networks; None for a row that is only reported.
        full: of the row's networks at the paper's size; None for such a row and for given weights.
        run_time: None for a row that is only reported.
        weights: name of the given weights; empty for a trained row.
    """

    row: Row
    figures: Mapping[str, Sequence[Sequence[Figures]]] = field(default_factory=dict[str, Any])
    convention: str = "gaussian"
    parameters: int | None = None
    full: int | None = None
    run_time: RunTime | None = None
    weights: str = ""

    def psnr(self, name: str, step: int = -1) -> list[float]:
        """PSNR in dB on a test set after a step (by default the last), one a seed; empty if not measured."""
        return [figures[step].psnr for figures in self.figures.get(name, ())]

    def ssim(self, name: str, step: int = -1) -> list[float]:
        """SSIM likewise."""
        return [figures[step].ssim[self.convention] for figures in self.figures.get(name, ())]


@dataclass(frozen=True)
class Report:
    """A table with its results and their provenance.

    Attributes:
        experiment: the table, with the rows shown.
        results: one a row.
        titles: test set to its title.
        stand_ins: test set to the stamp of its stand-in, such as `simulated`; empty for a real one.
        budget: of training, stand-ins and run time.
        timed: size of the picture for run time, such as `1280x720`.
        provenance: further facts by name.
        picture: file name of the figure; empty for a table.
    """

    experiment: Experiment
    results: tuple[Result, ...]
    titles: dict[str, str]
    stand_ins: dict[str, str]
    budget: str
    timed: str
    provenance: dict[str, str]
    picture: str = ""

    def stamp(self, result: Result, name: str | None = None) -> str:
        """The stamp of a row's figures on a test set, or of figures that do not depend on one."""
        return _joined(self._making(result), self.stand_ins[name] if name else "")

    def run_time_stamp(self, result: Result) -> str:
        """The stamp of a row's run time; for given weights with the size of the picture."""
        return _joined(self._making(result), self.timed if result.weights else "")

    def blurred_stamp(self, name: str) -> str:
        """The stamp of the blurred pictures' own figures; empty for real test sets."""
        return _joined(self.budget, self.stand_ins[name]) if self.stand_ins[name] else ""

    @property
    def summary(self) -> str:
        """Summary of all stamps, for a figure."""
        measured = [result for result in self.results if not result.row.reported]
        trained = any(not result.weights for result in measured)
        sets = [f"{self.titles[name]} {words}" for name, words in self.stand_ins.items() if words]
        given = [f"{result.row.name}: {self._making(result)}" for result in measured if result.weights]
        return "; ".join([*([self.budget] if trained else []), *sets, *given])

    def _making(self, result: Result) -> str:
        return f"weights given: {result.weights}" if result.weights else self.budget


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))
