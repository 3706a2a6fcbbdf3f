"""The tables and figures: data files beside this one, read and checked."""

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml
from pydantic import Field

from mtdeblur.errors import UserError
from mtdeblur.training.config import Section, TrainingConfig
from mtdeblur.training.config_file import parse_config
from mtdeblur.training.cost import batch_cost

Settings = dict[str, Any]
Count = Annotated[int, Field(ge=1)]
Checked = TypeVar("Checked", bound=Section)
_HERE = files("mtdeblur.experiments")


class Row(Section):
    """One run, or a citation, and what the paper prints for it."""

    name: str
    cells: dict[str, str] = Field({})
    """The table's further columns, as printed."""
    reported: bool = False
    """Only cited: there is nothing to run."""
    weights: str | None = None
    """Weights that are measured in this row unless others are given; it is not trained, and stands apart from
    the paper's rows: it is not among the best three."""
    training: dict[str, Any] = Field({})
    """Settings of the training that differ from the table's."""
    longer: Count = 1
    """Times as many batches as the table's other rows have."""
    iterations: Count = 6
    """At test time."""
    test_sets: tuple[str, ...] = ()
    """Where other than the table's."""
    paper: dict[str, tuple[float, float]] = Field({})
    """Test set to PSNR in dB and SSIM, as printed."""
    parameters: str | None = None
    run_time: str | None = None
    notes: tuple[str, ...] = ()
    """Keys of the footnotes."""


class Experiment(Section):
    """A table or a figure."""

    title: str
    kind: Literal["table", "progress", "spectrum", "iterations", "scatter", "costs", "comparison"] = "table"
    test_sets: tuple[str, ...] = ()
    ssim: Literal["gaussian", "uniform", "volume"] = "gaussian"
    ranked: bool = False
    """Mark the best three."""
    rows: tuple[Row, ...]
    footnotes: dict[str, str] = Field({})
    equal_cost: bool = False
    """Every row gets as many batches as cost the first row's multiply-accumulates."""
    budgets: dict[str, dict[str, Any]] = Field({})
    """What differs from the shared budgets, by name."""

    def sets_of(self, row: Row) -> tuple[str, ...]:
        """The test sets that a row is measured on."""
        return row.test_sets or self.test_sets


class StandIn(Section):
    """A test set made of held-out pictures, in place of the paper's."""

    title: str
    levels: tuple[int, ...]
    """Of the blurred pictures."""
    goal: int = 1
    """Level of what they are compared with."""
    seed: int = 0
    gamma: bool = False


class TestMaking(Section):
    """How large the stand-ins are, and how far things move in them."""

    __test__ = False  # not a test class: pytest goes by the name

    exposures: Count
    """Of each held-out photograph or high-speed clip, and level."""
    longest: Count
    length: float


class Timing(Section):
    """How run time is measured."""

    height: Count
    width: Count
    repeats: Count


class Budget(Section):
    """How much is spent on a table."""

    training: dict[str, Any]
    networks: dict[str, dict[str, Any]]
    """Options that make a network small, by its name."""
    test: TestMaking
    run_time: Timing


class Base(Section):
    """What all tables and figures share."""

    training: dict[str, Any]
    assumed: tuple[str, ...]
    test_sets: dict[str, StandIn]
    budgets: dict[str, Budget]


@cache
def base() -> Base:
    """What all tables and figures share."""
    return _checked(Base, _read("base.yaml"))


def names() -> list[str]:
    """Names of all tables and figures."""
    return sorted(entry.name.removesuffix(".yaml") for entry in (_HERE / "tables").iterdir())


@cache
def experiment(name: str) -> Experiment:
    """A table or figure; each row's training settings are whole, but for data, seed and budget.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in names():
        raise UserError(f"there is no table or figure {name!r}; there are {', '.join(names())}")
    values = _read(f"tables/{name}.yaml")
    shared = merge(base().training, values.pop("training", {}))
    values["rows"] = [_whole(row, shared) for row in values["rows"]]
    return _checked(Experiment, values)


def only(asked: Experiment, rows: Sequence[str]) -> Experiment:
    """The table or figure with some of its rows, in their order, and the footnotes of these; all if none.

    Raises:
        UserError: if there is no row of such a name.
    """
    there = [row.name for row in asked.rows]
    for name in rows:
        if name not in there:
            raise UserError(f"--row {name}: the rows are {'; '.join(there)}")
    kept = tuple(row for row in asked.rows if row.name in rows or not rows)
    used = {note for row in kept for note in row.notes}
    footnotes = {key: text for key, text in asked.footnotes.items() if key in used}
    return asked.model_copy(update={"rows": kept, "footnotes": footnotes})


def budget(asked: Experiment, name: str) -> Budget:
    """What is spent on a table or figure at the budget of that name.

    Raises:
        UserError: if there is none of that name.
    """
    shared = base().budgets
    if name not in shared:
        raise UserError(f"--budget is one of {', '.join(shared)}, not {name!r}")
    return _checked(Budget, merge(shared[name].model_dump(), asked.budgets.get(name, {})))


def _whole(row: Settings, shared: Settings) -> Settings:
    """A row with the settings that it shares with its table, or with the row that it uses."""
    if "use" not in row:
        return row | {"training": merge(shared, row.get("training", {}))}
    name, _, wanted = row["use"].partition("/")
    used = next(one for one in experiment(name).rows if one.name == wanted).model_dump(exclude={"test_sets"})
    own = {key: value for key, value in row.items() if key != "use"}
    own["training"] = merge(used["training"], own.get("training", {}))
    apart: Settings = {"notes": [], "cells": {}}
    return used | apart | own


def training_config(row: Row, budget: Budget, data: Settings, seed: int) -> TrainingConfig:
    """The row's training run at a budget.

    Args:
        row: of an experiment.
        budget: how much is spent.
        data: further settings of the section `data`: what is trained on.
        seed: of the run.

    Raises:
        UserError: if a setting is not one that training knows.
    """
    settings = merge(merge(row.training, budget.training), {"seed": seed, "data": data})
    name = settings["network"]["name"]
    options = budget.networks.get(name, {}) | settings["network"].get("options", {})
    batches = row.longer * settings["optimiser"]["batches"]
    settings = merge(settings, {"network": {"options": options}, "optimiser": {"batches": batches}})
    return parse_config(settings, f"row {row.name}")


def paper_config(row: Row) -> TrainingConfig:
    """The row's training run as the paper has it, on any data."""
    return training_config(row, base().budgets["paper"], {"pack": "any"}, 0)


def at_equal_cost(config: TrainingConfig, first: TrainingConfig) -> TrainingConfig:
    """The same training with as many batches as cost what the first one's cost, see `training.cost`."""
    batches = first.optimiser.batches * batch_cost(first) / batch_cost(config)
    optimiser = config.optimiser.model_copy(update={"batches": max(1, round(batches))})
    return config.model_copy(update={"optimiser": optimiser})


def merge(one: Settings, other: Settings) -> Settings:
    """Nested settings, of which the other's win."""
    merged = dict(one)
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            value = merge(cast("Settings", merged[key]), cast("Settings", value))
        merged[key] = value
    return merged


def _checked(kind: type[Checked], values: Settings) -> Checked:
    return kind.model_validate_json(json.dumps(values))  # whose strict types are YAML's


def _read(name: str) -> Settings:
    return yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))
