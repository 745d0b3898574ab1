"""The online phase step by step: the order of things, its programs, and what is logged."""

import functools

import jax
import numpy as np
import pytest
from online_phase import (
    CAPACITY,
    FIRST_STEP,
    advance,
    assert_same_bits,
    fresh_state,
    in_multiples_of,
    kept,
    stored,
)
from training_environments import ACTION_DIM, OBSERVATION_DIM, Diary

from iql_jax.algorithm import replay_buffer
from iql_jax.algorithm.learner import update
from iql_jax.algorithm.types import Transitions
from iql_jax.envs.rollout import Counters
from iql_jax.training import online
from iql_jax.training.online import act, learn, no_sums
from iql_jax.utils.streams import Stream, stream_seed

pytestmark = pytest.mark.usefixtures("one_process_and_few_programs")


# The order of things.


@pytest.mark.parametrize("train_freq", [1, 3])
def test_the_policy_acts_one_stretch_of_learning_late(begin, train_freq):
    begun, state = begin(train_freq=train_freq)
    advance(begun, state, 15)
    made = stored(begun)
    assert made.size == 15

    # The same once more, one program after the other, with each state kept.
    state = fresh_state()
    key = jax.random.key(stream_seed(42, Stream.ACTIONS))
    buffer = replay_buffer.init(Transitions(**begun._dataset.transitions), CAPACITY, keep_dataset=False)
    sums = no_sums(state, buffer, 8, None)
    count = np.int32(train_freq)
    actors = [kept(state.actor)]
    for i in range(0, 15, train_freq):
        new = jax.tree.map(lambda x, i=i: x[i : i + train_freq], made)
        state, buffer, sums = learn(
            state, buffer, new, count, sums, count, batch_size=8, num_offline=None
        )
        actors.append(kept(state.actor))

    def distance(late):
        """Of the actions made from those of the policy that has yet to learn ``late`` times."""
        each = []
        for i in range(15):
            actor = actors[max(0, i // train_freq - late)]
            actions = act(actor, key, np.int32(i), made.observations[i : i + 1])
            each.append(np.abs(made.actions[i] - actions[0]).max())
        return max(each)

    # It has learned from all transitions but those since and those just before.
    assert distance(1) < 1e-4
    assert distance(0) > 1e-2
    assert distance(2) > 1e-2


@pytest.mark.parametrize(
    ("train_freq", "expected"),
    [
        (1, ["step", "act", "learn"] * 4),
        (2, ["step", "act", "step", "act", "learn"] * 2),
        # The fourth step waits for two more.
        (3, ["step", "act", "step", "act", "step", "act", "learn", "step", "act"]),
    ],
)
def test_acting_is_asked_for_before_learning_and_the_environment_steps_meanwhile(
    begin, monkeypatch, train_freq, expected
):
    order = []

    class Recording(Diary):
        def step(self, action):
            order.append("step")
            return super().step(action)

    begun, state = begin(lambda recipe: Recording(), train_freq=train_freq)
    compiled, act_now = begun._begun.learn, online.act
    monkeypatch.setattr(online, "act", lambda *args: order.append("act") or act_now(*args))
    begun._begun.learn = lambda *args: order.append("learn") or compiled(*args)
    advance(begun, state, 4)
    assert order == expected


@pytest.mark.parametrize("train_freq", [1, 3])
@pytest.mark.parametrize("cuts", [(1,) * 20, (4, 6, 10), (19, 1)])
def test_it_does_not_matter_how_the_steps_are_cut_into_stretches(begin, tmp_path, cuts, train_freq):
    settings = {"train_freq": train_freq, "max_steps": 20}
    whole, state = begin(folder=tmp_path / "whole", **settings)
    at_once = advance(whole, state, 20)
    assert at_once.updates == 20  # Also after the last steps, which make no three.
    cut, state = begin(folder=tmp_path / "cut", **settings)
    for steps in cuts:
        state = advance(cut, state, steps).state
    assert_same_bits(state, at_once.state)
    assert_same_bits(cut._begun.buffer, whole._begun.buffer)
    assert cut.rows() == whole.rows()


@pytest.mark.parametrize(
    ("num_envs", "updates_per_step", "start_steps", "train_freq", "expected"),
    [
        (1, 1, 0, 1, 12),
        (1, 3, 0, 1, 36),
        (1, 2, 5, 1, 14),  # After steps 6 to 12.
        (3, 1, 0, 1, 12),  # The ratio of updates to data is kept.
        (3, 2, 5, 1, 18),  # After steps 6, 9 and 12.
        (3, 1, 12, 1, 0),
        (1, 3, 0, 4, 36),
        (1, 2, 5, 4, 14),
        (3, 2, 5, 2, 18),
    ],
)
def test_the_number_of_updates_is_exact(
    begin, num_envs, updates_per_step, start_steps, train_freq, expected
):
    begun, state = begin(
        train_freq=train_freq,
        num_envs=num_envs,
        updates_per_step=updates_per_step,
        start_steps=start_steps,
        **in_multiples_of(6),
    )
    stretches = [advance(begun, state, 6)]
    stretches.append(advance(begun, stretches[0].state, 6))
    assert int(stretches[1].state.step) == expected
    assert sum(stretch.updates for stretch in stretches) == expected
    assert [stretch.steps for stretch in stretches] == [6, 6]
    assert [bool(stretch.metrics) for stretch in stretches] == [
        stretch.updates > 0 for stretch in stretches
    ]
    assert stored(begun).size == begun.interaction.counters.env_steps == 12


def test_metrics_are_means_over_the_updates(begin):
    begun, state = begin(updates_per_step=3)
    stretch = advance(begun, state, 5)
    begun, state = begin(updates_per_step=3)
    sums = {}
    for _ in range(5):
        one = advance(begun, state, 1)
        state = one.state
        for name, mean in one.metrics.items():
            sums[name] = sums.get(name, 0.0) + 3 * float(mean)
    assert {name: float(mean) for name, mean in stretch.metrics.items()} == pytest.approx(
        {name: total / 15 for name, total in sums.items()}, rel=1e-4, abs=1e-5
    )


# One program.

compiled_update = jax.jit(update)


def transitions(first, count):
    rng = np.random.default_rng(first)
    return Transitions(
        observations=rng.normal(size=(count, OBSERVATION_DIM)).astype(np.float32),
        actions=rng.uniform(-1, 1, (count, ACTION_DIM)).astype(np.float32),
        rewards=rng.normal(size=count).astype(np.float32),
        masks=np.ones(count, np.float32),
        next_observations=rng.normal(size=(count, OBSERVATION_DIM)).astype(np.float32),
    )


@pytest.mark.parametrize("num_offline", [None, 4])
@pytest.mark.parametrize("num_updates", [0, 1, 3])
def test_learning_is_adding_then_updating_on_batches_of_the_buffer(num_offline, num_updates):
    settings = {"batch_size": 8, "num_offline": num_offline}
    draw = functools.partial(replay_buffer.sample, **settings)
    data, made = transitions(0, 6), transitions(1, 1)
    buffer = replay_buffer.init(data, CAPACITY, keep_dataset=num_offline is not None)
    buffer = replay_buffer.add(buffer, made, 1)
    state, totals = fresh_state(), {}
    for _ in range(num_updates):
        key, batch_key = jax.random.split(state.key)
        batch, share = draw(buffer, batch_key)
        state, metrics = compiled_update(state.replace(key=key), batch)
        for name, value in {**metrics, "offline_share": share}.items():
            totals[name] = totals.get(name, 0.0) + float(value)

    again = replay_buffer.init(data, CAPACITY, keep_dataset=num_offline is not None)
    first = fresh_state()
    sums = no_sums(first, again, **settings)
    assert {float(zero) for zero in sums.values()} == {0.0}
    learned, filled, sums = learn(
        first, again, made, np.int32(1), sums, np.int32(num_updates), **settings
    )
    assert first.step.is_deleted()
    assert again.transitions.rewards.is_deleted()
    assert_same_bits(filled, buffer)
    assert int(learned.step) == num_updates
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5),
        kept(learned),
        kept(state),
    )
    if num_updates:
        assert {name: float(total) for name, total in sums.items()} == pytest.approx(
            totals, rel=1e-4, abs=1e-5
        )
    if num_offline is not None and num_updates:
        assert float(sums["offline_share"]) == pytest.approx(num_updates / 2)


