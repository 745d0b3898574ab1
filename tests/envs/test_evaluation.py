"""Evaluation: episode counts, no bias, independence of the number of environments, failures."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from iql_jax.envs import lockstep as evaluation
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.episodes import episode_seed
from iql_jax.envs.lockstep import Evaluator, default_num_envs
from iql_jax.envs.make import make_environment
from iql_jax.envs.shards import ShardedEnvironments
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import available_cores

EPISODES = 12
SEED = 7
CALLS = {"reset": 0, "step": 0}  # Of the environments in this process.


class Lottery(gym.Env):
    """The seed draws an episode's length (1 to 30) and its reward per step, and so its return.

    Observations are [steps so far, the reward per step]; a reward is that times the action.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, report_success: bool = False, pid_observed: bool = False):
        self._report_success = report_success
        self._pid_observed = pid_observed

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        CALLS["reset"] += 1
        self._length = int(self.np_random.integers(1, 31))
        self._prize = float(self.np_random.integers(-5, 6))
        self._steps = 0
        return self._observation(), {}

    def step(self, action):
        CALLS["step"] += 1
        assert self._steps < self._length, "stepped after its end"
        self._steps += 1
        # Successful in the middle of the episode only: 'at any step' is what counts.
        success = self._steps == 2 and self._length > 2
        info = {"success": success} if self._report_success else {}
        over = self._steps == self._length
        return (
            self._observation(),
            self._prize * float(action[0]),
            over and self._length % 2 == 0,
            over and self._length % 2 == 1,
            info,
        )

    def _observation(self):
        first = os.getpid() if self._pid_observed else self._steps
        return np.array([first, self._prize], np.float32)


class Faulty(Lottery):
    """Goes wrong in the third step of every episode that lasts so long."""

    def __init__(self, fault: str):
        super().__init__()
        self._fault = fault

    def reset(self, **kwargs: Any):
        if self._fault == "reset":
            raise OSError("no such\nmaze")
        observation, info = super().reset(**kwargs)
        if self._fault == "bad first observation":
            observation = observation * np.nan
        return observation, info

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self._steps == 3:
            if self._fault == "step":
                raise RuntimeError("the hinge\n  broke")
            if self._fault == "exit":
                os._exit(1)
            if self._fault == "observation":
                observation[1] = np.nan
            if self._fault == "shape":
                observation = np.zeros(5)
            if self._fault == "reward":
                reward = np.inf
        return observation, reward, terminated, truncated, info


def tenfold() -> gym.Env:
    return gym.wrappers.TransformReward(Lottery(), lambda reward: 10 * reward)


def ones(observations):
    return np.ones((len(observations), 1))


def direct(episodes: int, seed: int = SEED) -> tuple[list[float], list[int], list[bool]]:
    """Returns, lengths and successes from a plain loop over one environment."""
    returns, lengths, successes = [], [], []
    env = Lottery(report_success=True)
    for episode in range(episodes):
        env.reset(seed=episode_seed(seed, episode))
        total, steps, success, over = 0.0, 0, False, False
        while not over:
            _, reward, terminated, truncated, info = env.step(np.ones(1))
            total, steps, over = total + reward, steps + 1, terminated or truncated
            success = success or info["success"]
        returns.append(total)
        lengths.append(steps)
        successes.append(success)
    return returns, lengths, successes


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("num_envs", "processes"), [(1, 1), (2, 1), (5, 1), (20, 1), (2, 2), (5, 3)]
)
def test_the_result_does_not_depend_on_how_many_environments_there_are(num_envs, processes):
    returns, lengths, successes = direct(EPISODES)
    assert len(set(returns)) > 6  # The episodes do differ,
    assert lengths[0] > min(lengths)  # and the first to finish is not the first that started.
    assert 0 < sum(successes) < EPISODES

    make_env = functools.partial(Lottery, report_success=True)
    with Evaluator(make_env, num_envs, processes) as evaluator:
        result = evaluator.run(ones, EPISODES, SEED)
        again = evaluator.run(ones, EPISODES, SEED)
        other = evaluator.run(ones, EPISODES, SEED + 1)

    np.testing.assert_array_equal(result.returns, returns)
    np.testing.assert_array_equal(result.lengths, lengths)
    np.testing.assert_array_equal(result.successes, successes)
    np.testing.assert_array_equal(again.returns, returns)
    np.testing.assert_array_equal(other.returns, direct(EPISODES, SEED + 1)[0])


