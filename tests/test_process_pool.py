"""Work shared between processes: a killed one is one sentence, and errors come through."""

import signal

import pytest
import torch

from evenreel import process_pool
from evenreel.errors import DataError, ResourceError
from training.making import fail, killed


def test_a_worker_that_is_killed():
    with pytest.raises(ResourceError, match="fewer workers"):
        list(process_pool.work(killed, [1, 2], 2, lambda done: None))


def test_errors_come_through():
    with pytest.raises(DataError, match="task 1 is no good"):
        list(process_pool.work(fail, [1, 1], 2, lambda done: None))


def test_every_worker_begins_deaf_to_ctrl_c_and_on_one_thread():
    with process_pool.executor(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
        assert pool.submit(torch.get_num_threads).result() == 1


def test_units_are_counted():
    told = []

    def task(units: int, tick: process_pool.Tick) -> int:
        for _ in range(units):
            tick(0)
            tick(1)
        return units

    assert list(process_pool.work(task, [2, 3], 1, told.append)) == [2, 3]
    assert told == [1, 2, 3, 4, 5]
