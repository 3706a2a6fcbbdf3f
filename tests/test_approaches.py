"""Plans of goals, spelled out for the paper's examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdeblur.approaches import (
    MAXIMUM_ITERATIONS,
    Goal,
    Plan,
    across_scales,
    at_level_one,
    multi_scale,
    multi_temporal,
    one_stage,
    separate,
    stacked,
)

levels = st.integers(1, 20).map(lambda half: 2 * half + 1)
steps = st.integers(1, 6).map(lambda half: 2 * half)


def goals(plan: Plan) -> list[int]:
    assert all((goal.scale, goal.network) == (1, 0) for goal in plan)
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
    assert goals(multi_temporal(level, step=step, extra=extra)) == expected


def test_seven_iterations_at_most() -> None:
    assert goals(multi_temporal(13, extra=3)) == [11, 9, 7, 5, 3, 1, 1]
    assert goals(multi_temporal(13, extra=3, maximum=3)) == [11, 9, 7]


@pytest.mark.parametrize(
    ("level", "expected"),
    [(7, [5, 3, 1, 1, 1, 1, 1]), (9, [7, 5, 3, 1, 1, 1, 1]), (13, [11, 9, 7, 5, 3, 1, 1])],
)
def test_fixed_iterations_as_in_figure_6(level: int, expected: list[int]) -> None:
    assert goals(multi_temporal(level, iterations=7)) == expected


def test_fewer_fixed_iterations_stop_above_the_sharp_image() -> None:
    assert goals(multi_temporal(13, iterations=2, extra=3)) == [11, 9]


def test_one_stage_goes_to_the_sharp_image_at_once() -> None:
    assert one_stage(13) == (Goal(1),)
    assert goals(one_stage(7, 3)) == [1, 1, 1]


@given(levels, steps, st.integers(0, 3))
def test_goals_fall_by_the_step_and_end_at_the_sharp_image(level: int, step: int, extra: int) -> None:
    plan = goals(multi_temporal(level, step=step, extra=extra, maximum=100))
    assert plan[-1] == 1
    assert all(n % 2 == 1 and n >= 1 for n in plan)
    for before, after in zip([level, *plan], plan, strict=False):
        assert before - after == step or after == 1
    assert plan.count(1) == 1 + extra
    assert goals(multi_temporal(level, step=step, extra=extra)) == plan[:MAXIMUM_ITERATIONS]


@given(levels, steps, st.integers(1, 7), st.integers(0, 3))
def test_a_fixed_number_of_iterations_is_kept(level: int, step: int, iterations: int, extra: int) -> None:
    fixed = multi_temporal(level, step=step, iterations=iterations, extra=extra)
    assert len(fixed) == iterations
    assert fixed == multi_temporal(level, step=step, extra=7, maximum=iterations)


@pytest.mark.parametrize("level", [0, 2, 8, -1])
def test_levels_are_odd(level: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        multi_temporal(level)
    with pytest.raises(ValueError, match="odd"):
        one_stage(level)


@pytest.mark.parametrize(
    "options", [{"step": 3}, {"step": 0}, {"extra": -1}, {"iterations": 0}, {"maximum": 0}]
)
def test_impossible_plans_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"step|at least 1 iteration"):
        multi_temporal(7, **options)


def test_one_stage_needs_an_iteration() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        one_stage(7, 0)


def test_the_other_approaches_of_figure_1() -> None:
    assert stacked(13) == (Goal(1, 1, 0), Goal(1, 1, 1), Goal(1, 1, 2))
    assert multi_scale(7) == (Goal(1, 4), Goal(1, 2), Goal(1, 1))


def test_crossed_with_the_scales_every_level_is_reached_at_each_of_them() -> None:
    plan = across_scales(multi_temporal(5, extra=0))
    assert [(goal.level, goal.scale) for goal in plan] == [(3, 4), (3, 2), (3, 1), (1, 4), (1, 2), (1, 1)]
    assert {goal.network for goal in plan} == {0}


def test_without_weight_sharing_every_iteration_has_a_network() -> None:
    plan = separate(multi_temporal(13))
    assert [goal.network for goal in plan] == [0, 1, 2, 3, 4, 5, 6]
    assert tuple(goal._replace(network=0) for goal in plan) == multi_temporal(13)


@pytest.mark.parametrize("make", [stacked, multi_scale])
def test_even_levels_are_refused_by_all(make) -> None:
    with pytest.raises(ValueError, match="odd number"):
        make(4)


def test_on_a_pair_every_goal_is_the_sharp_image() -> None:
    assert at_level_one(multi_temporal(9)) == one_stage(9, len(multi_temporal(9)))
    assert at_level_one((Goal(5, 4, 0), Goal(1, 2, 1))) == (Goal(1, 4, 0), Goal(1, 2, 1))
