"""Evaluation: a map of episodes over processes.

Episode i of an evaluation is reset with a seed that derives from (seed, i) alone, the policy acts
in NumPy in the process that steps the environment, and results come back in order. So scores
depend on nothing else, to the bit: not on the number of processes, nor on what ran before.
"""

import contextlib
import dataclasses
import math
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import gymnasium as gym
import numpy as np

from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.make import make_environment
from iql_jax.envs.policy import NumpyPolicy
from iql_jax.utils.arrays import Bool, Float32, Float64, Int64
from iql_jax.utils.errors import Diverged, UserError, one_line
from iql_jax.utils.processes import Workers, available_cores

_ACTION_STREAM = 1  # Of drawn actions, apart from that of the reset.


@dataclasses.dataclass(frozen=True, eq=False)
class EpisodeTask:
    """One policy to evaluate, with the seed of its evaluation."""

    environment: EnvironmentDescription
    policy: NumpyPolicy
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """Result of one episode, see ``EvaluationResult``."""

    total: float
    length: int
    success: bool | None
    trajectory: Float32 | None  # Where it is recorded.


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Results of E episodes, in start order."""

    returns: Float64  # [E], undiscounted sums of the environment's own rewards.
    lengths: Int64  # [E], environment steps.
    successes: Bool | None  # [E], of any step; None if the environment does not report it.
    trajectories: list[Float32]  # [T + 1, observation_dim] of the first, recorded episodes.


def derived_seed(seed: int, number: int) -> int:
    """Returns the seed of a run's evaluation at a step, and of the reset of a numbered episode."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


class Evaluator(contextlib.AbstractContextManager["Evaluator"]):
    """Runs episodes in worker processes, or in this one where ``processes`` is 1; 0: one a core.

    A context manager. Workers start at first use, keep their environments between evaluations, and
    end with the context, or with this process however it ends.
    """

    def __init__(self, processes: int = 0) -> None:
        self._processes = processes or available_cores()
        self._workers = Workers(self._processes, "; try fewer of them (eval_processes)")
        self._built: list[Future[None]] = []

    def prepare(self, environments: Sequence[EnvironmentDescription]) -> None:
        """Starts to build environments ahead of the first evaluation, see ``wait_until_built``."""
        if self._processes == 1:
            for description in environments:
                _build(description)
        else:
            self._built = [self._workers.submit(_build, each) for each in environments]

    def wait_until_built(self) -> None:
        """Waits for the environments of ``prepare``; raises UserError if one does not build."""
        built, self._built = self._built, []
        for _ in self._workers.results(built):
            pass

    def run(
        self,
        tasks: Sequence[EpisodeTask],
        episodes: int,
        *,
        record: int = 0,
        sample: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> list[EvaluationResult | Diverged]:
        """Runs episodes 0, 1, ... of each task; ``Diverged`` where an action was not finite.

        The observations of the first ``record`` ones are kept; ``sample`` draws actions instead of
        taking the likeliest. ``check`` is called several times a second; if it raises, workers end.

        Raises:
            UserError: If an environment does not build, fails or gives a number that is not finite,
                or if a worker dies.
        """
        calls = [(task, i, sample, i < record) for task in tasks for i in range(episodes)]
        if self._processes == 1:
            played = [play(*call, check) for call in calls]
        else:
            futures = (self._workers.submit(play, *call) for call in calls)
            played = list(self._workers.results(futures, check))
        return [_result(played[i : i + episodes]) for i in range(0, len(played), episodes)]

    def close(self) -> None:
        """Ends the workers, whatever they are doing; may be called again."""
        self._workers.close()
        while _environments:
            _environments.popitem()[1].close()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()


def _result(played: Sequence[Episode | Diverged]) -> EvaluationResult | Diverged:
    episodes: list[Episode] = []
    for result in played:
        if isinstance(result, Diverged):
            return result
        episodes.append(result)
    reported = any(episode.success is not None for episode in episodes)
    return EvaluationResult(
        returns=np.array([episode.total for episode in episodes], np.float64),
        lengths=np.array([episode.length for episode in episodes], np.int64),
        successes=np.array([bool(episode.success) for episode in episodes]) if reported else None,
        trajectories=[e.trajectory for e in episodes if e.trajectory is not None],
    )


_environments: dict[bytes, gym.Env[Float32, Float32]] = {}
"""The environments of this process, by their pickled descriptions."""


def _environment(description: EnvironmentDescription) -> gym.Env[Float32, Float32]:
    key = pickle.dumps(description)
    if key not in _environments:
        _environments[key] = make_environment(description)
    return _environments[key]


def _build(description: EnvironmentDescription) -> None:
    _environment(description)


def play(
    task: EpisodeTask,
    episode: int,
    sample: bool,
    record: bool,
    watch: Callable[[], None] = lambda: None,
    env: gym.Env[Float32, Float32] | None = None,
) -> Episode | Diverged:
    """Plays one episode of an evaluation to its end; ``Diverged`` if an action is not finite.

    ``sample`` draws actions, ``record`` keeps the observations, and ``watch`` is called after the
    reset and after each step. Without ``env`` the task's environment is this process's own.

    Raises:
        UserError: If the environment fails or gives a number that is not finite.
    """
    env = _environment(task.environment) if env is None else env
    generator = np.random.default_rng((task.seed, episode, _ACTION_STREAM)) if sample else None
    total, length, success, over = 0.0, 0, None, False
    trajectory: list[Float32] = []
    place = f"evaluation episode {episode} at its reset"
    try:
        observation = env.reset(seed=derived_seed(task.seed, episode))[0]
    except Exception as error:
        raise _failure(error, place) from error
    while True:
        if not (np.isfinite(observation).all() and math.isfinite(total)):
            name = "reward" if np.isfinite(observation).all() else "observation"
            raise UserError(f"the environment's {name} in {place} is not finite")
        if record:
            trajectory.append(np.array(observation, np.float32))
        watch()
        if over:
            return Episode(total, length, success, np.stack(trajectory) if record else None)
        length += 1
        place = f"evaluation episode {episode} at step {length}"
        action = task.policy(observation, generator)
        if not np.isfinite(action).all():
            return Diverged(f"the policy's action in {place} is not finite: training has diverged")
        try:
            observation, reward, terminated, truncated, info = env.step(action)
        except Exception as error:
            raise _failure(error, place) from error
        total += float(reward)
        over = terminated or truncated
        if "success" in info:
            success = bool(success) or bool(info["success"])


def _failure(error: Exception, place: str) -> UserError:
    return UserError(f"the environment failed in {place}: {one_line(error)}")
