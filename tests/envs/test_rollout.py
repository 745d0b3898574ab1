"""What training environments leave behind, against a plain loop over the same environments."""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import re
import signal

import numpy as np
import pytest
from toy_environments import ACTION_DIM, SEEDS, Diary, Faulty, Witness, description

from iql_jax.envs import rollout
from iql_jax.envs.episodes import derived_seed
from iql_jax.envs.rollout import Counters, Rollout
from iql_jax.utils.errors import UserError
from iql_jax.utils.streams import Stream, stream_seed

STEPS, SEED = 40, 3
FIELDS = ("observations", "actions", "rewards", "masks", "next_observations")


@pytest.fixture
def processes(monkeypatch):
    """Has each of a few environments run in a process of its own."""
    monkeypatch.setattr(rollout, "available_cores", lambda: 4)
    yield
    assert multiprocessing.active_children() == []


def some_actions(num_envs, steps=STEPS):
    rng = np.random.default_rng(num_envs)
    return rng.uniform(-1, 1, (steps, num_envs, ACTION_DIM)).astype(np.float32)


def plain_loop(actions, terminates=True, first_episode=0):
    """Transitions, and episodes, as one writes them down who steps environments one by one.

    The reset after an ending gives the next observation to act on, and to nothing else.
    """
    num_envs = actions.shape[1]
    envs = [Diary() for _ in range(num_envs)]
    numbers = itertools.count(first_episode)
    run_seed = stream_seed(SEED, Stream.RESETS)
    transitions, episodes, endings = [], [], set()

    def start(i):
        number = next(numbers)
        observations[i] = envs[i].reset(seed=derived_seed(run_seed, number))[0]
        books[i] = {"episode": number, "return": 0.0, "length": 0, "success": 0.0}

    observations, books = [None] * num_envs, [None] * num_envs
    for i in range(num_envs):
        start(i)
    for at_once in actions:
        ended = []
        for i, action in enumerate(at_once):
            following, reward, terminated, truncated, info = envs[i].step(action)
            mask = 0.0 if terminated and terminates else 1.0
            transitions.append((observations[i], action, reward, mask, following))
            observations[i] = following
            books[i]["return"] += reward
            books[i]["length"] += 1
            books[i]["success"] = max(books[i]["success"], float(info["success"]))
            if terminated or truncated:
                ended.append(i)
                endings.add((terminated, truncated))
        for i in ended:
            episodes.append(books[i])
            failures = sum(1 - episode["success"] for episode in episodes)
            books[i]["regret"] = failures / len(episodes)
            start(i)
    return transitions, episodes, endings


def start_and_step(live, actions):
    live.start()
    return [live.step(at_once) for at_once in actions]


def run(actions, kind=Diary, counters=None, terminates=True, **kwargs):
    """The transitions of each step, the rows of the episodes, and the counters after it all."""
    live = Rollout(description(kind, **kwargs), actions.shape[1], SEED, terminates)
    live.counters = counters or live.counters
    with contextlib.closing(live):
        steps = start_and_step(live, actions)
    return [made for made, _ in steps], [row for _, rows in steps for row in rows], live.counters


@pytest.mark.parametrize(
    ("num_envs", "terminates", "cores"), [(1, True, 1), (1, False, 1), (3, True, 1), (2, True, 4)]
)
def test_every_transition_and_episode_is_accounted_for(monkeypatch, num_envs, terminates, cores):
    monkeypatch.setattr(rollout, "available_cores", lambda: cores)
    actions = some_actions(num_envs)
    made, rows, counters = run(actions, terminates=terminates)
    transitions, episodes, endings = plain_loop(actions, terminates)
    assert endings == {(True, False), (False, True), (True, True)}
    assert rows == [pytest.approx(episode) for episode in episodes]
    for column, field in enumerate(FIELDS):
        expected = np.array([row[column] for row in transitions], np.float32)
        actual = np.concatenate([step[field] for step in made])
        np.testing.assert_array_equal(actual, expected, err_msg=field)
        assert actual.dtype == np.float32
    assert list(made[0]) == list(FIELDS)
    assert counters == Counters(
        env_steps=STEPS * num_envs,
        episodes_started=len(episodes) + num_envs,
        episodes_ended=len(episodes),
        successes=sum(episode["success"] == 1 for episode in episodes),
    )
    assert 0 < counters.successes < len(episodes)
    assert all(type(value) is int for value in vars(counters).values())


def test_an_episode_starts_alike_whatever_came_before_it():
    run_seed = stream_seed(SEED, Stream.RESETS)
    expected = [derived_seed(run_seed, episode) for episode in range(130)]
    assert len(set(expected)) == 130
    for num_envs in (1, 3):
        SEEDS.clear()
        run(some_actions(num_envs))
        assert len(SEEDS) > 8
        assert expected[: len(SEEDS)] == SEEDS
    # A resumed run starts with the episode after the last that was started before.
    SEEDS.clear()
    _, rows, _ = run(some_actions(3), counters=Counters(100, 30, 27, 9))
    assert expected[30 : 30 + len(SEEDS)] == SEEDS
    assert min(row["episode"] for row in rows) == 30
    assert rows[0]["regret"] == 1 - (9 + rows[0]["success"]) / 28


# Episodes under way are repeated.


