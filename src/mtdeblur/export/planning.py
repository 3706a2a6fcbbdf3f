"""Which graphs an export has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from mtdeblur.errors import UserError
from mtdeblur.export.graphs import Graph, Size, state_names, step_graph
from mtdeblur.inference.memory import measure
from mtdeblur.networks.contract import State, members
from mtdeblur.networks.graph import first_state
from mtdeblur.networks.unroll import Step, multiple_of_scales
from mtdeblur.weights.exported.manifest import Facts, Member


class StepFile(NamedTuple):
    """The graph of a member's step.

    Attributes:
        name: of its file, without suffix.
        before: the state that it is given, of any size, or None.
        after: the state that it returns, of any size, or None.
    """

    name: str
    before: State
    after: State


Plan = Mapping[tuple[int, bool], StepFile]
"""The graphs by the member's number and whether it is given a state."""


def steps_to_compare(model: nn.Module, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps to compare: those to export, and a second if a network with a state has but one."""
    parts = members(model)
    again = len(parts) == 1 and len(steps) == 1 and parts[0].contract.state_scales
    return tuple(steps) * (2 if again else 1)


def plan(model: nn.Module, steps: Sequence[Step]) -> Plan:
    """The graphs that some steps need.

    Args:
        model: of the registry, or several, float32, on the CPU.
        steps: to run.

    Raises:
        UserError: if a member cannot be traced.
    """
    parts = members(model)
    found: dict[tuple[int, bool], StepFile] = {}
    state: State = None
    for step in steps:
        member = parts[step.network]
        if not isinstance(member, nn.Module):
            raise UserError("this network cannot be exported: its scales are not modules of their own")
        key = (step.network, state is not None)
        after = first_state(member, state)
        if key not in found:
            found[key] = StepFile(_name(key, len(parts), after is not None), state, after)
        state = after
    return found


def _name(key: tuple[int, bool], number: int, recurrent: bool) -> str:
    """step-first and step-next, step without a state, or step-1, step-2 ... for the members of a model."""
    member, has_state = key
    if number == 1:
        return f"step-{'next' if has_state else 'first'}" if recurrent else "step"
    return f"step-{member + 1}" + ("-first" if member and not has_state and recurrent else "")


def graph_of(model: nn.Module, number: int, file: StepFile, size: Size | None) -> Graph:
    """The graph of a step, with example inputs of that size or of a small one."""
    member = members(model)[number]
    side = member.contract.multiple
    return step_graph(member, file.before, file.after, size or (2 * side, 3 * side))


def multiple_of_all(model: nn.Module, steps: Sequence[Step]) -> int:
    """Multiple of height and width of the pictures of an unrolled graph."""
    parts = members(model)
    coarsest = multiple_of_scales(parts, steps)
    return coarsest if coarsest > 1 else max(parts[step.network].contract.multiple for step in steps)


def described_members(
    model: nn.Module, planned: Plan, steps: Sequence[Step], size: Size | None, suffix: str
) -> list[Member]:
    """The members' entries in the manifest; in the contract, what differs in an export."""
    need = measure(list(members(model)), steps, torch.device("cpu")).step
    found: list[Member] = []
    for number, part in enumerate(members(model)):
        contract = replace(part.contract, devices=("cpu",), precisions=("float32",), size=size)
        if size:  # of one size, no other window is possible
            contract = replace(contract, window=None)
        facts = {name: getattr(contract, name) for name in Facts.model_fields}
        files = {given: planned[number, given] for given in (False, True) if (number, given) in planned}
        first, later = (f"{files[given].name}{suffix}" if given in files else None for given in (False, True))
        state = next((state_names(file.after) for file in files.values()), ())
        found.append(
            Member(contract=Facts(**facts), first=first, next=later, state=state, bytes_a_pixel=need)
        )
    return found
