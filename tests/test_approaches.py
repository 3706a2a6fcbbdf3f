"""Plans of goals, spelled out for the paper's examples."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdeblur.approaches import (
    APPROACHES,
    MAXIMUM_ITERATIONS,
    Approach,
    Draw,
    DrawnIteration,
    Goal,
    MultiScale,
    MultiScaleTemporal,
    MultiTemporal,
    OneStage,
    OneStageFirst,
    Plan,
    SeparateWeights,
    Stacked,
    TruncatedBackPropagation,
    at_level_one,
    plans,
)
from mtdeblur.networks.unroll import Step

levels = st.integers(1, 20).map(lambda half: 2 * half + 1)
steps = st.integers(1, 6).map(lambda half: 2 * half)


def first(n: int) -> int:
    return 0


def multi_temporal(level: int, extra: int = 1, **options: int) -> Plan:
    return MultiTemporal(extra=(extra, extra), **options).plan(level, first)


def goals(plan: Plan) -> list[int]:
    assert plan == tuple(Goal(goal.level) for goal in plan)
    return [goal.level for goal in plan]


@pytest.mark.parametrize(
    ("level", "step", "extra", "expected"),
    [
        (13, 2, 1, [11, 9, 7, 5, 3, 1, 1]),  # Section 4.1
        (11, 2, 1, [9, 7, 5, 3, 1, 1]),
        (7, 2, 1, [5, 3, 1, 1]),
        (7, 2, 3, [5, 3, 1, 1, 1, 1]),
        (11, 4, 1, [7, 3, 1, 1]),  # never below TL1
        (13, 4, 0, [9, 5, 1]),
        (3, 2, 0, [1]),
        (3, 12, 1, [1, 1]),
        (1, 2, 1, [1, 1]),
    ],
)
def test_multi_temporal(level: int, step: int, extra: int, expected: list[int]) -> None:
    assert goals(multi_temporal(level, extra, step=step)) == expected


def test_seven_iterations_at_most() -> None:
    assert goals(multi_temporal(13, 3)) == [11, 9, 7, 5, 3, 1, 1]
    assert goals(multi_temporal(13, 3, maximum=3)) == [11, 9, 7]


def test_further_iterations_are_drawn_between_the_fewest_and_the_most() -> None:
    asked: list[int] = []

    def last(n: int) -> int:
        asked.append(n)
        return n - 1

    approach = MultiTemporal(extra=(1, 3))
    assert goals(approach.plan(7, first)) == [5, 3, 1, 1]
    assert goals(approach.plan(7, last)) == [5, 3, 1, 1, 1, 1]
    assert asked == [3]


@pytest.mark.parametrize(
    ("level", "expected"),
    [(7, [5, 3, 1, 1, 1, 1, 1]), (9, [7, 5, 3, 1, 1, 1, 1]), (13, [11, 9, 7, 5, 3, 1, 1])],
)
def test_fixed_iterations_as_in_figure_6(level: int, expected: list[int]) -> None:
    assert goals(multi_temporal(level, iterations=7)) == expected


def test_fewer_fixed_iterations_stop_above_the_sharp_image() -> None:
    assert goals(multi_temporal(13, 3, iterations=2)) == [11, 9]


def test_one_stage_goes_to_the_sharp_image_at_once() -> None:
    assert OneStage().plan(13, first) == (Goal(1),)
    assert goals(OneStage(3).plan(7, first)) == [1, 1, 1]


@given(levels, steps, st.integers(0, 3))
def test_goals_fall_by_the_step_and_end_at_the_sharp_image(level: int, step: int, extra: int) -> None:
    plan = goals(multi_temporal(level, extra, step=step, maximum=100))
    assert plan[-1] == 1
    assert all(n % 2 == 1 and n >= 1 for n in plan)
    for before, after in zip([level, *plan], plan, strict=False):
        assert before - after == step or after == 1
    assert plan.count(1) == 1 + extra
    assert goals(multi_temporal(level, extra, step=step)) == plan[:MAXIMUM_ITERATIONS]


@given(levels, steps, st.integers(1, 7), st.integers(0, 3))
def test_a_fixed_number_of_iterations_is_kept(level: int, step: int, iterations: int, extra: int) -> None:
    fixed = multi_temporal(level, extra, step=step, iterations=iterations)
    assert len(fixed) == iterations
    assert fixed == multi_temporal(level, 7, step=step, maximum=iterations)


@pytest.mark.parametrize("level", [0, 2, 4, -1])
@pytest.mark.parametrize("kind", APPROACHES.values())
def test_levels_are_odd(kind: type[Approach], level: int) -> None:
    with pytest.raises(ValueError, match=f"odd .* not {level}"):
        list(plans(kind(), [level]))


@pytest.mark.parametrize("aims", [[10], [11, 6, 1], [15], [0], [-1], []])
def test_goals_are_odd_levels_up_to_that_of_the_input(aims: list[int]) -> None:
    @dataclass(frozen=True)
    class Own(Approach):
        def plan(self, level: int, draw: Draw, phase: int = 0) -> Plan:
            return tuple(Goal(n) for n in aims)

    faulty = next((f"TL{n};" for n in aims if n not in (1, 11, 13)), "empty")
    with pytest.raises(ValueError, match=f"Own from TL13 .*{faulty}"):
        list(plans(Own(), [13]))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MultiTemporal, {"step": 3}),
        (MultiTemporal, {"step": 0}),
        (MultiTemporal, {"extra": (-1, 1)}),
        (MultiTemporal, {"extra": (3, 1)}),
        (MultiTemporal, {"iterations": 0}),
        (MultiTemporal, {"iterations": 8}),
        (MultiTemporal, {"maximum": 0}),
        (OneStage, {"iterations": 0}),
        (Stacked, {"iterations": 0}),
    ],
)
def test_impossible_options_are_refused_by_name(kind: type[Approach], options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)


def test_multi_scale_goes_from_coarse_to_fine() -> None:
    assert MultiScale().plan(7, first) == (Goal(1, 4), Goal(1, 2), Goal(1, 1))
    assert MultiScale().steps(6) == (Step(4), Step(2), Step(1))


def test_stacked_networks_are_trained_one_after_the_other() -> None:
    approach = Stacked(3)
    assert approach.starts == (0, Fraction(1, 3), Fraction(2, 3))
    assert approach.restarts
    for phase in range(3):
        plan = approach.plan(13, first, phase)
        assert plan == tuple(Goal(1, network=n, trained=n == phase) for n in range(phase + 1))
    assert approach.steps(6) == tuple(Step(network=n) for n in range(3))
    assert approach.steps(2) == tuple(Step(network=n) for n in range(2))


def test_crossed_with_the_scales_every_level_is_reached_at_each_of_them() -> None:
    approach = MultiScaleTemporal(extra=(0, 0))
    plan = approach.plan(5, first)
    assert [(goal.level, goal.scale) for goal in plan] == [(3, 4), (3, 2), (3, 1), (1, 4), (1, 2), (1, 1)]
    assert {goal.network for goal in plan} == {0}
    assert [step.scale for step in approach.steps(2)] == [4, 2, 1, 4, 2, 1]


def test_without_weight_sharing_every_iteration_has_a_network() -> None:
    approach = SeparateWeights(MultiTemporal(), 7)
    plan = approach.plan(13, first)
    assert [goal.network for goal in plan] == [0, 1, 2, 3, 4, 5, 6]
    assert tuple(goal._replace(network=0) for goal in plan) == MultiTemporal().plan(13, first)
    assert approach.steps(9) == tuple(Step(network=n) for n in range(7))
    assert SeparateWeights(MultiScale(), 3).steps(6) == (Step(4, 0), Step(2, 1), Step(1, 2))


@pytest.mark.parametrize(("length", "cuts"), [(1, "11111"), (2, "01011"), (3, "00101"), (9, "00001")])
def test_the_graph_is_cut_after_so_many_iterations_and_at_the_end(length: int, cuts: str) -> None:
    base = OneStage(5)
    for last in (False, True):
        plan = TruncatedBackPropagation(base, length, last).plan(7, first)
        assert "".join(str(int(goal.cut)) for goal in plan) == cuts
        assert [goal.trained for goal in plan] == [goal.cut or not last for goal in plan]
        assert all(goal.has_gradient for goal in plan)


def test_of_a_drawn_iteration_those_before_it_only_run() -> None:
    plan = DrawnIteration(OneStage(5)).plan(7, lambda n: 2)
    assert plan == (Goal(1, trained=False), Goal(1, trained=False), Goal(1))
    assert [goal.has_gradient for goal in plan] == [False, False, True]


def test_a_one_stage_start_comes_before_the_phases_of_the_approach() -> None:
    approach = OneStageFirst(Stacked(2), 0.5)
    assert approach.starts == (0, 0.5, 0.75)
    assert approach.plan(9, first, 0) == (Goal(1),)
    assert approach.plan(9, first, 2) == Stacked(2).plan(9, first, 1)


def test_one_stage_is_trained_for_its_own_iterations_whatever_is_measured() -> None:
    assert len(OneStage(2).trained_steps(6)) == 2
    assert len(OneStage(2).steps(6)) == 6
    assert len(OneStageFirst(MultiTemporal(), 0.5).trained_steps(6)) == 6


@pytest.mark.parametrize("kind", APPROACHES.values())
@pytest.mark.parametrize("length", [1, 2])
def test_every_plan_ends_with_a_cut_and_trains_something(kind: type[Approach], length: int) -> None:
    for plan, _ in plans(TruncatedBackPropagation(kind(), length), (3, 13)):
        assert plan[-1].cut
        assert any(goal.trained for goal in plan)


def test_all_plans_have_the_probabilities_of_what_is_drawn_and_of_the_phases() -> None:
    approach = OneStageFirst(DrawnIteration(MultiTemporal(extra=(0, 1))), 0.25)
    found: Counter[tuple[int, ...]] = Counter()
    for plan, probability in plans(approach, (3, 5)):
        found[tuple(goal.level for goal in plan)] += probability  # type: ignore[assignment]
    expected = {
        # TL3 to 1, or 1 1; TL5 to 3 1, or 3 1 1; the drawn goal is the last
        (1,): 0.25 + 0.75 * (1 / 4 * 1 + 1 / 4 * 1 / 2),
        (1, 1): 0.75 * 1 / 4 * 1 / 2,
        (3,): 0.75 * (1 / 4 * 1 / 2 + 1 / 4 * 1 / 3),
        (3, 1): 0.75 * (1 / 4 * 1 / 2 + 1 / 4 * 1 / 3),
        (3, 1, 1): 0.75 * 1 / 4 * 1 / 3,
    }
    assert found == pytest.approx(expected)
    assert sum(found.values()) == pytest.approx(1)


def test_on_a_pair_every_goal_is_the_sharp_image() -> None:
    assert at_level_one(multi_temporal(9)) == OneStage(len(multi_temporal(9))).plan(9, first)
    assert at_level_one((Goal(5, 4, 0), Goal(1, 2, 1))) == (Goal(1, 4, 0), Goal(1, 2, 1))