@pytest.mark.parametrize("settings", [{}, {"offline_ratio": 0.5, "start_steps": 8}])
def test_nothing_is_compiled_after_the_first_steps(begin, settings, caplog):
    begun, state = begin(**settings)
    state = advance(begun, state, 10).state
    with jax.log_compiles():
        for _ in range(3):
            state = advance(begun, state, 10).state
    assert [record.getMessage() for record in caplog.records] == []
    with jax.log_compiles():
        jax.jit(lambda x: x - 7)(np.ones(3))
    assert caplog.records  # It would have been seen.


def test_the_programs_are_compiled_when_the_phase_begins(begin, caplog):
    begun, state = begin()
    with jax.log_compiles():
        advance(begun, state, 3)
    compiled = [record.getMessage() for record in caplog.records]
    assert not [line for line in compiled if "jit(learn)" in line or "jit(act)" in line]


# What is logged.


def test_rows_of_episodes_come_once_with_the_runs_steps(begin):
    begun, state = begin()
    advance(begun, state, 30)
    rows = begun.rows()
    assert begun.rows() == []
    lengths = [row["length"] for _, _, row in rows]
    assert [table for table, _, _ in rows] == ["episodes"] * len(rows)
    assert [step for _, step, _ in rows] == (FIRST_STEP + np.cumsum(lengths)).tolist()
    assert list(rows[0][2]) == ["episode", "return", "length", "success", "regret"]


def test_columns_say_what_the_batches_were_before_the_first_environment_step(begin):
    begun, state = begin()
    assert begun.columns(300.0, 300.0) == {
        "offline_share": 1.0,
        "updates_per_second": 300.0,
        "env_steps_per_second": None,
    }
    advance(begun, state, 1)
    assert begun.columns(300.0, 150.0) == {
        "updates_per_second": 300.0,
        "env_steps_per_second": 150.0,
    }


def test_the_regret_of_evaluations_is_over_those_of_the_phase(begin):
    begun, _ = begin()
    row = {"score": 10.0, "success_rate": 0.1}
    assert begun.add_regret(row) == {**row, "regret": None}  # Still before.
    begun.interaction.counters = Counters(env_steps=1)
    for success, regret in ((0.2, 0.8), (0.6, 0.6), (1.0, 0.4)):
        row = {"success_rate": success}
        assert begun.add_regret(row) == {**row, "regret": pytest.approx(regret)}
    assert begun.add_regret({"success_rate": None}) == {"success_rate": None, "regret": None}
    resumed, _ = begin(saved=begun.save())
    resumed.interaction.counters = Counters(env_steps=1)
    assert resumed.add_regret({"success_rate": 0.0})["regret"] == pytest.approx(0.55)
