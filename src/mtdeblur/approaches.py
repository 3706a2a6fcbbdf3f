"""Approaches: the goal of each iteration, and which iterations are trained (Fig. 1, Section 4.1).

An approach makes a plan of goals for each batch. One training algorithm, one unroll loop and one evaluation
serve every plan. Another approach is another class with a line in `APPROACHES`, see
docs/adding-an-approach.md.
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
"""Iterations of a multi-temporal training plan at most, Section 4.1."""

SCALES = (4, 2, 1)
"""Scales of the multi-scale approach, coarse to fine."""


class Goal(NamedTuple):
    """The image that one iteration should give.

    Attributes:
        level: temporal level TL n, odd; 1 is the sharp mid-frame.
        scale: the goal is the image at 1/scale of full resolution.
        network: number of the network that carries the iteration out (0 where there is one).
        trained: the iteration has a loss.
        cut: the graph is cut after the iteration, and the optimiser makes a step if there was a loss.
    """

    level: int
    scale: int = 1
    network: int = 0
    trained: bool = True
    cut: bool = True

    @property
    def step(self) -> Step:
        """How the iteration is carried out."""
        return Step(self.scale, self.network)

    @property
    def has_gradient(self) -> bool:
        """Whether the iteration is back-propagated through: for its own loss or for that of a later one."""
        return self.trained or not self.cut


Plan = tuple[Goal, ...]
"""The goals of one batch, in order. The last one cuts the graph."""

Draw = Callable[[int], int]
"""Given n, draws one of 0 to n - 1, all equally likely."""


class Approach(ABC):
    """Makes plans. A frozen dataclass, whose fields are its options."""

    @abstractmethod
    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The goals of a batch.

        Args:
            level: temporal level of the input, odd.
            draw: the source of everything random.
            phase: number of the phase of training, see `starts`.

        Raises:
            ValueError: if the level is even or below 1.
        """

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """The share of the batches, 0 to 1, that comes before each phase; the first is 0."""
        return (0.0,)

    @property
    def restarts(self) -> bool:
        """Whether each phase has a learning-rate schedule of its own."""
        return False

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """The steps at test time, when the temporal level is unknown.

        Args:
            iterations: how many, if the approach leaves it open; at each scale, if it has several.
        """
        return (Step(),) * iterations

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """Those of `steps` for which the network is trained."""
        return self.steps(iterations)


@dataclass(frozen=True)
class OneStage(Approach):
    """TL n to TL1 at once (Fig. 1a).

    Attributes:
        iterations: how many iterations aim at TL1; the paper's approach has one.
    """

    iterations: int = 1

    def __post_init__(self) -> None:
        _check(self.iterations >= 1, f"iterations must be 1 or more, not {self.iterations}")

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """TL1 each time."""
        _check_level(level)
        return (Goal(level=1),) * self.iterations

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """As many as are trained, whatever is measured."""
        return self.steps(min(iterations, self.iterations))


@dataclass(frozen=True)
class Stacked(Approach):
    """TL n to TL1 again and again, each time by a network of its own (SV, Fig. 1b).

    The networks are trained one after the other: a phase each.

    Attributes:
        iterations: the number of networks; the paper has three.
    """

    iterations: int = 3

    def __post_init__(self) -> None:
        _check(self.iterations >= 1, f"iterations must be 1 or more, not {self.iterations}")

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """TL1 each time. The networks before the one whose turn it is only run; those after it do not."""
        _check_level(level)
        return only_trained(separate((Goal(level=1),) * self.iterations), phase)

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """The turn of each network."""
        return tuple(Fraction(number, self.iterations) for number in range(self.iterations))

    @property
    def restarts(self) -> bool:
        """Each network has its own schedule."""
        return True

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """Each network once."""
        return tuple(Step(network=number) for number in range(min(iterations, self.iterations)))


@dataclass(frozen=True)
class MultiScale(Approach):
    """TL n to TL1 at 1/4 of full resolution, then at 1/2, then at full resolution (MS, Fig. 1c)."""

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """TL1 at each scale."""
        _check_level(level)
        return tuple(Goal(level=1, scale=scale) for scale in SCALES)

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """Each scale once."""
        return tuple(Step(scale) for scale in SCALES)


@dataclass(frozen=True)
class MultiTemporal(Approach):
    """TL n to TL(n - TS), TL(n - 2 TS), ... TL1, then TL1 again (Fig. 1d, Section 4.1).

    Attributes:
        step: temporal step TS between the input and the goal of one iteration, even; never below TL1, so that
            TL11 with TS 4 goes over 7 and 3 to 1.
        extra: fewest and most further iterations that aim at TL1 once it is reached, drawn per batch.
        iterations: a fixed number of iterations in place of `extra`: a shorter plan stops above TL1, a longer
            one repeats TL1 (Fig. 6 trains every level to the 7th iteration).
        maximum: the plan is cut here.
    """

    step: int = 2
    extra: tuple[int, int] = (1, 3)
    iterations: int | None = None
    maximum: int = MAXIMUM_ITERATIONS

    def __post_init__(self) -> None:
        fewest, most = self.extra
        fixed = self.maximum if self.iterations is None else self.iterations
        _check(self.step >= 2 and self.step % 2 == 0, f"step must be an even number from 2, not {self.step}")
        _check(0 <= fewest <= most, "extra must be the fewest and the most further iterations, in that order")
        _check(min(fixed, self.maximum) >= 1, "iterations and maximum must be 1 or more")
        _check(fixed <= self.maximum, f"iterations is {fixed}, above the maximum of {self.maximum}")

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """Down the temporal levels, then TL1 again."""
        _check_level(level)
        fewest, most = self.extra
        levels = [*range(level - self.step, 1, -self.step), 1]
        wanted = self.iterations or len(levels) + fewest + draw(most - fewest + 1)
        levels += [1] * (wanted - len(levels))
        return tuple(Goal(level=n) for n in levels[: min(wanted, self.maximum)])


