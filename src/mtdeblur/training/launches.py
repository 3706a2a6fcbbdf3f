"""One iteration of training as one launch: forward and backward pass, optimiser step and weight average.

A step of a small network on a large GPU is shorter than the time to ask for its operations one by one. Here the
iteration is a CUDA graph, asked for as a whole, and batches are made on a second stream meanwhile. All values
live in flat tensors, so that optimiser, clipping and average are a few operations. On a CPU the same operations
run one by one. One process, one network, goals at full resolution.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.approaches import Plan
from mtdeblur.data.feeding.stream import LadderBatch, LadderStream
from mtdeblur.networks.contract import State, members, same_state
from mtdeblur.training.algorithm import detach
from mtdeblur.training.config import OptimiserConfig
from mtdeblur.training.losses import objective

DEPTH = 3
"""Batches in preparation or in use at a time."""

ORTHOGONAL = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration of Muon (Jordan et al., 2024)."""


class FlatNetwork:
    """A network whose parameters are views of one flat tensor, in bfloat16 beside float32 values.

    Parameters of one shape are adjacent, and 4-D ones are channels-last.

    Attributes:
        network: computes with the views.
        values: (N,), float32: the parameters that the optimiser changes.
        average: (N,), float32: their exponential moving average.
        gradients: (N,), float32.
        matrices: flat range of the weights of residual blocks, grouped by shape: (start, number, rows, columns).

    Args:
        network: on its device.
        dtype: of the parameters that the network computes with.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        named = list(network.named_parameters())
        inner = [item for item in named if ".conv" in item[0] and item[1].dim() == 4]  # residual blocks
        names = {name for name, _ in inner}
        inner.sort(key=lambda item: tuple(item[1].shape))
        self.parameters = [*(p for _, p in inner), *(p for name, p in named if name not in names)]
        sizes = [parameter.numel() for parameter in self.parameters]
        device = self.parameters[0].device
        self.values, self.average, self.gradients = (torch.zeros(sum(sizes), device=device) for _ in range(3))
        self.working = torch.zeros(sum(sizes), device=device, dtype=dtype)
        self.inner = sum(parameter.numel() for _, parameter in inner)
        self.matrices: list[tuple[int, int, int, int]] = []
        self._gradient_views: list[Tensor] = []
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        for start, parameter in zip(starts, self.parameters, strict=True):
            if start < self.inner:
                self._group(start, parameter)
            shape = parameter.shape
            _view(self.values, start, shape).copy_(parameter.detach())
            parameter.data = _view(self.working, start, shape)
            self._gradient_views.append(_view(self.gradients, start, shape))
        self.average.copy_(self.values)
        self.working.copy_(self.values)

    def _group(self, start: int, parameter: Tensor) -> None:
        rows, columns = len(parameter), parameter[0].numel()
        if self.matrices and self.matrices[-1][2:] == (rows, columns):
            first, number, *_ = self.matrices.pop()
            self.matrices.append((first, number + 1, rows, columns))
        else:
            self.matrices.append((start, 1, rows, columns))

    def differentiate(self, loss: Tensor) -> None:
        """Write the gradients of a loss."""
        with torch.no_grad():
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            self.gradients.zero_()
            pairs = [pair for pair in zip(self._gradient_views, found, strict=True) if pair[1] is not None]
            torch._foreach_copy_([view for view, _ in pairs], [gradient for _, gradient in pairs])

    def use(self, values: Tensor) -> None:
        """Compute with these values, such as the average."""
        self.working.copy_(values)

    def view_of(self, parameter: Tensor, values: Tensor) -> Tensor:
        """The part of flat values that belongs to a parameter, in its shape."""
        start = 0
        for own in self.parameters:
            if own is parameter:
                return _view(values, start, own.shape)
            start += own.numel()
        raise ValueError("the network has no such parameter")

    def copy_to(self, network: nn.Module, values: Tensor) -> None:
        """Give another network of the same kind these values."""
        with torch.no_grad():
            for own, other in zip(self.network.parameters(), network.parameters(), strict=True):
                other.copy_(self.view_of(own, values))


def _view(flat: Tensor, start: int, shape: torch.Size) -> Tensor:
    """Part of a flat tensor with a shape; channels-last with four dimensions."""
    part = flat[start : start + shape.numel()]
    if len(shape) != 4:
        return part.view(shape)
    out, channels, height, width = shape
    return part.view(out, height, width, channels).permute(0, 3, 1, 2)


class FlatOptimiser:
    """Adam of flat values, or Muon for the residual blocks' weights and Adam for the rest.

    Args:
        flat: the network.
        settings: betas, eps, clip and weight average.
        muon: whether residual blocks' weights are changed by Muon: along the nearest orthogonal matrix to the
            momentum, with 0.2 as its root mean square, as for Adam (Liu et al., 2025).
    """

    def __init__(self, flat: FlatNetwork, settings: OptimiserConfig, *, muon: bool = False) -> None:
        self.flat, self.settings = flat, settings
        self.rate = torch.zeros((), device=flat.values.device)
        self.norm = torch.zeros((), device=flat.values.device)
        self.first = flat.inner if muon else 0
        self.momentum = torch.zeros(self.first, device=flat.values.device)
        rest = nn.Parameter(flat.values[self.first :])
        rest.grad = flat.gradients[self.first :]
        on_cuda = flat.values.is_cuda
        self.adam = torch.optim.Adam(
            [rest], self.rate if on_cuda else 0.0, settings.betas, settings.eps, fused=True, capturable=on_cuda
        )

    @torch.no_grad()
    def step(self) -> None:
        """One step; a gradient that is not finite is replaced by zero."""
        flat, clip = self.flat, self.settings.clip or float("inf")
        torch.linalg.vector_norm(flat.gradients, out=self.norm)
        factor = torch.where(self.norm.isfinite(), (clip / (self.norm + 1e-12)).clamp(max=1), 0)
        flat.gradients.mul_(factor).nan_to_num_(0, 0, 0)
        self.adam.param_groups[0]["lr"] = self.rate if flat.values.is_cuda else float(self.rate)
        self.adam.step()
        if self.first:
            self._muon()
        if self.settings.ema is not None:
            flat.average.lerp_(flat.values, 1 - self.settings.ema)
        flat.use(flat.values)

    def _muon(self) -> None:
        flat, inner = self.flat, slice(0, self.first)
        self.momentum.lerp_(flat.gradients[inner], 0.05)
        ahead = flat.gradients[inner].lerp(self.momentum, 0.95)
        for start, number, rows, columns in flat.matrices:
            part = slice(start, start + number * rows * columns)
            update = orthogonal(ahead[part].view(number, rows, columns))
            size = 0.2 * max(rows, columns) ** 0.5
            flat.values[part].sub_(self.rate * size * update.reshape(-1))

    def clear(self) -> None:
        """Forget all moments and the number of steps."""
        self.momentum.zero_()
        for state in self.adam.state.values():
            for part in cast("dict[str, Tensor]", state).values():
                part.zero_()


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns) nearly orthogonal matrices near the directions of the given ones, in bfloat16 on GPUs."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    a, b, c = ORTHOGONAL
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x if wide else x.mT).float()


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
            found, state = self.network(blurred, blurred if first else estimate, None if first else self.state)
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
        """Record the two graphs. With a learning rate of 0 the values stay; the optimiser's state is cleared."""
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
            (torch.empty(shape, device=self.device), torch.empty((levels, *shape), device=self.device), self._zero())
            for _ in range(DEPTH)
        ]
        self._ready = [self._event() for _ in range(DEPTH)]
        self._used = [self._event() for _ in range(DEPTH)]
        self._made: dict[int, Prepared] = {}

    def _zero(self) -> Tensor:
        return torch.zeros((), device=self.device)

    def _event(self) -> torch.cuda.Event | None:
        return torch.cuda.Event() if self.side is not None else None

    def prepare(self, number: int) -> None:
        """Make a batch, once its slot is no longer used."""
        slot = number % DEPTH
        if (used := self._used[slot]) is not None:
            used.synchronize()
        with self._on_side():
            batch: LadderBatch = self.stream.batch(number)
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
