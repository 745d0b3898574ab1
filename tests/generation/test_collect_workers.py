"""Worker processes of the makers."""

import os
import time

import pytest

from iql_jax.generation import workers
from iql_jax.utils.errors import UserError


def _double(number):
    return 2 * number


def _die(number):
    if number == 1:
        os._exit(9)
    return number


def _sleep(seconds):
    time.sleep(seconds)


class TestWorkers:
    @pytest.mark.parametrize("processes", [1, 2])
    def test_results_come_in_order(self, processes):
        with workers.run_in_order(_double, range(20), processes) as results:
            assert list(results) == list(range(0, 40, 2))

    @pytest.mark.parametrize("processes", [1, 2])
    def test_nothing_to_do(self, processes):
        with workers.run_in_order(_double, [], processes) as results:
            assert list(results) == []

    def test_a_killed_process_is_said(self):
        with (
            pytest.raises(UserError, match="process ended without a result"),
            workers.run_in_order(_die, range(4), 2) as results,
        ):
            list(results)

    def test_tasks_under_way_are_left_where_the_block_is(self):
        start = time.monotonic()
        with workers.run_in_order(_sleep, [0, 600, 600, 600, 600], 2) as results:
            next(results)
        assert time.monotonic() - start < 60

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_check_stops_the_work(self, processes):
        def check():
            if done:
                raise KeyboardInterrupt

        def work():
            with workers.run_in_order(_sleep, [0, 600, 600], processes, check) as results:
                done.append(next(results))
                next(results)

        done = []
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            work()
        assert time.monotonic() - start < 60

    def test_a_signal_to_all_processes_is_not_taken_for_a_lack_of_memory(self, monkeypatch):
        def check():
            calls.append(None)
            if len(calls) > 1:  # Not before the processes are started.
                raise KeyboardInterrupt

        def work():
            with workers.run_in_order(_die, [1, 1], 2, check) as results:
                next(results)

        calls = []
        monkeypatch.setattr(workers, "_CHECK_SECONDS", 600)
        with pytest.raises(KeyboardInterrupt):
            work()