def test_no_episode_and_no_step_is_wasted():
    with Evaluator(Lottery, 5, processes=1) as evaluator:
        CALLS.update(reset=0, step=0)
        result = evaluator.run(ones, EPISODES, SEED)
    assert (CALLS["reset"], CALLS["step"]) == (EPISODES, result.lengths.sum())


def test_the_policy_sees_one_constant_batch_of_current_observations():
    batches = []

    def act(observations):
        batches.append(observations)
        # Episodes lose where the policy mistakes one environment for another.
        return np.where(observations[:, 1:] > 0, 1.0, -1.0)

    with Evaluator(Lottery, 5, processes=1) as evaluator:
        result = evaluator.run(act, EPISODES, SEED)
    assert {(batch.shape, batch.dtype.name) for batch in batches} == {((5, 2), "float32")}
    np.testing.assert_array_equal(result.returns, np.abs(direct(EPISODES)[0]))
    # A batch is the policy's to keep: later steps must not write into it.
    np.testing.assert_array_equal(batches[0][:, 0], 0)
    np.testing.assert_array_equal(batches[1][:, 0][batches[1][:, 0] > 0], 1)


def test_the_first_episodes_are_recorded_whole():
    with Evaluator(Lottery, 4, processes=1) as evaluator:
        result = evaluator.run(ones, EPISODES, SEED, record=6)
    assert len(result.trajectories) == 6
    for episode, trajectory in enumerate(result.trajectories):
        steps = result.lengths[episode]
        prize = result.returns[episode] / steps
        np.testing.assert_array_equal(trajectory[:, 0], np.arange(steps + 1))
        np.testing.assert_array_equal(trajectory[:, 1], np.full(steps + 1, prize))


def test_successes_are_none_where_the_environment_reports_none():
    with Evaluator(Lottery, 2, processes=1) as evaluator:
        assert evaluator.run(ones, 3, SEED).successes is None


def test_environments_are_spread_over_the_processes():
    make_env = functools.partial(Lottery, pid_observed=True)
    with Evaluator(make_env, 4, processes=2) as evaluator:
        result = evaluator.run(ones, 2, SEED, record=2)
    # Two episodes for four environments: each process has one of them.
    pids = {trajectory[0, 0] for trajectory in result.trajectories}
    assert len(pids) == 2
    assert np.float32(os.getpid()) not in pids


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_environments_may_differ(processes):
    with Evaluator([Lottery, Lottery, tenfold, tenfold], 4, processes) as evaluator:
        first, second = evaluator.run_side_by_side(ones, EPISODES, [SEED, SEED + 1])
    np.testing.assert_array_equal(first.returns, direct(EPISODES)[0])
    np.testing.assert_array_equal(second.returns, 10 * np.array(direct(EPISODES, SEED + 1)[0]))


