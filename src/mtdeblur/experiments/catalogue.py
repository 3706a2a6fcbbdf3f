"""The catalogue of tables and figures, read from data files in this package."""

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
    """A row of a table: a run, given weights or a citation, and the paper's printed figures."""

    name: str
    cells: dict[str, str] = Field({})
    """The table's further columns, as printed."""
    reported: bool = False
    """Whether the row is only cited and not run."""
    weights: str | None = None
    """Default weights of a row that is not trained and not ranked among the best three."""
    training: dict[str, Any] = Field({})
    """Settings of the training that differ from the table's."""
    longer: Count = 1
    """Factor of the number of batches."""
    iterations: Count = 6
    """At test time."""
    test_sets: tuple[str, ...] = ()
    """If they differ from the table's."""
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
    """Whether to mark the best three."""
    rows: tuple[Row, ...]
    footnotes: dict[str, str] = Field({})
    equal_cost: bool = False
    """Whether all rows have the cost of the first one, by their numbers of batches."""
    budgets: dict[str, dict[str, Any]] = Field({})
    """Differences from the shared budgets, by name."""

    def sets_of(self, row: Row) -> tuple[str, ...]:
        """The test sets of a row."""
        return row.test_sets or self.test_sets


class StandIn(Section):
    """A test set of held-out pictures that replaces one of the paper's."""

    title: str
    levels: tuple[int, ...]
    """Of the blurred pictures."""
    goal: int = 1
    """Level of the sharp pictures."""
    seed: int = 0
    gamma: bool = False


class TestMaking(Section):
    """Size and motion of the stand-ins."""

    __test__ = False  # not a test class, in spite of its name

    exposures: Count
    """For each held-out photograph or high-speed clip and level."""
    longest: Count
    length: float


class Timing(Section):
    """Settings of the measurement of run time."""

    height: Count
    width: Count
    repeats: Count


class Budget(Section):
    """The cost of a table: settings that reduce or extend its runs."""

    training: dict[str, Any]
    networks: dict[str, dict[str, Any]]
    """Options of smaller networks, by name."""
    test: TestMaking
    run_time: Timing


class Base(Section):
    """Shared settings of all tables and figures."""

    training: dict[str, Any]
    assumed: tuple[str, ...]
    test_sets: dict[str, StandIn]
    budgets: dict[str, Budget]


@cache
def base() -> Base:
    """Shared settings of all tables and figures."""
    return _checked(Base, _read("base.yaml"))


def names() -> list[str]:
    """Names of all tables and figures."""
    return sorted(entry.name.removesuffix(".yaml") for entry in (_HERE / "tables").iterdir())


@cache
def experiment(name: str) -> Experiment:
    """A table or figure, with all training settings of each row except data, seed and budget.

    Raises:
        UserError: if the name is unknown.
    """
    if name not in names():
        raise UserError(f"there is no table or figure {name!r}; choose one of {', '.join(names())}")
    values = _read(f"tables/{name}.yaml")
    shared = merge(base().training, values.pop("training", {}))
    values["rows"] = [_whole(row, shared) for row in values["rows"]]
    return _checked(Experiment, values)


def only(whole: Experiment, rows: Sequence[str]) -> Experiment:
    """The table or figure reduced to some of its rows and their footnotes; unchanged if `rows` is empty.

    Raises:
        UserError: if a row's name is unknown.
    """
    known = [row.name for row in whole.rows]
    for name in rows:
        if name not in known:
            raise UserError(f"--row {name}: the rows are {'; '.join(known)}")
    kept = tuple(row for row in whole.rows if row.name in rows or not rows)
    used = {note for row in kept for note in row.notes}
    footnotes = {key: text for key, text in whole.footnotes.items() if key in used}
    return whole.model_copy(update={"rows": kept, "footnotes": footnotes})


def budget(experiment: Experiment, name: str) -> Budget:
    """The budget of that name for a table or figure.

    Raises:
        UserError: if the name is unknown.
    """
    shared = base().budgets
    if name not in shared:
        raise UserError(f"--budget is one of {', '.join(shared)}, not {name!r}")
    return _checked(Budget, merge(shared[name].model_dump(), experiment.budgets.get(name, {})))


def _whole(row: Settings, shared: Settings) -> Settings:
    """A row merged with the shared settings of its table, or with the row that it refers to by `use`."""
    if "use" not in row:
        return row | {"training": merge(shared, row.get("training", {}))}
    table, _, name = row["use"].partition("/")
    used = next(one for one in experiment(table).rows if one.name == name).model_dump(exclude={"test_sets"})
    changes = {key: value for key, value in row.items() if key != "use"}
    changes["training"] = merge(used["training"], changes.get("training", {}))
    not_inherited: Settings = {"notes": [], "cells": {}}
    return used | not_inherited | changes


def training_config(row: Row, budget: Budget, data: Settings, seed: int) -> TrainingConfig:
    """The row's training run at a budget.

    Args:
        row: of an experiment.
        budget: its cost.
        data: further settings of the section `data`: the training data.
        seed: of the run.

    Raises:
        UserError: if a setting is unknown or invalid.
    """
    settings = merge(merge(row.training, budget.training), {"seed": seed, "data": data})
    name = settings["network"]["name"]
    options = budget.networks.get(name, {}) | settings["network"].get("options", {})
    batches = row.longer * settings["optimiser"]["batches"]
    settings = merge(settings, {"network": {"options": options}, "optimiser": {"batches": batches}})
    return parse_config(settings, f"row {row.name}")


def paper_config(row: Row) -> TrainingConfig:
    """The row's training run as in the paper, for any data."""
    return training_config(row, base().budgets["paper"], {"pack": "any"}, 0)


def at_equal_cost(config: TrainingConfig, first: TrainingConfig) -> TrainingConfig:
    """The training with the number of batches at which it costs as much as `first`, see `training.cost`."""
    batches = first.optimiser.batches * batch_cost(first) / batch_cost(config)
    optimiser = config.optimiser.model_copy(update={"batches": max(1, round(batches))})
    return config.model_copy(update={"optimiser": optimiser})


def merge(one: Settings, other: Settings) -> Settings:
    """Merge nested settings; those of `other` take precedence."""
    merged = dict(one)
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            value = merge(cast("Settings", merged[key]), cast("Settings", value))
        merged[key] = value
    return merged


def _checked(kind: type[Checked], values: Settings) -> Checked:
    return kind.model_validate_json(json.dumps(values))  # JSON's strict types are those of YAML


def _read(name: str) -> Settings:
    return yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))
