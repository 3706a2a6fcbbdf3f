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
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import advised_steps, load_network


class Given(NamedTuple):
    """Weights in place of a row's run.

    Attributes:
        source: name or path, as given.
        sha256: of their content, see `identify_weights`.
        steps: at test time.
        parameters: how many the network has.
        folder: where what is measured of them is kept; named by their content and the steps.
    """

    source: str
    sha256: str
    steps: tuple[Step, ...]
    parameters: int
    folder: Path

    @property
    def name(self) -> str:
        """What they are called in stamps."""
        return Path(self.source).resolve().name

    @property
    def account(self) -> str:
        """What they are, for the reader."""
        return f"{self.source}, iterations: {len(self.steps)}, sha256 {self.sha256}"

    def load(self) -> tuple[nn.Module, tuple[Step, ...]]:
        """The network with these weights, and its steps at test time."""
        return load_network(find_weights(self.source)), self.steps


def take_weights(asked: Experiment, given: Sequence[str], folder: Path) -> dict[str, Given]:
    """The weights by the row that they were given for, or that has its own; each set is loaded, as a check.

    Args:
        asked: a table or figure.
        given: `ROW=WEIGHTS`, a name or path as for `inference.deblurrer.load`.
        folder: of all that is measured of given weights.

    Raises:
        UserError: if there is no such row, it has weights already, or they cannot be loaded.
    """
    rows = {row.name: row for row in asked.rows if not row.reported}
    taken: dict[str, Given] = {}
    for item in given:
        name, equals, source = item.partition("=")
        if not equals or name not in rows:
            raise UserError(f"--weights {item}: expected ROW=WEIGHTS; the rows are {'; '.join(rows)}")
        if name in taken:
            raise UserError(f"--weights {item}: weights for the row {name} are given twice")
        taken[name] = _take(rows[name], source, folder)
    own = {name: row.weights for name, row in rows.items() if row.weights and name not in taken}
    return taken | {name: _take(rows[name], source, folder) for name, source in own.items()}


def _take(row: Row, source: str, folder: Path) -> Given:
    path = find_weights(source)
    network = load_network(path)
    steps = advised_steps(path) or _usual_steps(row, network)
    _, sha256 = identify_weights(source)
    key = hashlib.sha256(json.dumps([sha256, steps]).encode()).hexdigest()[:10]
    return Given(source, sha256, steps, parameters(network), folder / key)


def _usual_steps(row: Row, network: nn.Module) -> tuple[Step, ...]:
    """Those of a network that runs once, or has scales of its own; of another one the row's."""
    own = default_steps(network)
    if len(own) == 1 or cast("Contract", network.contract).scales:
        return own
    return paper_config(row).approach.steps(row.iterations, len(members(network)))
