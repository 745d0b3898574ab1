"""Training environments: they run episode after episode, and every transition is accounted for."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.algorithm.types import Transitions
from iql_jax.data.load import Dataset
from iql_jax.envs.episodes import episode_seed
from iql_jax.envs.make import make_environment
from iql_jax.envs.shards import NO_SUCCESS_REPORTED, ShardedEnvironments
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import available_cores
from iql_jax.utils.streams import Stream, stream_seed


@dataclasses.dataclass
class Counters:
    """How far the environments are; saved with each checkpoint."""

    env_steps: int = 0
    episodes_started: int = 0
    episodes_ended: int = 0
    successes: int = 0  # Of the episodes that ended.


class Interaction:
    """Environments that are stepped with given actions, and begin new episodes by themselves.

    Args:
        dataset: Says in which environment, and what its terminations mean.
        num_envs: How many are stepped at once.
        seed: Of the resets: episode i of a run begins alike whatever came before it.

    Attributes:
        observations: [num_envs, observation_dim] float32, to act on next.
        counters: How far they are.

    Raises:
        UserError: If the dataset names no environment, or one that cannot be built.
    """

    def __init__(self, dataset: Dataset, num_envs: int, seed: int) -> None:
        self._terminates = dataset.terminates
        self._seed = stream_seed(seed, Stream.RESETS)
        self._envs = ShardedEnvironments(
            functools.partial(make_environment, dataset.require_environment()),
            num_envs,
            # One environment is stepped faster here than in a process of its own.
            1 if num_envs == 1 else available_cores(),
            purpose="training",
        )
        self.num_envs = num_envs
        self.counters = Counters()
        self._episode = np.zeros(num_envs, np.int64)
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._successes = np.full(num_envs, NO_SUCCESS_REPORTED, np.int8)
        self._failed_reset: UserError | None = None

    def close(self, force: bool = False) -> None:
        """End the environments; ``force`` does not wait for what they are doing."""
        self._envs.close(force)

    def begin(self) -> None:
        """Begin an episode in each environment; those under way are dropped."""
        self.observations = self._start(np.arange(self.num_envs))

    def step(self, actions: npt.NDArray[np.float32]) -> tuple[Transitions, list[dict[str, Any]]]:
        """Step every environment.

        Args:
            actions: [num_envs, action_dim] in [-1, 1].

        Returns:
            The transitions, with the environments' own rewards, and a row for each episode that
            ended. The next observation of a transition is the one that the step led to, also where
            an episode ended there; its mask is 0 at terminations, never at time limits.

        Raises:
            UserError: If an environment fails or returns a number that is not finite. No
                transition of the step counts then. Where it is the reset after an episode that
                failed, that is raised by the next step, for this one is complete.
        """
        if self._failed_reset is not None:
            raise self._failed_reset
        record = self._envs.step(actions)
        self._check_finite(record)
        transitions = Transitions(
            observations=self.observations,
            actions=actions,
            rewards=record["rewards"].astype(np.float32),
            masks=1.0 - (record["terminated"] & self._terminates).astype(np.float32),
            next_observations=record["observations"],
        )
        self.counters.env_steps += self.num_envs
        self._returns += record["rewards"]
        self._lengths += 1
        self._successes = np.maximum(self._successes, record["successes"])
        self.observations = record["observations"]
        ended = np.flatnonzero(record["ended"])
        rows = [self._end(int(i)) for i in ended]
        if len(ended):
            try:
                self.observations = self._start(ended)
            except UserError as error:
                self._failed_reset = error
        return transitions, rows

    def _start(self, environments: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Begin the next episodes in these environments; returns the observations of all."""
        first = self.counters.episodes_started
        self.counters.episodes_started += len(environments)
        self._episode[environments] = first + np.arange(len(environments))
        self._returns[environments] = 0.0
        self._lengths[environments] = 0
        self._successes[environments] = NO_SUCCESS_REPORTED
        observations = self._envs.start(
            {
                int(i): (int(self._episode[i]), episode_seed(self._seed, int(self._episode[i])))
                for i in environments
            }
        )
        if not np.isfinite(observations).all():
            raise UserError("the training environment's first observation is not finite")
        return observations

    def _end(self, i: int) -> dict[str, Any]:
        """The row of the episode that ended in environment i."""
        reported = self._successes[i] != NO_SUCCESS_REPORTED
        success = float(self._successes[i]) if reported else None
        self.counters.episodes_ended += 1
        self.counters.successes += int(success or 0)
        return {
            "episode": int(self._episode[i]),
            "return": float(self._returns[i]),
            "length": int(self._lengths[i]),
            "success": success,
            # As CORL defines the cumulative regret: the mean of 1 - success so far.
            "regret": 1.0 - self.counters.successes / self.counters.episodes_ended
            if reported
            else None,
        }

    def _check_finite(self, record: Mapping[str, npt.NDArray[Any]]) -> None:
        for name in ("observations", "rewards"):
            finite = np.isfinite(record[name].reshape(self.num_envs, -1)).all(axis=1)
            if not finite.all():
                i = int(np.flatnonzero(~finite)[0])
                raise UserError(
                    f"the environment's {name[:-1]} in training episode {self._episode[i]} at step "
                    f"{self._lengths[i] + 1} is not finite (NaN or infinite)"
                )
