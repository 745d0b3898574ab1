"""A session on a toy state that notes what was asked of it."""

import itertools
import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import Crash
from tables import untimed_rows

from iql_jax.training.config import FinetuneConfig
from iql_jax.training.run import Run
from iql_jax.training.session import Session

CONFIG = {
    "dataset": "toy/toy-v0",
    "log_interval": 700,
    "eval_interval": 1_200,
    "checkpoint_interval": 900,
    "progress": False,
}
END = 5_300


class Toy:
    """A run whose state depends on every update.

    Its second phase, if it has one, steps by fours and makes half as many updates. How often it
    advanced there is saved with the state, and logged in a table of its own.
    """

    def __init__(
        self,
        folder,
        *,
        fail_at=None,
        signal_at=None,
        signal_in_eval=None,
        first=END,
        second=0,
        begin=0,
        **settings,
    ):
        self.folder = folder
        self.fail_at, self.signal_at, self.signal_in_eval = fail_at, signal_at, signal_in_eval
        self.first, self.second, self.begin = begin + first, begin + first + second, begin
        self.config = FinetuneConfig(**{**CONFIG, **settings})
        self.calls = itertools.count(1)
        self.evaluated, self.made, self.advanced = [], [], 0

    def run(self):
        """Start or resume; return the state and the progress at the end."""
        with Session(
            Run(self.config, self.folder, {"run_id": "1", "config": {}}, None, 0.0, {}),
            (jnp.ones(3, jnp.float32), jnp.zeros((), jnp.int32)),
            end=self.second,
            unit="step" if self.second > self.first else "update",
            first_step=self.begin,
            tables=("calls",),
            companion=self,
        ) as session:
            if session.step <= self.first:
                self.phase(session, self.begin, self.first, 1)
            if self.second > self.first:
                self.phase(session, self.first, self.second, 4)
            return session.state, session.progress

    def phase(self, session, begin, end, stride):
        session.enter_phase(begin, end, stride, rate="env_steps_per_second" if stride > 1 else "")
        while True:
            session.log_if_due()
            session.evaluate_if_due(self.evaluate)
            session.save_if_due()
            session.stop.check()
            if session.step == end:
                return
            count = session.steps_until_due()
            assert count % stride == 0
            updates = count // 2 if stride > 1 else count
            session.state, metrics = self.update(session.state, updates)
            session.record(metrics, steps=count, updates=updates)
            if stride > 1:
                self.advanced += 1
                session.write("calls", {"calls": self.advanced})

    def update(self, state, count):
        call = next(self.calls)
        if call == self.fail_at:
            raise Crash
        if call == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.made.append(count)
        x, step = np.asarray(state[0]), int(state[1])
        losses = []
        for _ in range(count):
            step += 1
            x = np.sin(x * np.float32(1.1) + np.float32(step))
            losses.append(x.mean())
        metrics = {"loss": jnp.asarray(np.mean(losses), jnp.float32)}
        return (jnp.asarray(x), jnp.asarray(step, jnp.int32)), metrics

    def evaluate(self, state, step, stop):
        if step == self.signal_in_eval:
            os.kill(os.getpid(), signal.SIGINT)
            stop.check()
            pytest.fail("the stop request did not come through")
        self.evaluated.append(step)
        return {"score": None, "return_mean": float(state[0][0])}

    def save(self):
        return {"advanced": self.advanced}

    def restore(self, saved):
        self.advanced = 0 if saved is None else saved["advanced"]


def rows(folder, table):
    return untimed_rows(folder / f"{table}.csv")


def assert_same_run(folder, state, expected):
    """The run in a folder ended as another one did, its tables included."""
    whole, expected_state = expected[:2]
    np.testing.assert_array_equal(state[0], expected_state[0])
    for table in ("metrics", "evaluations", "calls"):
        if (whole / f"{table}.csv").exists():
            assert rows(folder, table) == rows(whole, table)