def interrupted(num_envs, steps, change=lambda saved, made: None):
    """The rollout that resumes after some steps, how many episodes it dropped, and the first."""
    actions = some_actions(num_envs)
    first, second = (Rollout(description(Diary), num_envs, SEED, True) for _ in range(2))
    with contextlib.closing(first):
        pieces = [made for made, _ in start_and_step(first, actions[:steps])]
        saved = json.loads(json.dumps(first.save()))
        made = {field: np.concatenate([piece[field] for piece in pieces]) for field in FIELDS}
        change(saved, made)
        second.counters = dataclasses.replace(first.counters)
        dropped = second.resume(saved, made)
    return second, dropped, first


@pytest.mark.parametrize(
    ("num_envs", "cores", "steps"),
    [(1, 1, 17), (1, 1, 18), (3, 1, 19), (2, 4, 18)],  # At 18, one episode has just started.
)
def test_repeated_episodes_go_on_as_if_nothing_had_happened(monkeypatch, num_envs, cores, steps):
    monkeypatch.setattr(rollout, "available_cores", lambda: cores)
    actions = some_actions(num_envs)
    transitions, episodes, counters = run(actions)
    live, dropped, _ = interrupted(num_envs, steps)
    with contextlib.closing(live):
        rest = [live.step(at_once) for at_once in actions[steps:]]
    rows = [row for _, rows in rest for row in rows]
    assert (dropped, live.counters) == (0, counters)
    assert rows == episodes[len(episodes) - len(rows) :]
    for (made, _), expected in zip(rest, transitions[steps:], strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(made[field], expected[field])


def spoil_the_last_observation(saved, made):
    saved["observations"][1][0] += 1


def spoil_the_first_observation(saved, made):
    made["observations"][-3 * saved["lengths"][1] + 1] += 1


def test_an_episode_that_comes_out_differently_is_dropped_alone():
    for spoil in (spoil_the_last_observation, spoil_the_first_observation):
        live, dropped, first = interrupted(3, 19, spoil)
        with contextlib.closing(live):
            assert dropped == 1
            expected, started = first.save(), first.counters.episodes_started
            assert live.save()["lengths"] == [expected["lengths"][0], 0, expected["lengths"][2]]
            expected["episodes"][1] = started
            assert live.save()["episodes"] == expected["episodes"]
            assert live.counters == dataclasses.replace(
                first.counters, episodes_started=started + 1
            )


def test_an_episode_that_ends_where_it_did_not_is_dropped():
    length = plain_loop(some_actions(1))[1][0]["length"]

    def ended(saved, made):
        over = made["next_observations"][-1:].tolist()
        saved.update(episodes=[0], lengths=[length], observations=over)

    live, dropped, _ = interrupted(1, length, ended)
    with contextlib.closing(live):
        assert dropped == 1
        live.step(some_actions(1)[0])


def test_without_reported_success_there_is_none_and_no_regret():
    _, rows, counters = run(some_actions(1), reports_success=False)
    assert {row["success"] for row in rows} == {row["regret"] for row in rows} == {None}
    assert counters.successes == 0


# Failures.


def run_to_failure(fault, first_bad_episode, num_envs=1):
    """What was raised, and the counters then."""
    environment = description(Faulty, fault=fault, first_bad_episode=first_bad_episode)
    live = Rollout(environment, num_envs, SEED, True)
    with contextlib.closing(live), pytest.raises(UserError) as caught:
        start_and_step(live, some_actions(num_envs))
    return str(caught.value), live.counters


@pytest.mark.parametrize(
    ("fault", "first_bad_episode", "steps", "ended", "message"),
    [
        # A step that fails does not count: an episode of four, and two steps.
        ("step", 1, 6, 1, "failed after 6 training steps: RuntimeError: the hinge broke"),
        ("observation", 1, 6, 1, "after 6 training steps: .*observation is not finite"),
        ("reward", 1, 6, 1, "after 6 training steps: .*reward is not finite"),
        ("shape", 1, 6, 1, "an observation has 3 numbers"),
        # Nor does one whose reset fails: an episode of four, and all but the end of another.
        ("reset", 2, 7, 1, "failed after 7 training steps: OSError: no such maze"),
        ("first observation", 2, 7, 1, "after 7 training steps: .*observation is not finite"),
        ("reset", 0, 0, 0, "failed after 0 training steps: OSError: no such maze"),
    ],
)
def test_failures_are_one_line_and_keep_the_counts(fault, first_bad_episode, steps, ended, message):
    said, counters = run_to_failure(fault, first_bad_episode)
    assert re.search(message, said)
    assert "\n" not in said
    assert (counters.env_steps, counters.episodes_ended) == (steps, ended)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("step", "RuntimeError: the hinge broke"), ("death", "ended without a word")],
)
def test_a_failure_in_a_process_is_one_line(processes, capfd, fault, message):
    said, _ = run_to_failure(fault, first_bad_episode=0, num_envs=2)
    assert re.search(message, said)
    assert "\n" not in said
    assert capfd.readouterr().err == ""


def test_processes_leave_ctrl_c_to_their_owner_and_import_no_jax(processes):
    live = Rollout(description(Witness), 2, SEED, True)
    live.start()
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
    made, _ = live.step(some_actions(2)[0])
    pids, jax = made["next_observations"][:, :2].T
    assert len({*pids, np.float32(os.getpid())}) == 3
    assert set(jax) == {0}
    multiprocessing.active_children()[0].kill()
    live.close()  # The other one ends all the same.


@pytest.mark.parametrize(
    ("num_envs", "cores", "apart"),
    [(1, 64, False), (2, 2, False), (16, 4, False), (16, 8, True), (4, 64, True)],
)
def test_processes_need_cores(monkeypatch, num_envs, cores, apart):
    monkeypatch.setattr(rollout, "available_cores", lambda: cores)
    assert rollout.in_processes(num_envs) == apart
