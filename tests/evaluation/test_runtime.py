import time

import pytest
import torch

from mtdeblur.evaluation.runtime import measure_run_time

CPU = torch.device("cpu")


def test_it_is_the_median_of_whole_pictures_after_the_warm_up():
    calls = []

    def progress(blurred):
        calls.append(blurred)
        time.sleep(0.2 if len(calls) <= 2 else 0.02)  # the first calls are slow
        yield blurred
        time.sleep(0.01)  # and so is every further iteration
        yield blurred

    taken = measure_run_time(progress, CPU, height=6, width=8, repeats=3)
    assert len(calls) == 5
    assert calls[0].shape == (1, 3, 6, 8)
    assert all(0.03 <= seconds < 0.2 for seconds in taken)


def test_waiting_for_the_device_is_told_apart():
    ticks = iter([0.0, 1.0, 5.0, 10.0, 12.0, 13.0, 20.0, 21.0, 29.0])
    taken = measure_run_time(lambda x: [x], CPU, height=4, width=4, repeats=3, clock=lambda: next(ticks))
    assert taken.unsynchronised == 1.0  # of 1, 2 and 1
    assert taken.synchronised == 5.0  # of 5, 3 and 9


@pytest.mark.parametrize("warm_up", [0, 3])
def test_every_repeat_runs(warm_up):
    calls = []
    measure_run_time(lambda x: [calls.append(x)], CPU, height=4, width=4, repeats=2, warm_up=warm_up)
    assert len(calls) == 2 + warm_up
