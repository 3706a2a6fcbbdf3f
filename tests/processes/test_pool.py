import os
import signal
import subprocess
import sys
import time

import pytest

from mtdeblur.errors import UserError
from mtdeblur.processes.pool import open_runner


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


@pytest.mark.fault("killed worker process")
def test_a_worker_that_dies_is_reported():
    with pytest.raises(UserError, match="worker process was killed"):
        run_tasks(die, [[1], [2]], 2)


def test_processes_stay_from_one_stage_to_the_next_and_one_block_needs_none():
    with open_runner(2) as run:
        assert list(run(square, [[5]])) == [(5, 25, os.getpid())]
        stages = [{process for *_, process in run(square, [[1], [2]])} for _ in range(2)]
    assert stages[0] == stages[1]
    assert len(stages[0] - {os.getpid()}) == 2


def die_of(number):
    if number in (3, 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def give_up(number):
    return -number


@pytest.mark.slow
@pytest.mark.fault("killed worker process")
def test_a_task_that_kills_its_process_is_given_up_and_the_rest_is_done():
    blocks = [[1, 2], [3, 4], [5], [6, 7]]
    for workers in (2, 3):
        with open_runner(workers) as run:
            done = list(run(die_of, iter(blocks), lost=give_up))
        assert sorted(done) == [-5, -3, 1, 2, 4, 6, 7]


def die_once(place):
    if not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return place.name


@pytest.mark.fault("killed worker process")
def test_a_task_whose_process_is_lost_once_is_done_by_another(tmp_path):
    names = ["a", "b", "c"]
    with open_runner(2) as run:
        done = list(run(die_once, [[tmp_path / name] for name in names], lost=lambda place: None))
    assert sorted(done) == names


def test_tasks_are_asked_for_when_they_can_begin():
    asked = []

    def tasks():
        for number in range(6):
            asked.append(number)
            yield [number]

    with open_runner(2) as run:
        for count, _ in enumerate(run(square, tasks()), 1):
            assert len(asked) <= count + 2
    assert asked == list(range(6))


WAITING = """
import signal, sys, time
from pathlib import Path
from mtdeblur.processes.pool import open_runner

def wait_long(place):
    try:
        (place / "begun").touch()
        time.sleep(60)
    finally:
        (place / "cleaned").touch()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    with open_runner(2) as run:
        list(run(wait_long, iter([[Path(sys.argv[1])]])))
"""


@pytest.mark.fault("SIGINT or SIGTERM")
def test_an_interruption_aborts_the_tasks_in_progress(tmp_path):
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    with subprocess.Popen([sys.executable, script, tmp_path], stderr=subprocess.PIPE) as program:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        program.send_signal(signal.SIGINT)
        _, complaint = program.communicate(timeout=50)
    assert program.returncode
    assert b"KeyboardInterrupt" in complaint
    assert (tmp_path / "cleaned").exists()