@pytest.mark.parametrize("processes", [1, 2])
def test_terminations_are_told_from_time_limits(processes):
    lengths = direct(4)[1]
    assert {length % 2 for length in lengths} == {0, 1}
    envs = ShardedEnvironments(Lottery, 4, processes)
    envs.start({i: (i, episode_seed(SEED, i)) for i in range(4)})
    for step in range(1, max(lengths) + 1):
        record = envs.step(np.ones((4, 1), np.float32))
        for i, length in enumerate(lengths):
            if step <= length:
                assert record["ended"][i] == (step == length)
                assert record["terminated"][i] == (step == length and length % 2 == 0)
    assert record["terminated"].dtype == record["ended"].dtype == np.bool_
    envs.close()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("reset", "failed in evaluation episode 0 at its reset: OSError: no such maze"),
        ("step", "failed in evaluation episode 0 at step 3: RuntimeError: the hinge broke"),
        ("shape", "failed in evaluation episode 0 at step 3: ValueError: could not broadcast"),
        ("observation", "observation in evaluation episode 0 at step 3 is not finite"),
        ("reward", "reward in evaluation episode 0 at step 3 is not finite"),
        ("bad first observation", "observation in evaluation episode 0 at step 0 is not finite"),
    ],
)
def test_a_failing_environment_is_one_clear_line(fault, message, processes, capfd):
    assert direct(1)[1][0] >= 3
    with Evaluator(functools.partial(Faulty, fault), 2, processes) as evaluator:
        with pytest.raises(UserError, match=message) as caught:
            evaluator.run(ones, EPISODES, SEED)
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match="closed"):
            evaluator.run(ones, 1, SEED)
    assert capfd.readouterr().err == ""


def test_a_worker_that_dies_is_reported():
    with (
        Evaluator(functools.partial(Faulty, "exit"), 2, processes=2) as evaluator,
        pytest.raises(UserError, match="process ended without a word"),
    ):
        evaluator.run(ones, EPISODES, SEED)


def test_a_worker_that_dies_between_evaluations_does_not_break_closing():
    with Evaluator(Lottery, 2, processes=2):
        multiprocessing.active_children()[0].kill()


def build_only_in(pid: int) -> gym.Env:
    if os.getpid() != pid:
        os._exit(1)
    return Lottery()


def test_a_worker_that_dies_at_its_start_is_reported():
    with pytest.raises(UserError, match="process ended without a word"):
        Evaluator(functools.partial(build_only_in, os.getpid()), 2, processes=2)


def build_nothing() -> gym.Env:
    raise UserError("the environment needs a license")


def test_an_environment_that_does_not_build_says_why():
    with pytest.raises(UserError, match="needs a license"):
        Evaluator(build_nothing, 2, processes=2)


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1"])
def test_environments_without_vectors_are_refused(name):
    with pytest.raises(UserError, match="must have vectors as observations and actions"):
        Evaluator(functools.partial(gym.make, name), 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_ends_the_workers_at_once(processes, capfd):
    def act(observations):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGINT)  # As Ctrl-C in a terminal does.
        os.kill(os.getpid(), signal.SIGINT)
        return ones(observations)

    with (
        pytest.raises(KeyboardInterrupt),
        Evaluator(Lottery, 4, processes) as evaluator,
    ):
        evaluator.run(act, EPISODES, SEED)
    assert capfd.readouterr().err == ""


def test_workers_leave_an_interrupt_to_the_main_process():
    def act(observations):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGINT)
        return ones(observations)

    with Evaluator(Lottery, 2, processes=2) as evaluator:
        result = evaluator.run(act, 3, SEED)
    np.testing.assert_array_equal(result.returns, direct(3)[0])


def test_a_diverged_policy_is_reported():
    def act(observations):
        # Idle environments' actions do not matter: only episode 1's are bad, from step 3 on.
        return np.where((observations[:, :1] >= 2) & (np.arange(4)[:, None] == 1), np.nan, 1.0)

    assert direct(2)[1][1] >= 3
    with (
        Evaluator(Lottery, 4, processes=1) as evaluator,
        pytest.raises(UserError, match="action in evaluation episode 1 at step 3 is not finite"),
    ):
        evaluator.run(act, 2, SEED)


def test_a_nan_action_for_an_idle_environment_does_not_matter():
    def act(observations):
        return np.array([[1.0], [np.nan], [np.nan]])

    with Evaluator(Lottery, 3, processes=1) as evaluator:
        assert evaluator.run(act, 1, SEED).returns[0] == direct(1)[0][0]


def test_misuse_is_refused():
    with Evaluator(Lottery, 2, processes=1) as evaluator:
        with pytest.raises(ValueError, match="at least one episode"):
            evaluator.run(ones, 0, SEED)
        with pytest.raises(ValueError, match=r"actions \(2,\), not \(2, 1\)"):
            evaluator.run(lambda observations: np.ones(2), 1, SEED)
    evaluator.close()  # A second time.
    with pytest.raises(ValueError, match="need an environment"):
        Evaluator(Lottery, 0)


