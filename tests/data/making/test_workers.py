import os
import signal

import pytest

from mtdeblur.data.making.workers import open_runner
from mtdeblur.errors import UserError


def square(number):
    return number, number * number, os.getpid()


def stumble(number):
    if number == 3:
        raise UserError("three is too much")
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def run_tasks(function, blocks, workers):
    with open_runner(workers) as run:
        return list(run(function, blocks))


def test_one_worker_is_this_process_and_keeps_the_order():
    done = run_tasks(square, [[1, 2], [], [3]], 1)
    assert done == [(1, 1, os.getpid()), (2, 4, os.getpid()), (3, 9, os.getpid())]


def test_several_workers_do_every_task_once_and_a_block_stays_in_one_process():
    blocks = [list(range(first, first + 5)) for first in range(0, 20, 5)]
    done = run_tasks(square, [*blocks, []], 2)
    assert sorted(number for number, _, _ in done) == list(range(20))
    assert all(squared == number * number for number, squared, _ in done)
    for block in blocks:
        assert len({process for number, _, process in done if number in block}) == 1
    assert os.getpid() not in {process for _, _, process in done}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_raised(workers):
    with pytest.raises(UserError, match="three is too much"):
        run_tasks(stumble, [[1, 2], [3, 4]], workers)


def test_a_worker_that_dies_is_reported():
    with pytest.raises(UserError, match="worker process was killed"):
        run_tasks(die, [[1], [2]], 2)


def test_processes_stay_from_one_stage_to_the_next_and_one_block_needs_none():
    with open_runner(2) as run:
        assert list(run(square, [[5]])) == [(5, 25, os.getpid())]
        stages = [{process for *_, process in run(square, [[1], [2]])} for _ in range(2)]
    assert stages[0] == stages[1]
    assert len(stages[0] - {os.getpid()}) == 2
