"""Evaluation: a map of episodes over processes.

Episode i of an evaluation is reset with a seed that derives from (seed, i) alone, the policy acts
in NumPy in the process that steps the environment, and results come back in order. So scores
depend on nothing else, to the bit: not on the number of processes, nor on what was evaluated
before.
"""

import dataclasses
import math
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Self

import gymnasium as gym
import numpy as np

from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.make import make_environment
from iql_jax.envs.policy import NumpyPolicy
from iql_jax.utils.arrays import Bool, Float32, Float64, Int64
from iql_jax.utils.errors import Diverged, UserError, one_line
from iql_jax.utils.processes import (
    available_cores,
    main_module_hidden,
    prepare_worker,
    start_method,
)

_CHECK_SECONDS = 0.1
_Call = tuple[bytes, NumpyPolicy, int, int, bool, bool]
"""Arguments of ``_play_described``."""

_ACTION_STREAM = 1  # Of drawn actions, apart from that of the reset.


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Results of E episodes, in start order.

    Attributes:
        returns: [E], undiscounted sums of the environment's own rewards.
        lengths: [E], environment steps.
        successes: [E], whether any step of the episode reported success; None if the environment
            does not report it.
        trajectories: Observations [T + 1, observation_dim] of the first recorded episodes.
    """

    returns: Float64
    lengths: Int64
    successes: Bool | None
    trajectories: list[Float32]


@dataclasses.dataclass(frozen=True, eq=False)
class EpisodeTask:
    """One policy to evaluate.

    Attributes:
        environment: The environment to act in.
        policy: The policy.
        seed: The seed of the evaluation.
    """

    environment: EnvironmentDescription
    policy: NumpyPolicy
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """What one episode gave: see ``EvaluationResult``; the trajectory where it was recorded."""

    total: float
    length: int
    success: bool | None
    trajectory: Float32 | None


def episode_seed(seed: int, episode: int) -> int:
    """The seed with which an episode of an evaluation is reset."""
    return int(np.random.SeedSequence((seed, episode)).generate_state(1)[0])


class Evaluator:
    """Runs episodes in worker processes, or in this one where one process suffices.

    A context manager. Workers start at first use, keep their environments between evaluations, and
    end with the context, or with this process however it ends.

    Args:
        processes: How many; 0 for one per core.
    """

    def __init__(self, processes: int = 0) -> None:
        self._processes = processes or available_cores()
        self._pool: ProcessPoolExecutor | None = None
        self._leash: Connection | None = None  # Workers end when it is closed.
        self._built: list[Future[None]] = []

    def prepare(self, environments: Sequence[EnvironmentDescription]) -> None:
        """Start to build environments, ahead of the first evaluation; ``wait_until_built`` waits.

        Raises:
            UserError: If an environment does not build in this process.
        """
        pickled = [pickle.dumps(environment) for environment in environments]
        if self._processes == 1:
            for description in pickled:
                _environment(description)
            return
        self._built = [self._submit(_build, description) for description in pickled]

    def wait_until_built(self) -> None:
        """Wait for the environments of ``prepare``.

        Raises:
            UserError: If one does not build.
        """
        built, self._built = self._built, []
        try:
            for future in built:
                future.result()
        except BrokenProcessPool as error:
            raise _ended_without_a_word() from error

    def run(
        self,
        tasks: Sequence[EpisodeTask],
        episodes: int,
        *,
        record: int = 0,
        sample: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> list[EvaluationResult | Diverged]:
        """Run episodes 0, 1, ... of each task.

        A failure, or an exception of ``check``, ends the workers in the midst of their episodes;
        the next evaluation starts others.

        Args:
            tasks: What to evaluate.
            episodes: How many of each task, at least 1.
            record: The number of first episodes whose observations are kept.
            sample: Whether to draw actions from the policy, instead of its likeliest ones.
            check: Called several times a second; may raise to stop.

        Returns:
            The result of each task; ``Diverged`` where an action of the policy was not finite.

        Raises:
            UserError: If an environment does not build, fails or gives a number that is not finite,
                or if a worker dies.
        """
        if episodes < 1:
            raise ValueError(f"an evaluation needs at least one episode, not {episodes}")
        pickled = {id(task): pickle.dumps(task.environment) for task in tasks}
        calls = [
            (pickled[id(task)], task.policy, task.seed, i, sample, i < record)
            for task in tasks
            for i in range(episodes)
        ]
        try:
            if self._processes == 1:
                played = [_play_described(*call, check) for call in calls]
            else:
                played = self._map(calls, check)
        except BaseException as error:
            self.close(force=True)
            if isinstance(error, BrokenProcessPool):
                raise _ended_without_a_word() from error
            raise
        return [_collect(played[i : i + episodes]) for i in range(0, len(played), episodes)]

    def close(self, force: bool = False) -> None:
        """End the workers, and close the environments of this process; may be called again.

        Args:
            force: Whether to end workers in the midst of their episodes.
        """
        if self._leash is not None and force:
            self._leash.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._leash is not None:
            self._leash.close()
        self._pool = self._leash = None
        while _environments:
            _environments.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close(force=error is not None)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._pool is None:
            context = multiprocessing.get_context(start_method())
            leash, self._leash = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(self._processes, context, prepare_worker, (leash,))
        with main_module_hidden():  # Workers start as work is submitted.
            return self._pool.submit(function, *arguments)

    def _map(self, calls: Sequence[_Call], check: Callable[[], None]) -> list[Episode | Diverged]:
        futures = [self._submit(_play_described, *call) for call in calls]
        pending = set(futures)
        while pending:
            check()
            finished, pending = wait(pending, _CHECK_SECONDS, FIRST_EXCEPTION)
            for future in finished:
                future.result()
        return [future.result() for future in futures]


_environments: dict[bytes, gym.Env[Float32, Float32]] = {}
"""The environments of this process, by their pickled descriptions."""


def _environment(description: bytes) -> gym.Env[Float32, Float32]:
    """The environment of a pickled description, built at its first use."""
    if description not in _environments:
        _environments[description] = make_environment(pickle.loads(description))
    return _environments[description]


def _build(description: bytes) -> None:
    _environment(description)


def _ended_without_a_word() -> UserError:
    return UserError(
        "an evaluation's process ended without a word (killed, or out of memory?); try fewer of "
        "them (eval_processes)"
    )


def _play_described(
    description: bytes,
    policy: NumpyPolicy,
    seed: int,
    episode: int,
    sample: bool,
    record: bool,
    watch: Callable[[], None] = lambda: None,
) -> Episode | Diverged:
    """``play`` in the environment of a pickled description."""
    env = _environment(description)
    return play(env, policy, seed, episode, sample=sample, record=record, watch=watch)


def play(
    env: gym.Env[Float32, Float32],
    policy: NumpyPolicy,
    seed: int,
    episode: int,
    *,
    sample: bool = False,
    record: bool = False,
    watch: Callable[[], None] = lambda: None,
) -> Episode | Diverged:
    """Play one episode of an evaluation to its end.

    Args:
        env: The environment.
        policy: The policy.
        seed: The seed of the evaluation.
        episode: The number of the episode.
        sample: Whether to draw actions.
        record: Whether to keep the observations.
        watch: Called after the reset and after each step.

    Returns:
        The episode; ``Diverged`` if an action of the policy is not finite.

    Raises:
        UserError: If the environment fails or gives a number that is not finite.
    """
    generator = np.random.default_rng((seed, episode, _ACTION_STREAM)) if sample else None
    total, length, success, over = 0.0, 0, None, False
    trajectory: list[Float32] = []
    try:
        observation = env.reset(seed=episode_seed(seed, episode))[0]
    except Exception as error:
        where = f"evaluation episode {episode} at its reset"
        raise UserError(f"the environment failed in {where}: {one_line(error)}") from error
    while True:
        where = f"evaluation episode {episode} at step {length}"
        if not np.isfinite(observation).all():
            raise UserError(f"the environment's observation in {where} is not finite")
        if not math.isfinite(total):
            raise UserError(f"the environment's reward in {where} is not finite")
        if record:
            trajectory.append(np.array(observation, np.float32))
        watch()
        if over:
            return Episode(total, length, success, np.stack(trajectory) if record else None)
        length += 1
        where = f"evaluation episode {episode} at step {length}"
        action = policy(observation, generator)
        if not np.isfinite(action).all():
            return Diverged(f"the policy's action in {where} is not finite: training has diverged")
        try:
            observation, reward, terminated, truncated, info = env.step(action)
        except Exception as error:
            raise UserError(f"the environment failed in {where}: {one_line(error)}") from error
        total += float(reward)
        over = terminated or truncated
        if "success" in info:
            success = bool(success) or bool(info["success"])


def collect(episodes: Sequence[Episode]) -> EvaluationResult:
    """The result of all episodes of an evaluation."""
    successes = [episode.success for episode in episodes]
    reported = any(success is not None for success in successes)
    return EvaluationResult(
        returns=np.array([episode.total for episode in episodes], np.float64),
        lengths=np.array([episode.length for episode in episodes], np.int64),
        successes=np.array([bool(success) for success in successes]) if reported else None,
        trajectories=[e.trajectory for e in episodes if e.trajectory is not None],
    )


def _collect(played: Sequence[Episode | Diverged]) -> EvaluationResult | Diverged:
    """The result of a task, of its episodes."""
    episodes: list[Episode] = []
    for episode in played:
        if isinstance(episode, Diverged):
            return episode
        episodes.append(episode)
    return collect(episodes)
