"""One iteration of training as one launch: forward and backward pass, optimiser step and weight average.

A step of a small network on a large GPU is shorter than the time to ask for its operations one by one. Here
the iteration is a CUDA graph, asked for as a whole, and batches are made on a second stream meanwhile. On a
CPU the same operations run one by one. One process, one network, goals at full resolution.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mtdeblur.approaches import Plan
from mtdeblur.data.feeding.stream import LadderStream
from mtdeblur.networks.contract import State, members, same_state
from mtdeblur.training.algorithm import detach
from mtdeblur.training.flat import FlatNetwork, FlatOptimiser
from mtdeblur.training.losses import objective

DEPTH = 3
"""Batches in preparation or in use at a time."""


class _Inputs(NamedTuple):
    """Static tensors of an iteration: I0, the estimate and the goal."""

    blurred: Tensor
    estimate: Tensor
    goal: Tensor


class Iterations:
    """The iterations of incremental temporal training (Section 4.1) on batches of one shape.

    Args:
        flat: the network.
        optimiser: its optimiser.
        shape: of a batch, (B, 3, P, P).

    Attributes:
        loss: scalar, of the last iteration.
    """

    def __init__(self, flat: FlatNetwork, optimiser: FlatOptimiser, shape: Sequence[int]) -> None:
        self.flat, self.optimiser = flat, optimiser
        self.network = members(flat.network)[0]
        self.device = flat.values.device
        self.inputs = _Inputs(*(self._like(shape) for _ in range(3)))
        self.loss = torch.zeros((), device=self.device)
        self.state: State = None
        self.graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        if self.device.type == "cuda":
            self._record()

    def _like(self, shape: Sequence[int]) -> Tensor:
        images = torch.rand(tuple(shape), device=self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def train(self, blurred: Tensor, goals: Sequence[Tensor], totals: Tensor) -> None:
        """Train on one batch.

        Args:
            blurred: I0, (B, 3, P, P).
            goals: of each iteration, the same shape.
            totals: (iterations or more,), to which the losses are added.
        """
        self.inputs.blurred.copy_(blurred)
        for number, goal in enumerate(goals):
            self.inputs.goal.copy_(goal)
            first = number == 0
            if self.graphs:
                self.graphs[first].replay()
            else:
                self._iterate(first)
            totals[number] += self.loss

    def _iterate(self, first: bool) -> None:
        """One iteration with its own loss, backward pass and optimiser step; the result is detached."""
        blurred, estimate, goal = self.inputs
        low = self.flat.working.dtype is torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low, cache_enabled=False):
            before = (blurred, None) if first else (estimate, self.state)
            found, state = self.network(blurred, *before)
        loss = objective(found.float(), goal, self.optimiser.settings)
        self.flat.differentiate(loss)
        self.optimiser.step()
        with torch.no_grad():
            found, state = detach(found, state)
            estimate.copy_(found)
            self.loss.copy_(loss)
            if self.state is None and state is not None:
                self.state = same_state(state, (part.clone() for part in state))
            for kept, new in zip(self.state or (), state or (), strict=True):
                kept.copy_(new)

    def _record(self) -> None:
        """Record both graphs; with a learning rate of 0 values stay. The optimiser's state is cleared."""
        self.optimiser.rate.fill_(0)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for first in (True, False, True, False):
                self._iterate(first)
        torch.cuda.current_stream().wait_stream(side)
        for first in (True, False):
            self.graphs[first] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[first]):
                self._iterate(first)
        self.optimiser.clear()


class Prepared(NamedTuple):
    """A batch in static tensors.

    Attributes:
        number: of the batch.
        level: of its input.
        has_pairs: whether TL1 is its only goal.
        blurred: (B, 3, P, P).
        goals: (levels, B, 3, P, P): TL1, TL3, ...
        distance: scalar, the mean L1 distance of `blurred` to TL1.
    """

    number: int
    level: int
    has_pairs: bool
    blurred: Tensor
    goals: Tensor
    distance: Tensor

    def goal(self, level: int) -> Tensor:
        """(B, 3, P, P): TL `level`, TL1 for pairs."""
        return self.goals[0 if self.has_pairs else level // 2]


class Feed:
    """Batches of a stream, made on a second CUDA stream while the one before is learned from.

    Args:
        stream: makes them.
    """

    def __init__(self, stream: LadderStream) -> None:
        self.stream, self.device = stream, stream.device
        self.side = torch.cuda.Stream() if self.device.type == "cuda" else None
        levels = max(stream.levels) // 2 + 1
        shape = (len(stream.places), 3, stream.patch, stream.patch)
        self._slots = [
            (self._empty(*shape), self._empty(levels, *shape), self._empty()) for _ in range(DEPTH)
        ]
        self._ready = [self._event() for _ in range(DEPTH)]
        self._used = [self._event() for _ in range(DEPTH)]
        self._made: dict[int, Prepared] = {}

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.device)

    def _event(self) -> torch.cuda.Event | None:
        return torch.cuda.Event() if self.side is not None else None

    def prepare(self, number: int) -> None:
        """Make a batch, once its slot is no longer used."""
        slot = number % DEPTH
        if (used := self._used[slot]) is not None:
            used.synchronize()
        with self._on_side():
            batch = self.stream.batch(number)
            blurred, goals, distance = self._slots[slot]
            blurred.copy_(batch.blurred)
            for level, image in batch.ladder.items():
                goals[level // 2].copy_(image)
            distance.copy_(functional.l1_loss(batch.blurred, batch.ladder[1]))
            if (ready := self._ready[slot]) is not None:
                ready.record()
        self._made[number] = Prepared(number, batch.level, batch.has_pairs, blurred, goals, distance)

    def take(self, number: int) -> Prepared:
        """A batch; later operations on the current stream wait for it."""
        if number not in self._made:
            self.prepare(number)
        if (ready := self._ready[number % DEPTH]) is not None:
            torch.cuda.current_stream().wait_event(ready)
        return self._made.pop(number)

    def release(self, number: int) -> None:
        """Let the batch's slot be used again after the operations asked for so far."""
        if (used := self._used[number % DEPTH]) is not None:
            used.record()

    def _on_side(self) -> AbstractContextManager[object]:
        return nullcontext() if self.side is None else torch.cuda.stream(self.side)


def train_batch(iterations: Iterations, batch: Prepared, plan: Plan, totals: Tensor) -> int:
    """Train on all parts of a batch of the iterations' size; returns the number of optimiser steps."""
    size = len(iterations.inputs.blurred)
    parts = range(0, len(batch.blurred), size)
    for start in parts:
        part = slice(start, start + size)
        goals = [batch.goal(goal.level)[part] for goal in plan]
        iterations.train(batch.blurred[part], goals, totals)
    return len(parts) * len(plan)