@pytest.mark.parametrize(
    ("episodes", "requested", "cores", "expected"),
    [
        (10, 0, 2, 10),  # Fewer episodes than 2 x 16 environments: all at once.
        (100, 0, 2, 25),  # 100 episodes need 4 rounds of up to 32; 4 rounds of 25 do.
        (100, 0, 1, 15),  # 7 rounds of up to 16: 15 do.
        (100, 0, 64, 100),
        (100, 8, 2, 8),
        (5, 8, 2, 5),
    ],
)
def test_default_num_envs(monkeypatch, episodes, requested, cores, expected):
    monkeypatch.setattr(evaluation, "available_cores", lambda: cores)
    assert default_num_envs(episodes, requested) == expected


def test_episode_seeds_are_distinct_and_fixed():
    seeds = {episode_seed(seed, episode) for seed in range(20) for episode in range(50)}
    assert len(seeds) == 1000
    assert episode_seed(0, 0) == np.random.SeedSequence((0, 0)).generate_state(1)[0]


class SeesJax(Lottery):
    """Its second observed number says whether this process has imported JAX."""

    def _observation(self):
        return np.array([self._steps, "jax" in sys.modules], np.float32)


def test_workers_do_not_import_jax():
    with Evaluator(SeesJax, 2, processes=2) as evaluator:
        result = evaluator.run(ones, 2, SEED, record=2)
    assert all((trajectory[:, 1] == 0).all() for trajectory in result.trajectories)


def test_a_maze_gives_the_same_episodes_however_it_is_evaluated():
    pytest.importorskip("gymnasium_robotics")
    recipe = EnvironmentDescription(
        spec=point_maze_spec(),
        kwargs={},
        observation_keys=("observation", "desired_goal"),
        observation_mean=None,
        observation_std=None,
        maze=None,
    )

    def towards_the_goal(observations):
        position, velocity, goal = observations[:, :2], observations[:, 2:4], observations[:, 4:]
        return np.clip(5 * (goal - position) - velocity, -1, 1)

    results = []
    for num_envs, processes in ((1, 1), (3, 2)):
        make_env = functools.partial(make_environment, recipe)
        with Evaluator(make_env, num_envs, processes) as evaluator:
            results.append(evaluator.run(towards_the_goal, 5, SEED, record=5))
    alone, together = results
    np.testing.assert_array_equal(alone.returns, together.returns)
    np.testing.assert_array_equal(alone.lengths, together.lengths)
    np.testing.assert_array_equal(alone.successes, together.successes)
    for one, other in zip(alone.trajectories, together.trajectories, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(set(alone.lengths)) > 1


def point_maze_spec() -> str:
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    spec = gym.spec("PointMaze_UMaze-v3")
    spec.kwargs["continuing_task"] = False
    return spec.to_json()


def test_available_cores_is_what_the_process_may_use():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_workers_do_not_import_the_entry_point(tmp_path):
    # The factory is defined in the entry point all the same: it is pickled by value.
    script = tmp_path / "entry.py"
    script.write_text(
        textwrap.dedent(f"""
        import functools, os, pathlib, sys
        pathlib.Path({str(tmp_path)!r}, f"imported-by-{{os.getpid()}}").touch()
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from iql_jax.envs.lockstep import Evaluator
        from test_evaluation import Lottery, direct, ones

        def make_env(report_success):
            return Lottery(report_success)

        if __name__ == "__main__":
            with Evaluator(functools.partial(make_env, True), 2, processes=2) as evaluator:
                result = evaluator.run(ones, 4, 7)
            assert result.returns.tolist() == direct(4, 7)[0]
            assert sys.modules["__main__"].make_env is make_env
        """)
    )
    subprocess.run([sys.executable, "-W", "error", str(script)], check=True)
    assert len(list(tmp_path.glob("imported-by-*"))) == 1
