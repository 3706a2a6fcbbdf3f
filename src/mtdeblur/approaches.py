"""Approaches: the goal of each iteration, and which iterations are trained (Fig. 1, Section 4.1).

An approach makes a plan of goals for each batch; training, unrolling and evaluation work with any plan.
A new approach is a class with a line in `APPROACHES`, see docs/adding-an-approach.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from mtdeblur.networks.unroll import Step

MAXIMUM_ITERATIONS = 7
"""Maximum number of iterations of a multi-temporal training plan, Section 4.1."""

SCALES = (4, 2, 1)
"""Scales of the multi-scale approach, coarse to fine."""


class Goal(NamedTuple):
    """The target image of one iteration.

    Attributes:
        level: temporal level TL n, odd; 1 is the sharp mid-frame.
        scale: the goal is the image at 1/scale of full resolution.
        network: number of the network that runs the iteration (0 if there is only one).
        trained: whether the iteration has a loss.
        cut: whether the graph is cut after the iteration, with an optimiser step if there was a loss.
    """

    level: int
    scale: int = 1
    network: int = 0
    trained: bool = True
    cut: bool = True

    @property
    def step(self) -> Step:
        """Scale and network of the iteration."""
        return Step(self.scale, self.network)

    @property
    def has_gradient(self) -> bool:
        """Whether gradients flow through the iteration, from its own loss or a later one."""
        return self.trained or not self.cut


Plan = tuple[Goal, ...]
"""The goals of one batch, in order. The last one cuts the graph."""

Draw = Callable[[int], int]
"""Draws an integer from 0 to n - 1, given n, all equally likely."""


class Approach(ABC):
    """Makes plans; a frozen dataclass with the options as fields."""

    @abstractmethod
    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The goals of a batch.

        Args:
            level: temporal level of the input, odd.
            draw: source of randomness.
            phase: number of the phase of training, see `starts`.

        Raises:
            ValueError: if the level is even or below 1.
        """

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """Start of each training phase as a share of the batches, 0 to 1; the first is 0."""
        return (0.0,)

    @property
    def restarts(self) -> bool:
        """Whether the learning-rate schedule restarts in each phase."""
        return False

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """The steps at test time, when the temporal level is unknown.

        Args:
            iterations: number of iterations, at each scale if there are several; some approaches fix it.
        """
        return (Step(),) * iterations

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """The steps for which the network is trained."""
        return self.steps(iterations)


@dataclass(frozen=True)
class OneStage(Approach):
    """TL n to TL1 in one step (Fig. 1a).

    Attributes:
        iterations: number of iterations, all at TL1; 1 in the paper.
    """

    iterations: int = 1

    def __post_init__(self) -> None:
        _check(self.iterations >= 1, f"iterations must be 1 or more, not {self.iterations}")

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """TL1 in each iteration."""
        _check_level(level)
        return (Goal(level=1),) * self.iterations

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """At most as many steps as are trained."""
        return self.steps(min(iterations, self.iterations))


@dataclass(frozen=True)
class Stacked(Approach):
    """TL n to TL1 repeatedly, each time with another network (stacking version SV, Fig. 1b).

    The networks are trained one after the other, in one phase each.

    Attributes:
        iterations: number of networks; 3 in the paper.
    """

    iterations: int = 3

    def __post_init__(self) -> None:
        _check(self.iterations >= 1, f"iterations must be 1 or more, not {self.iterations}")

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """TL1 in each iteration up to the phase's network; only the last one is trained."""
        _check_level(level)
        return only_trained(separate((Goal(level=1),) * self.iterations), phase)

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """One phase for each network, of equal length."""
        return tuple(Fraction(number, self.iterations) for number in range(self.iterations))

    @property
    def restarts(self) -> bool:
        """True: each network has a schedule of its own."""
        return True

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """One step with each network."""
        return tuple(Step(network=number) for number in range(min(iterations, self.iterations)))


@dataclass(frozen=True)
class MultiScale(Approach):
    """TL n to TL1 at 1/4, 1/2 and full resolution (MS, Fig. 1c)."""

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """TL1 at each scale."""
        _check_level(level)
        return tuple(Goal(level=1, scale=scale) for scale in SCALES)

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """One step at each scale."""
        return tuple(Step(scale) for scale in SCALES)


@dataclass(frozen=True)
class MultiTemporal(Approach):
    """TL n to TL(n - TS), TL(n - 2 TS), ... TL1, then TL1 again (Fig. 1d, Section 4.1).

    Attributes:
        step: temporal step TS between the input and the goal of one iteration, even; TL11 with TS 4
            gives the goals 7, 3 and 1.
        extra: minimum and maximum number of further iterations at TL1, drawn per batch.
        iterations: a fixed number of iterations in place of `extra`: a shorter plan stops above TL1, a
            longer one repeats TL1 (Fig. 6 trains every level to the 7th iteration).
        maximum: maximum length of a plan.
    """

    step: int = 2
    extra: tuple[int, int] = (1, 3)
    iterations: int | None = None
    maximum: int = MAXIMUM_ITERATIONS

    def __post_init__(self) -> None:
        fewest, most = self.extra
        fixed = self.maximum if self.iterations is None else self.iterations
        _check(self.step >= 2 and self.step % 2 == 0, f"step must be an even number from 2, not {self.step}")
        _check(0 <= fewest <= most, "extra must be a minimum and a maximum from 0, in that order")
        _check(min(fixed, self.maximum) >= 1, "iterations and maximum must be 1 or more")
        _check(fixed <= self.maximum, f"iterations is {fixed}, above the maximum of {self.maximum}")

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """Down the temporal levels, then TL1 again."""
        _check_level(level)
        fewest, most = self.extra
        levels = [*range(level - self.step, 1, -self.step), 1]
        length = self.iterations or len(levels) + fewest + draw(most - fewest + 1)
        levels += [1] * (length - len(levels))
        return tuple(Goal(level=n) for n in levels[: min(length, self.maximum)])


