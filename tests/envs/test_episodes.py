"""Evaluation: the episodes of a plain loop, whatever the processes; failures; workers' ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from unittest import mock

import numpy as np
import pytest
from toy_environments import ACTION_DIM, OBSERVATION_DIM, Diary, Faulty, Witness, description

from iql_jax.envs.episodes import EpisodeTask, Evaluator, derived_seed
from iql_jax.envs.policy import NumpyPolicy
from iql_jax.utils.errors import Diverged, UserError

EPISODES, SEED = 12, 7


def random_policy(seed=0, scale=0.01, hidden=8):
    rng = np.random.default_rng(seed)
    layers = [
        (scale * rng.normal(size=(i, o)), np.zeros(o))
        for i, o in ((OBSERVATION_DIM, hidden), (hidden, ACTION_DIM))
    ]
    return NumpyPolicy.from_layers(layers, np.zeros(ACTION_DIM))


POLICY = random_policy()


def task(kind=Diary, policy=POLICY, seed=SEED, **kwargs):
    return EpisodeTask(description(kind, **kwargs), policy, seed)


def plain_loop(seed=SEED, episodes=EPISODES):
    """Returns, lengths, successes and trajectories, one episode after the other."""
    returns, lengths, successes, trajectories = [], [], [], []
    env = Diary()
    for episode in range(episodes):
        observation, _ = env.reset(seed=derived_seed(seed, episode))
        total, success, over, seen = 0.0, False, False, [observation]
        while not over:
            observation, reward, terminated, truncated, info = env.step(POLICY(observation))
            total, success = total + reward, success or info["success"]
            over = terminated or truncated
            seen.append(observation)
        returns.append(total)
        lengths.append(len(seen) - 1)
        successes.append(success)
        trajectories.append(np.stack(seen))
    return returns, lengths, successes, trajectories


@pytest.fixture(scope="module")
def here():
    with Evaluator(1) as evaluator:
        yield evaluator


@pytest.fixture(scope="module")
def workers():
    with Evaluator(2) as evaluator:
        yield evaluator
    assert multiprocessing.active_children() == []


@pytest.fixture(params=["here", "workers"])
def evaluator(request):
    return request.getfixturevalue(request.param)


def test_results_are_those_of_a_plain_loop(evaluator):
    returns, lengths, successes, trajectories = plain_loop()
    assert len(set(lengths)) > 3
    assert 0 < sum(successes) < EPISODES
    for _ in range(2):  # Environments that have run before give the same.
        (result,) = evaluator.run([task()], EPISODES, record=5)
        np.testing.assert_array_equal(result.returns, returns)
        np.testing.assert_array_equal(result.lengths, lengths)
        np.testing.assert_array_equal(result.successes, successes)
        assert len(result.trajectories) == 5
        for actual, expected in zip(result.trajectories, trajectories, strict=False):
            np.testing.assert_array_equal(actual, expected)


def test_results_come_in_the_order_of_their_tasks(evaluator):
    tasks = [task(), task(scale=10.0), task(seed=8), task(policy=random_policy(1))]
    first, scaled, other, drifted = evaluator.run(tasks, EPISODES, record=1)
    np.testing.assert_allclose(scaled.returns, 10 * first.returns)
    np.testing.assert_array_equal(other.returns, plain_loop(seed=8)[0])
    assert (drifted.trajectories[0] != first.trajectories[0]).any()
    np.testing.assert_array_equal(drifted.returns, first.returns)


def test_drawn_actions_depend_on_the_seed_and_the_episode_alone(here, workers):
    tasks = [task(), task(seed=8), task()]
    drawn = here.run(tasks, 4, record=4, sample=True)
    again = workers.run(tasks, 4, record=4, sample=True)
    for one, other in zip(drawn, again, strict=True):
        for first, second in zip(one.trajectories, other.trajectories, strict=True):
            np.testing.assert_array_equal(first, second)
    first_actions = [t[1, 2:] for result in drawn[:2] for t in result.trajectories]
    assert len(np.unique(first_actions, axis=0)) == 8
    (likeliest,) = here.run([task()], 1, record=1)
    assert (likeliest.trajectories[0][1, 2:] != first_actions[0]).any()


def test_successes_are_none_where_the_environment_reports_none(here):
    (result,) = here.run([task(reports_success=False)], 2)
    assert result.successes is None


def test_a_diverged_policy_is_a_result_beside_the_others(evaluator):
    broken = random_policy(scale=np.nan)
    bad, good = evaluator.run([task(policy=broken), task()], 3)
    assert isinstance(bad, Diverged)
    assert "action in evaluation episode 0 at step 1 is not finite" in str(bad)
    np.testing.assert_array_equal(good.returns, plain_loop(episodes=3)[0])


# Failures.


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("building", "does not build: OSError: no such robot"),
        ("reset", "failed in evaluation episode 0 at its reset: OSError: no such maze"),
        ("step", "failed in evaluation episode 0 at step 3: RuntimeError: the hinge broke"),
        ("observation", "observation in evaluation episode 0 at step 3 is not finite"),
        ("reward", "reward in evaluation episode 0 at step 3 is not finite"),
        ("first observation", "observation in evaluation episode 0 at its reset is not finite"),
    ],
)
def test_a_failing_environment_is_one_line(here, fault, message):
    with pytest.raises(UserError, match=message) as caught:
        here.run([task(Faulty, fault=fault)], 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("step", "RuntimeError: the hinge broke"), ("death", "ended without a word")],
)
def test_a_failure_ends_the_workers_and_others_start_next_time(fault, message, capfd):
    before = set(multiprocessing.active_children())
    with Evaluator(2) as evaluator:
        with pytest.raises(UserError, match=message):
            evaluator.run([task(Faulty, fault=fault)], 3)
        assert set(multiprocessing.active_children()) == before
        (result,) = evaluator.run([task()], 3)
    np.testing.assert_array_equal(result.returns, plain_loop(episodes=3)[0])
    assert capfd.readouterr().err == ""


# Workers.


@pytest.mark.parametrize("processes", [1, 2])
def test_a_check_that_raises_ends_the_evaluation(processes, capfd):
    before = set(multiprocessing.active_children())
    large = random_policy(hidden=500_000)  # More than a pipe holds is still on its way.
    with Evaluator(processes) as evaluator, pytest.raises(InterruptedError):
        evaluator.run([task(policy=large)], EPISODES, check=mock.Mock(side_effect=InterruptedError))
    assert set(multiprocessing.active_children()) == before
    assert capfd.readouterr().err == ""


def test_environments_are_built_ahead_and_failures_wait():
    with Evaluator(2) as evaluator:
        evaluator.prepare([description(Diary), description(Faulty, fault="building")])
        with pytest.raises(UserError, match="OSError: no such robot"):
            evaluator.wait_until_built()


def test_workers_leave_ctrl_c_to_their_owner(workers):
    def check():
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGINT)

    workers.run([task()], 1)  # They have started.
    (result,) = workers.run([task()], EPISODES, check=check)
    np.testing.assert_array_equal(result.returns, plain_loop()[0])


def test_workers_import_no_jax_and_use_one_thread(workers):
    (result,) = workers.run([task(Witness)], EPISODES, record=EPISODES)
    process, jax, threads = np.stack([t[0, :3] for t in result.trajectories]).T
    assert np.float32(os.getpid()) not in process
    assert set(jax) == {0}
    assert set(threads) == {1}


def test_workers_end_with_a_killed_owner_and_do_not_import_its_program(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        print("imported", flush=True)
        sys.path[:0] = {sys.path!r}
        from test_episodes import Evaluator, task
        if __name__ == "__main__":
            evaluator = Evaluator(2)
            evaluator.run([task()], 4)
            print("ran", flush=True)
            time.sleep(600)
        """)
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as program:
        assert [program.stdout.readline() for _ in range(2)] == ["imported\n", "ran\n"]
        program.kill()
        # Workers have inherited the pipe: it ends when the last of them has.
        assert program.communicate(timeout=60)[0] == ""
