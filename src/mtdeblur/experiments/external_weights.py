"""Existing weights, measured in a row instead of a training run."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from torch import nn

from mtdeblur.errors import UserError
from mtdeblur.evaluation.provenance import identify_weights
from mtdeblur.experiments.catalogue import Experiment, Row, paper_config
from mtdeblur.networks.contract import Contract, members
from mtdeblur.networks.cost import parameters
from mtdeblur.networks.unroll import Step, default_steps
from mtdeblur.training.network import build_approach
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import advised_steps, load_network


class ExternalWeights(NamedTuple):
    """Weights for a row instead of a run.

    Attributes:
        source: name or path, as given.
        sha256: of their content, see `identify_weights`.
        steps: at test time.
        parameters: number of the network's parameters.
        folder: of their measurements, named after their content and steps.
    """

    source: str
    sha256: str
    steps: tuple[Step, ...]
    parameters: int
    folder: Path

    @property
    def name(self) -> str:
        """Name in stamps."""
        return Path(self.source).resolve().name

    @property
    def account(self) -> str:
        """Description for the reader."""
        return f"{self.source}, iterations: {len(self.steps)}, sha256 {self.sha256}"

    def load(self) -> tuple[nn.Module, tuple[Step, ...]]:
        """The network with these weights, and its steps at test time."""
        return load_network(find_weights(self.source)), self.steps


def take_weights(experiment: Experiment, given: Sequence[str], folder: Path) -> dict[str, ExternalWeights]:
    """Row to the weights given for it, or to its default weights; all weights are loaded, as a check.

    Args:
        experiment: a table or figure.
        given: `ROW=WEIGHTS`, with a name or path as for `inference.deblurrer.load`.
        folder: of the measurements of given weights.

    Raises:
        UserError: if there is no such row, it is given twice, or its weights cannot be loaded.
    """
    rows = {row.name: row for row in experiment.rows if not row.reported}
    taken: dict[str, ExternalWeights] = {}
    for item in given:
        name, equals, source = item.partition("=")
        if not equals or name not in rows:
            raise UserError(f"--weights {item}: expected ROW=WEIGHTS; the rows are {'; '.join(rows)}")
        if name in taken:
            raise UserError(f"--weights {item}: weights for the row {name} are given twice")
        taken[name] = _take(rows[name], source, folder)
    defaults = {name: row.weights for name, row in rows.items() if row.weights and name not in taken}
    return taken | {name: _take(rows[name], source, folder) for name, source in defaults.items()}


def _take(row: Row, source: str, folder: Path) -> ExternalWeights:
    path = find_weights(source)
    network = load_network(path)
    steps = advised_steps(path) or _usual_steps(row, network)
    _, sha256 = identify_weights(source)
    key = hashlib.sha256(json.dumps([sha256, steps]).encode()).hexdigest()[:10]
    return ExternalWeights(source, sha256, steps, parameters(network), folder / key)


def _usual_steps(row: Row, network: nn.Module) -> tuple[Step, ...]:
    """The default steps of a network with one step or its own scales, otherwise the row's steps."""
    default = default_steps(network)
    if len(default) == 1 or cast("Contract", network.contract).scales:
        return default
    steps = build_approach(paper_config(row), network).steps(row.iterations)
    return tuple(step for step in steps if step.network < len(members(network)))