@dataclass(frozen=True)
class MultiScaleTemporal(MultiTemporal):
    """Every temporal level at 1/4, 1/2 and full resolution in turn (MS + MT, Table 2 (l))."""

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The goals of `MultiTemporal`, each at each scale."""
        return tuple(
            goal._replace(scale=scale) for goal in super().plan(level, draw, phase) for scale in SCALES
        )

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """All scales, `iterations` times."""
        return tuple(Step(scale) for _ in range(iterations) for scale in SCALES)


APPROACHES: dict[str, type[Approach]] = {
    "multi_temporal": MultiTemporal,
    "one_stage": OneStage,
    "stacked": Stacked,
    "multi_scale": MultiScale,
    "multi_scale_temporal": MultiScaleTemporal,
}


@dataclass(frozen=True)
class Variant(Approach):
    """Base class of approaches that modify the plans of another one.

    Attributes:
        base: the other approach.
    """

    base: Approach

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """As in `base`."""
        return self.base.plan(level, draw, phase)

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """As in `base`."""
        return self.base.starts

    @property
    def restarts(self) -> bool:
        """As in `base`."""
        return self.base.restarts

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """As in `base`."""
        return self.base.steps(iterations)

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """As in `base`."""
        return self.base.trained_steps(iterations)


@dataclass(frozen=True)
class SeparateWeights(Variant):
    """No weight sharing: each iteration has a network of its own (Section 6).

    Attributes:
        networks: number of networks.
    """

    networks: int

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The goals of `base`, each with its own network."""
        return separate(self.base.plan(level, draw, phase))

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """The steps of `base`, at most one for each network."""
        return self._numbered(self.base.steps(iterations))

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """The trained steps of `base`, at most one for each network."""
        return self._numbered(self.base.trained_steps(iterations))

    def _numbered(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(step._replace(network=number) for number, step in enumerate(steps[: self.networks]))


@dataclass(frozen=True)
class TruncatedBackPropagation(Variant):
    """Truncated back-propagation through several iterations; the paper trains each separately.

    Attributes:
        length: number of iterations between two cuts of the graph.
        last: whether only the last of those iterations has a loss.
    """

    length: int
    last: bool = False

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The goals of `base`, with the graph cut after every `length` of them and at the end."""
        plan = self.base.plan(level, draw, phase)
        cuts = [number % self.length == 0 or number == len(plan) for number in range(1, len(plan) + 1)]
        return tuple(
            goal._replace(cut=cut, trained=cut or not self.last) for goal, cut in zip(plan, cuts, strict=True)
        )


@dataclass(frozen=True)
class DrawnIteration(Variant):
    """Trains one random iteration per batch: every optimiser step uses another batch."""

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The goals up to a random one, which alone is trained."""
        plan = self.base.plan(level, draw, phase)
        return only_trained(plan, draw(len(plan)))


@dataclass(frozen=True)
class OneStageFirst(Variant):
    """One-stage training first, then another approach.

    Attributes:
        share: share of the batches with one-stage training, above 0 to 1.
    """

    share: float

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """One goal at TL1 in the first phase, then the plans of `base`."""
        return self.base.plan(level, draw, phase - 1) if phase else OneStage().plan(level, draw)

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """0, then the starts of `base` within the remaining batches."""
        return (0.0, *(self.share + (1 - self.share) * start for start in self.base.starts))


def separate(plan: Plan) -> Plan:
    """The same goals, each with a network of its own."""
    return tuple(goal._replace(network=number) for number, goal in enumerate(plan))


def only_trained(plan: Plan, number: int) -> Plan:
    """The goals up to goal `number`, from 0, which alone is trained."""
    return tuple(goal._replace(trained=index == number) for index, goal in enumerate(plan[: number + 1]))


def at_level_one(plan: Plan) -> Plan:
    """The same plan with every goal at TL1, for pairs, which have no intermediate levels."""
    return tuple(goal._replace(level=1) for goal in plan)


def plans(approach: Approach, levels: Collection[int]) -> Iterator[tuple[Plan, float]]:
    """All plans of an approach, over all phases and random draws, with their probabilities.

    Args:
        approach: the approach.
        levels: temporal levels of the inputs, all equally likely.
    """
    shares = [float(end - start) for start, end in pairwise((*approach.starts, 1))]
    for phase, share in enumerate(shares):
        for level in levels:
            for plan, probability in _outcomes(partial(approach.plan, level, phase=phase)):
                yield plan, probability * share / len(levels)


def _outcomes(make: Callable[[Draw], Plan], prefix: tuple[int, ...] = ()) -> Iterator[tuple[Plan, float]]:
    """All plans that `make` can return after a prefix of draws, with their probabilities."""
    sizes: list[int] = []

    def draw(n: int) -> int:
        sizes.append(n)
        return prefix[len(sizes) - 1] if len(sizes) <= len(prefix) else 0

    plan = make(draw)
    if len(sizes) == len(prefix):
        yield plan, 1.0
        return
    size = sizes[len(prefix)]
    for choice in range(size):
        for outcome, probability in _outcomes(make, (*prefix, choice)):
            yield outcome, probability / size


def _check_level(level: int) -> None:
    _check(level >= 1 and level % 2 == 1, f"a temporal level is an odd number from 1, not {level}")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
