"""Training environments: they run episode after episode, and every transition is accounted for."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.episodes import episode_seed
from iql_jax.envs.make import make_environment
from iql_jax.utils.arrays import Bool, Float32
from iql_jax.utils.errors import UserError, one_line
from iql_jax.utils.processes import (
    START_METHOD,
    available_cores,
    main_module_hidden,
    prepare_worker,
)
from iql_jax.utils.streams import Stream, stream_seed


@dataclasses.dataclass
class Counters:
    """How far the environments are; saved with each checkpoint."""

    env_steps: int = 0
    episodes_started: int = 0
    episodes_ended: int = 0
    successes: int = 0  # Of the episodes that ended.


class Rollout:
    """Environments that are stepped with given actions, and start new episodes by themselves.

    Episode i starts alike whatever came before it: its seed derives from the run's and from i.
    ``terminates`` has a termination end the bootstrap: masks are 0 there. ``observations``
    [num_envs, observation_dim] are those to act on next.

    Raises:
        UserError: If the environment does not build.
    """

    def __init__(
        self, environment: EnvironmentDescription, num_envs: int, seed: int, terminates: bool
    ) -> None:
        self.observations: Float32
        self.counters = Counters()
        self._terminates = terminates
        self._seed = stream_seed(seed, Stream.RESETS)
        self._episode = np.zeros(num_envs, np.int64)
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._successes = np.full(num_envs, np.nan)  # NaN: none reported.
        self._failed_reset: UserError | None = None
        self._vector = _vector_environment(environment, num_envs)

    def start(self) -> None:
        """Starts an episode in each environment; those under way are dropped."""
        self._reset(np.ones(len(self._episode), np.bool_))

    def step(
        self, actions: Float32
    ) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, float | None]]]:
        """Steps every environment with actions [num_envs, action_dim] in [-1, 1], or one-hot.

        Returns the fields of the transitions [num_envs, ...], with the environments' own rewards,
        and a row for each episode that ended. The next observation of a transition is the one that
        the step led to, also where an episode ended there; its mask is 0 at terminations, never at
        time limits.

        Raises:
            UserError: If an environment fails or gives a number that is not finite. No transition
                of the step counts then. Where the reset after an episode fails, the next step
                raises it, for this one is complete.
        """
        if self._failed_reset is not None:
            raise self._failed_reset
        with _one_line_failures(self._when()):
            following, rewards, terminated, truncated, infos = self._vector.step(actions)
            _check_finite(observation=following, reward=rewards)
        self._lengths += 1
        transitions = {
            "observations": self.observations,
            "actions": actions,
            "rewards": rewards.astype(np.float32),
            "masks": 1.0 - (terminated & self._terminates).astype(np.float32),
            "next_observations": following,
        }
        self.counters.env_steps += len(actions)
        self._returns += rewards
        if "success" in infos:
            reported = np.where(infos["_success"], infos["success"], np.nan)
            self._successes = np.fmax(self._successes, reported)
        self.observations = following
        over = terminated | truncated
        rows = [self._end(int(i)) for i in np.flatnonzero(over)]
        if rows:
            try:
                self._reset(over)
            except UserError as error:
                self._failed_reset = error
        return transitions, rows

    def close(self) -> None:
        """Ends the environments, whatever they are doing; may be called again."""
        if isinstance(self._vector, AsyncVectorEnv):  # Its own ``close`` needs living processes.
            for process in self._vector.processes:
                process.kill()
                process.join()
            self._vector.closed = True
        self._vector.close()

    def _reset(self, mask: Bool) -> None:
        """Starts the next episodes, in the environments of the mask [num_envs]."""
        count, first = int(mask.sum()), self.counters.episodes_started
        self.counters.episodes_started += count
        self._episode[mask] = first + np.arange(count)
        self._returns[mask] = 0.0
        self._lengths[mask] = 0
        self._successes[mask] = np.nan
        seeds = [
            episode_seed(self._seed, int(episode)) if started else None
            for episode, started in zip(self._episode, mask, strict=True)
        ]
        with _one_line_failures(self._when()):
            observations, _ = self._vector.reset(seed=seeds, options={"reset_mask": mask})
            _check_finite(observation=observations)
        self.observations = observations

    def _end(self, i: int) -> dict[str, float | None]:
        """Returns the row of the episode that ended in environment i."""
        success = None if np.isnan(self._successes[i]) else float(self._successes[i])
        self.counters.episodes_ended += 1
        self.counters.successes += int(success or 0)
        # As CORL defines the cumulative regret: the mean of 1 - success so far.
        regret = 1.0 - self.counters.successes / self.counters.episodes_ended
        return {
            "episode": int(self._episode[i]),
            "return": float(self._returns[i]),
            "length": int(self._lengths[i]),
            "success": success,
            "regret": None if success is None else regret,
        }

    def _when(self) -> str:
        return f"after {self.counters.env_steps:,} training steps"


def in_processes(num_envs: int) -> bool:
    """Returns whether environments get a process each: where cores are left beside the learner's.

    Many processes to a core cost more memory than they save time.
    """
    cores = available_cores()
    return num_envs > 1 and cores >= 4 and num_envs <= 2 * cores


def _vector_environment(
    description: EnvironmentDescription, num_envs: int
) -> AsyncVectorEnv | SyncVectorEnv:
    builds = [functools.partial(_build, description, os.getpid())] * num_envs
    if not in_processes(num_envs):
        return SyncVectorEnv(builds, autoreset_mode=AutoresetMode.DISABLED)
    with _one_line_failures("at its start"), main_module_hidden():
        return AsyncVectorEnv(builds, context=START_METHOD, autoreset_mode=AutoresetMode.DISABLED)


def _build(description: EnvironmentDescription, owner: int) -> gym.Env:
    if os.getpid() != owner:
        prepare_worker()
    return make_environment(description)


@contextlib.contextmanager
def _one_line_failures(when: str) -> Iterator[None]:
    """Turns failures into a ``UserError``; gymnasium would also warn with their tracebacks."""
    level, gym.logger.min_level = gym.logger.min_level, gym.logger.ERROR + 1
    try:
        yield
    except UserError:
        raise
    except (EOFError, ConnectionError) as error:
        raise UserError(
            "an environment's process ended without a word (killed, or out of memory?); "
            "try fewer environments at once (num_envs)"
        ) from error
    except Exception as error:
        raise UserError(f"a training environment failed {when}: {one_line(error)}") from error
    finally:
        gym.logger.min_level = level


def _check_finite(**values: npt.NDArray[Any]) -> None:
    for name, numbers in values.items():
        if not np.isfinite(numbers).all():
            raise ValueError(f"its {name} is not finite")
