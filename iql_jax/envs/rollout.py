"""Training environments: they run episode after episode, and every transition is accounted for."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.episodes import derived_seed
from iql_jax.envs.make import make_environment
from iql_jax.utils.arrays import Bool, Float32, Int64
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
    """Counts of what the environments did, saved with each checkpoint."""

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
        self._vector = _vector_environment(environment, num_envs)

    def start(self, mask: Bool | None = None) -> None:
        """Starts an episode in each environment, or in those of the mask [num_envs]."""
        mask = np.ones(len(self._episode), np.bool_) if mask is None else mask
        self._started(mask, self._reset(mask, self._next(mask))[0])

    def save(self) -> dict[str, Any]:
        """Returns what ``resume`` needs, as JSON has it; the episodes' steps are not part of it."""
        return {
            "episodes": self._episode.tolist(),
            "lengths": self._lengths.tolist(),
            "observations": self.observations.tolist(),
        }

    def resume(self, saved: Mapping[str, Any], made: Mapping[str, npt.NDArray[Any]]) -> int:
        """Repeats the episodes that were under way when ``save`` returned this.

        An episode of a deterministic environment is a function of its reset's seed and its actions.
        ``made`` has the last transitions [steps * num_envs, ...]. Where an observation comes out
        differently, a new episode starts; returns in how many environments.
        """
        self._episode, self._lengths = np.array(saved["episodes"]), np.array(saved["lengths"])
        every, now = np.full(len(self._episode), True), np.array(saved["observations"], np.float32)
        recorded = []
        for i, length in enumerate(self._lengths):
            rows = slice(len(made["actions"]) - length * len(every) + i, None, len(every))
            observations = np.concatenate([made["observations"][rows], now[i : i + 1]])
            recorded.append((observations, made["actions"][rows]))
        self.observations, repeated = self._reset(every, self._episode, recorded)
        self._returns, self._successes = repeated["return"], repeated["success"]
        different = ~repeated["same"]
        if different.any():
            self.start(different)
        return int(different.sum())

    def step(
        self, actions: Float32
    ) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, float | None]]]:
        """Steps every environment with actions [num_envs, action_dim] in [-1, 1], or one-hot.

        Returns the fields of the transitions [num_envs, ...], with the environments' own rewards,
        and a row for each episode that ended. The next observation of a transition is the one that
        the step led to, also where an episode ended there; its mask is 0 at terminations, never at
        time limits.

        Raises:
            UserError: If an environment fails or gives a number that is not finite, also in the
                reset after an episode. Nothing of the step counts then.
        """
        with _one_line_failures(self._when()):
            following, rewards, terminated, truncated, infos = self._vector.step(actions)
            _check_finite(observation=following, reward=rewards)
        over = terminated | truncated
        observations = self._reset(over, self._next(over))[0] if over.any() else following
        transitions = {
            "observations": self.observations,
            "actions": actions,
            "rewards": rewards.astype(np.float32),
            "masks": 1.0 - (terminated & self._terminates).astype(np.float32),
            "next_observations": following,
        }
        self.counters.env_steps += len(actions)
        self._lengths += 1
        self._returns += rewards
        if "success" in infos:
            reported = np.where(infos["_success"], infos["success"], np.nan)
            self._successes = np.fmax(self._successes, reported)
        rows = [self._end(int(i)) for i in np.flatnonzero(over)]
        self._started(over, observations)
        return transitions, rows

    def close(self) -> None:
        """Ends the environments, whatever they are doing; may be called again."""
        if isinstance(self._vector, AsyncVectorEnv):  # Its own ``close`` needs living processes.
            for process in self._vector.processes:
                process.kill()
                process.join()
            self._vector.closed = True
        self._vector.close()

    def _next(self, mask: Bool) -> Int64:
        """Returns the episodes [num_envs] once the next ones start in those of the mask."""
        return np.where(mask, self.counters.episodes_started + np.cumsum(mask) - 1, self._episode)

    def _reset(
        self, mask: Bool, episodes: Int64, recorded: Sequence[Any] = ()
    ) -> tuple[Float32, dict[str, Any]]:
        """Resets the environments of the mask, which repeat what is recorded for each."""
        seeds = [
            derived_seed(self._seed, int(episode)) if starts else None
            for episode, starts in zip(episodes, mask, strict=True)
        ]
        options = {"reset_mask": mask, "recorded": dict(zip(seeds, recorded, strict=False))}
        with _one_line_failures(self._when()):
            observations, infos = self._vector.reset(seed=seeds, options=options)
            _check_finite(observation=observations)
        return observations, infos

    def _started(self, mask: Bool, observations: Float32) -> None:
        """Counts the episodes that a reset started."""
        self._episode = self._next(mask)
        self.counters.episodes_started += int(mask.sum())
        self._returns[mask] = 0.0
        self._lengths[mask] = 0
        self._successes[mask] = np.nan
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


class Repeatable(gym.Wrapper):
    """An environment whose reset goes on to where a recorded episode stopped.

    Its options have, for each seed, the observations [steps + 1, ...] and actions [steps, ...] of
    an episode that is not over. It is repeated as long as the observations are the recorded ones;
    the info says whether all are (``same``), and the ``return`` and ``success`` so far.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets, and repeats what is recorded for the seed."""
        observation, _ = self.env.reset(seed=seed)
        observations, actions = (options or {})["recorded"].get(seed, ([observation], []))
        same, total, success = np.array_equal(observation, observations[0]), 0.0, np.nan
        for action, expected in zip(actions, observations[1:], strict=True):
            if not same:
                break
            observation, reward, terminated, truncated, info = self.env.step(action)
            same = np.array_equal(observation, expected) and not (terminated or truncated)
            total += float(reward)
            success = np.fmax(success, info.get("success", np.nan))
        return observation, {"same": same, "return": total, "success": float(success)}


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
    return Repeatable(make_environment(description))


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