@dataclass(frozen=True)
class MultiScaleTemporal(MultiTemporal):
    """Every temporal level at 1/4, 1/2 and full resolution in turn (MS + MT, Table 2 (l))."""

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """Multi-temporal, each goal at each scale."""
        return tuple(
            goal._replace(scale=scale) for goal in super().plan(level, draw, phase) for scale in SCALES
        )

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """All scales, so many times."""
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
    """An approach whose plans are changed; all else is as in the approach itself.

    Attributes:
        base: the approach.
    """

    base: Approach

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The approach's own."""
        return self.base.plan(level, draw, phase)

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """The approach's own."""
        return self.base.starts

    @property
    def restarts(self) -> bool:
        """The approach's own."""
        return self.base.restarts

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """The approach's own."""
        return self.base.steps(iterations)

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """The approach's own."""
        return self.base.trained_steps(iterations)


@dataclass(frozen=True)
class SeparateWeights(Variant):
    """Each iteration by a network of its own: no weights are shared over iterations (Section 6).

    Attributes:
        networks: how many there are.
    """

    networks: int

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The same goals, numbered."""
        return separate(self.base.plan(level, draw, phase))

    def steps(self, iterations: int) -> tuple[Step, ...]:
        """Each network once at most."""
        return self._numbered(self.base.steps(iterations))

    def trained_steps(self, iterations: int) -> tuple[Step, ...]:
        """Each network once at most."""
        return self._numbered(self.base.trained_steps(iterations))

    def _numbered(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(step._replace(network=number) for number, step in enumerate(steps[: self.networks]))


@dataclass(frozen=True)
class TruncatedBackPropagation(Variant):
    """Back-propagation through several iterations together; the paper trains them one by one.

    Attributes:
        length: the number of iterations between two cuts of the graph.
        last: whether only the last of those iterations has a loss.
    """

    length: int
    last: bool = False

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The same goals; the graph is cut after every `length` of them and at the end."""
        plan = self.base.plan(level, draw, phase)
        cuts = [number % self.length == 0 or number == len(plan) for number in range(1, len(plan) + 1)]
        return tuple(
            goal._replace(cut=cut, trained=cut or not self.last) for goal, cut in zip(plan, cuts, strict=True)
        )


@dataclass(frozen=True)
class DrawnIteration(Variant):
    """One iteration, drawn per batch, is trained: every step of the optimiser sees another batch."""

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """The goals up to the one that is drawn."""
        plan = self.base.plan(level, draw, phase)
        return only_trained(plan, draw(len(plan)))


@dataclass(frozen=True)
class OneStageFirst(Variant):
    """One-stage training at the beginning.

    Attributes:
        share: of the batches, above 0 to 1.
    """

    share: float

    def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
        """TL1 at once in the first phase, then the approach's own."""
        return self.base.plan(level, draw, phase - 1) if phase else OneStage().plan(level, draw)

    @property
    def starts(self) -> tuple[Fraction | float, ...]:
        """The approach's own, in what is left of the batches."""
        return (0.0, *(self.share + (1 - self.share) * start for start in self.base.starts))


def separate(plan: Plan) -> Plan:
    """The same goals, each by a network of its own."""
    return tuple(goal._replace(network=number) for number, goal in enumerate(plan))


def only_trained(plan: Plan, number: int) -> Plan:
    """The goals up to that number, from 0; only the last of them is trained, and those before it run."""
    return tuple(goal._replace(trained=index == number) for index, goal in enumerate(plan[: number + 1]))


def at_level_one(plan: Plan) -> Plan:
    """The same plan with every goal at TL1: for pairs, which have no levels between the input and TL1."""
    return tuple(goal._replace(level=1) for goal in plan)


def plans(approach: Approach, levels: Collection[int]) -> Iterator[tuple[Plan, float]]:
    """Every plan of an approach, over all phases and all that can be drawn, with its probability.

    Args:
        approach: makes the plans.
        levels: of the inputs, each equally likely.
    """
    shares = [float(end - start) for start, end in pairwise((*approach.starts, 1))]
    for phase, share in enumerate(shares):
        for level in levels:
            for plan, probability in _outcomes(partial(approach.plan, level, phase=phase)):
                yield plan, probability * share / len(levels)


def _outcomes(make: Callable[[Draw], Plan], given: tuple[int, ...] = ()) -> Iterator[tuple[Plan, float]]:
    """Every plan that `make` gives after these draws, with its probability."""
    choices: list[int] = []

    def draw(n: int) -> int:
        choices.append(n)
        return given[len(choices) - 1] if len(choices) <= len(given) else 0

    plan = make(draw)
    if len(choices) == len(given):
        yield plan, 1.0
        return
    first = choices[len(given)]
    for choice in range(first):
        for outcome, probability in _outcomes(make, (*given, choice)):
            yield outcome, probability / first


def _check_level(level: int) -> None:
    _check(level >= 1 and level % 2 == 1, f"a temporal level is an odd number from 1, not {level}")


def _check(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
