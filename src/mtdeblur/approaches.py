"""Approaches as plans of goals: what each iteration is asked to give (Fig. 1 and Section 4.1 of the paper).

A plan is a pure function of the input's temporal level. One training algorithm, one unroll loop and one
evaluation serve every approach.
"""

from typing import NamedTuple

MAXIMUM_ITERATIONS = 7
"""Iterations of a training plan at most, Section 4.1."""

SCALES = (4, 2, 1)
"""Scales of the multi-scale approach, coarse to fine."""


class Goal(NamedTuple):
    """The image that one iteration should give.

    Attributes:
        level: temporal level TL n, odd; 1 is the sharp mid-frame.
        scale: the goal is the image at 1/scale of full resolution.
        network: which network of the approach carries the iteration out (0 where there is one).
    """

    level: int
    scale: int = 1
    network: int = 0


Plan = tuple[Goal, ...]


def _check_level(level: int) -> None:
    if level < 1 or level % 2 == 0:
        raise ValueError(f"a temporal level is an odd number from 1 up, not {level}")


def one_stage(level: int, iterations: int = 1) -> Plan:
    """TL n to TL1 at once (Fig. 1a); further iterations aim at TL1 again.

    Args:
        level: temporal level of the input, odd.
        iterations: how many iterations aim at TL1; the paper's one-stage approach has one.

    Raises:
        ValueError: if the level is even or below 1, or there are no iterations.
    """
    _check_level(level)
    if iterations < 1:
        raise ValueError(f"a plan needs at least 1 iteration, not {iterations}")
    return (Goal(level=1),) * iterations


def stacked(level: int, networks: int = 3) -> Plan:
    """TL n to TL1 again and again, each time by a network of its own (SV, Fig. 1b).

    Args:
        level: temporal level of the input, odd.
        networks: how many; the paper's has three.

    Raises:
        ValueError: if the level is even or below 1, or there are no networks.
    """
    return separate(one_stage(level, networks))


def multi_scale(level: int) -> Plan:
    """TL n to TL1 at 1/4 of full resolution, then at 1/2, then at full resolution (MS, Fig. 1c).

    Args:
        level: temporal level of the input, odd.

    Raises:
        ValueError: if the level is even or below 1.
    """
    _check_level(level)
    return tuple(Goal(level=1, scale=scale) for scale in SCALES)


def across_scales(plan: Plan) -> Plan:
    """Every goal of a plan at 1/4, 1/2 and full resolution in turn (MS + MT crosses the two, Table 2 (l))."""
    return tuple(goal._replace(scale=scale) for goal in plan for scale in SCALES)


def separate(plan: Plan) -> Plan:
    """The same goals, each by a network of its own: no weights are shared over iterations (Section 6)."""
    return tuple(goal._replace(network=number) for number, goal in enumerate(plan))


def multi_temporal(
    level: int,
    *,
    step: int = 2,
    extra: int = 1,
    iterations: int | None = None,
    maximum: int = MAXIMUM_ITERATIONS,
) -> Plan:
    """TL n to TL(n - TS), TL(n - 2 TS), ... TL1, then TL1 again (Fig. 1d, Section 4.1).

    Args:
        level: temporal level n of the input, odd.
        step: temporal step TS between the input and the goal of one iteration, even; never below TL1, so
            TL11 with TS 4 goes over 7 and 3 to 1.
        extra: further iterations that aim at TL1 once it is reached; training draws 1 to 3 per batch.
        iterations: a fixed number of iterations in place of `extra`: a shorter plan stops above TL1, a longer
            one repeats TL1 (Fig. 6 trains every level to the 7th iteration).
        maximum: the plan is cut here.

    Raises:
        ValueError: if the level is not odd, the step not even and positive, or a count is out of range.
    """
    _check_level(level)
    if step < 2 or step % 2:
        raise ValueError(f"the temporal step is an even number from 2 up, not {step}")
    if extra < 0 or maximum < 1 or (iterations is not None and iterations < 1):
        raise ValueError(
            "a plan needs at least 1 iteration and cannot repeat its final goal fewer than 0 times"
        )
    levels = [*range(level - step, 1, -step), 1]
    wanted = len(levels) + extra if iterations is None else iterations
    levels += [1] * (wanted - len(levels))
    return tuple(Goal(level=n) for n in levels[: min(wanted, maximum)])


def at_level_one(plan: Plan) -> Plan:
    """A plan with every goal at TL1: for real pairs, which have no levels between the input and TL1.

    Args:
        plan: of any approach; scales and networks stay as they are.
    """
    return tuple(goal._replace(level=1) for goal in plan)
