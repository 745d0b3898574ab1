"""A training loop on a toy state that records what was asked of it."""

import itertools
import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from tables import untimed_rows

from iql_jax.training.config import from_mapping
from iql_jax.training.loop import Loop
from iql_jax.training.phases import Phase, Stretch

CONFIG = {
    "dataset": "toy/toy-v0",
    "max_steps": 5_300,
    "log_interval": 700,
    "eval_interval": 1_200,
    "checkpoint_interval": 900,
    "progress": False,
}


def settings_of(changes):
    return {**CONFIG, **(changes or {})}


class Crash(Exception):
    """Stands for a kill: nothing of the loop catches it."""


class Toy:
    """A state whose trajectory depends on every update, and a record of what was asked of it."""

    def __init__(self, folder, settings=None, fail_at=None, signal_at=None, signal_in_eval=None):
        self.fail_at, self.signal_at, self.signal_in_eval = fail_at, signal_at, signal_in_eval
        self.calls = itertools.count(1)
        self.evaluated = []
        self.made = []
        self.loop = Loop(
            config=from_mapping(settings_of(settings)),
            folder=folder,
            record={"run_id": "1", "config": {}},
            phases=[Phase(settings_of(settings)["max_steps"], self.stretch)],
            evaluate=self.evaluate,
            template=(jnp.ones(3, jnp.float32), jnp.zeros((), jnp.int32)),
            started=0.0,
        )

    def stretch(self, state, num_updates, stop):
        state, metrics = self.advance(state, num_updates)
        return Stretch(state, metrics, steps=num_updates, updates=num_updates)

    def advance(self, state, num_updates):
        call = next(self.calls)
        if call == self.fail_at:
            raise Crash
        if call == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.made.append(num_updates)
        x, step = np.asarray(state[0]), int(state[1])
        losses = []
        for _ in range(num_updates):
            step += 1
            x = np.sin(x * np.float32(1.1) + np.float32(step))
            losses.append(x.mean())
        metrics = {"loss": jnp.asarray(np.mean(losses), jnp.float32)}
        return (jnp.asarray(x), jnp.asarray(step, jnp.int32)), metrics

    def evaluate(self, state, update, stop):
        assert int(state[1]) == update
        if update == self.signal_in_eval:
            os.kill(os.getpid(), signal.SIGINT)
            stop.check()
            pytest.fail("the stop request did not come through")
        self.evaluated.append(update)
        return {"score": None, "return_mean": float(state[0][0])}


def rows(folder, table):
    return untimed_rows(folder / f"{table}.csv")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    toy = Toy(folder)
    state, progress = toy.loop.run()
    return folder, state, progress, toy


def assert_same_run(folder, state, uninterrupted):
    whole, expected, *_ = uninterrupted
    np.testing.assert_array_equal(state[0], expected[0])
    for table in ("metrics", "evaluations"):
        assert rows(folder, table) == rows(whole, table)
