"""Evaluation in lockstep, for callers that do not use ``episodes`` yet.

Episodes are numbered in the order in which they start. Episode i is reset with a seed that derives
from (seed, i) alone, and every episode that was started runs to its end. So exactly the episodes
0 ... n - 1 are counted, short ones are not preferred (as they are where the first n episodes to
*finish* count), and the result does not depend on how many environments there are. (To the bit,
this needs a policy that computes a row alike in batches of any size; compiled matrix products may
round differently.)

The policies of a population are evaluated side by side, each with episodes and environments of its
own.
"""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from iql_jax.envs.episodes import EvaluationResult, episode_seed
from iql_jax.envs.shards import (
    NO_SUCCESS_REPORTED,
    MakeEnv,
    Record,
    ShardedEnvironments,
)
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.processes import available_cores

Act = Callable[[npt.NDArray[np.float32]], npt.ArrayLike]
"""The policy: observations [n, observation_dim] to actions [n, action_dim]; n is constant."""

ENVS_PER_CORE = 16
"""More gain little: by then a vector step's fixed costs (the policy, the pipes) are spread out."""

_IDLE = -1


def default_num_envs(episodes: int, requested: int, policies: int = 1) -> int:
    """How many environments to step at once.

    Args:
        episodes: how many episodes an evaluation has.
        requested: the user's choice; 0 chooses from the number of cores.
        policies: how many are evaluated side by side.

    Returns:
        For each policy, as many as there are episodes, if the cores carry them; otherwise as few as
        need no more rounds, since episodes often have one length.
    """
    if requested or not episodes:
        return min(requested, episodes)
    rounds = -(-episodes // max(1, ENVS_PER_CORE * available_cores() // policies))
    return -(-episodes // rounds)


class Evaluator:
    """Environments that stay alive between evaluations; a context manager.

    They live in worker processes, one per core, whose start takes some seconds; where that would be
    one process alone, in this one.
    """

    def __init__(
        self, make_env: MakeEnv | Sequence[MakeEnv], num_envs: int, processes: int | None = None
    ) -> None:
        """Start the environments.

        Args:
            make_env: builds an environment with float32 observations [observation_dim] and actions
                [action_dim]; picklable, such as ``functools.partial(make_environment, recipe)``. Or
                what builds each of them.
            num_envs: how many environments are stepped at once, see ``default_num_envs``.
            processes: how many processes they are spread over; None is one per core.

        Raises:
            UserError: if an environment does not build.
        """
        cores = available_cores() if processes is None else processes
        self._envs = ShardedEnvironments(make_env, num_envs, cores)

    def run(self, act: Act, episodes: int, seed: int, record: int = 0) -> EvaluationResult:
        """Run episodes of one policy to their ends.

        A failure or an interrupt closes the evaluator, for its environments are then in no state
        to go on from.

        Args:
            act: the policy, called once per vector step with the observations of all environments
                (also those that are idle).
            episodes: how many, at least 1.
            seed: of the whole evaluation.
            record: of how many episodes, from the first on, the observations are kept.

        Raises:
            UserError: if an environment fails, or if an observation, reward or action is not
                finite.
        """
        (result,) = self.run_side_by_side(act, episodes, [seed], record)
        assert result is not None
        return result

    def run_side_by_side(
        self,
        act: Act,
        episodes: int,
        seeds: Sequence[int | None],
        record: int = 0,
    ) -> list[EvaluationResult | None]:
        """Run the same number of episodes of several policies, in equal shares of the environments.

        Args:
            act: the policies: the observations of a policy's environments follow those of the
                policy's before.
            episodes: see ``run``; of each policy.
            seeds: of each policy's evaluation, which has the very episodes that ``run`` gives this
                seed; None for a policy that has no episodes.
            record: see ``run``.

        Returns:
            Each policy's result; None where there were no episodes.
        """
        if episodes < 1:
            raise ValueError(f"an evaluation needs at least one episode, not {episodes}")
        if self._envs.closed:
            raise ValueError("the evaluator is closed")
        if self._envs.num_envs % len(seeds):
            raise ValueError(
                f"{len(seeds)} policies cannot share {self._envs.num_envs} environments evenly"
            )
        share = self._envs.num_envs // len(seeds)
        tallies = [
            _Tally(episodes, record, seed, slice(i * share, (i + 1) * share))
            for i, seed in enumerate(seeds)
            if seed is not None
        ]
        try:
            self._run(act, tallies)
        except BaseException:
            self._envs.close(force=True)
            raise
        results = iter([tally.result() for tally in tallies])
        return [None if seed is None else next(results) for seed in seeds]

    def close(self) -> None:
        """End the environments and their processes; may be called again."""
        self._envs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._envs.close(force=error is not None)

    def _run(self, act: Act, tallies: Sequence["_Tally"]) -> None:
        if not tallies:
            return
        episode_of = np.full(self._envs.num_envs, _IDLE)
        observations = self._start(episode_of, tallies)
        while (episode_of != _IDLE).any():
            step = self._envs.step(self._actions(act, observations, episode_of, tallies))
            for tally in tallies:
                mine = tally.envs
                tally.add(episode_of[mine], {name: rows[mine] for name, rows in step.items()})
            observations = step["observations"]
            ended = (episode_of != _IDLE) & step["ended"]
            if ended.any():
                episode_of[ended] = _IDLE
                if any(tally.started < tally.episodes for tally in tallies):
                    observations = self._start(episode_of, tallies)

    def _start(
        self, episode_of: npt.NDArray[np.int64], tallies: Sequence["_Tally"]
    ) -> npt.NDArray[np.float32]:
        """Give the next episodes of each policy to its idle environments."""
        assignments: dict[int, tuple[int, int]] = {}
        begun = []
        for tally in tallies:
            idle = tally.envs.start + np.flatnonzero(episode_of[tally.envs] == _IDLE)
            idle = idle[: tally.episodes - tally.started]
            episodes = tally.started + np.arange(len(idle))
            episode_of[idle] = episodes
            for i, episode in zip(idle.tolist(), episodes.tolist(), strict=True):
                assignments[i] = (episode, episode_seed(tally.seed, episode))
            begun.append((idle, episodes))
        observations = self._envs.start(assignments)
        for tally, (idle, episodes) in zip(tallies, begun, strict=True):
            tally.begin(episodes, observations[idle])
        return observations

    def _actions(
        self,
        act: Act,
        observations: npt.NDArray[np.float32],
        episode_of: npt.NDArray[np.int64],
        tallies: Sequence["_Tally"],
    ) -> npt.NDArray[np.float32]:
        actions = np.asarray(act(observations), dtype=np.float32)
        expected = (self._envs.num_envs, self._envs.action_dim)
        if actions.shape != expected:
            raise ValueError(f"the policy returned actions {actions.shape}, not {expected}")
        bad = (episode_of != _IDLE) & ~np.isfinite(actions).all(axis=1)
        for tally in tallies if bad.any() else ():
            if not bad[tally.envs].any():
                continue
            episode = int(episode_of[tally.envs][bad[tally.envs]][0])
            raise Diverged(
                f"the policy's action in evaluation episode {episode} at step "
                f"{tally.lengths[episode] + 1} is not finite: training has diverged"
            )
        return actions


class _Tally:
    """Running totals of one policy's episodes.

    Attributes:
        episodes: how many there will be.
        started: how many have started.
        seed: of the evaluation.
        envs: the policy's environments.
        lengths: [episodes], steps so far.
    """

    def __init__(self, episodes: int, record: int, seed: int, envs: slice) -> None:
        self.episodes = episodes
        self.seed = seed
        self.envs = envs
        self.started = 0
        self.lengths = np.zeros(episodes, np.int64)
        self._returns = np.zeros(episodes, np.float64)
        self._successes = np.full(episodes, NO_SUCCESS_REPORTED, np.int8)
        self._trajectories: list[list[npt.NDArray[np.float32]]] = [
            [] for _ in range(min(record, episodes))
        ]

    def begin(self, episodes: npt.NDArray[np.int64], observations: npt.NDArray[np.float32]) -> None:
        """Take the first observations [k, observation_dim] of episodes [k]."""
        self.started += len(episodes)
        self._check_finite(episodes, observations, "observation")
        self._keep(episodes, observations)

    def add(self, episode_of: npt.NDArray[np.int64], step: Record) -> None:
        """Take a step of the environments whose episodes are given; idle ones have none."""
        running = episode_of != _IDLE
        episodes = episode_of[running]
        self.lengths[episodes] += 1
        self._check_finite(episodes, step["observations"][running], "observation")
        self._check_finite(episodes, step["rewards"][running, None], "reward")
        self._returns[episodes] += step["rewards"][running]
        self._successes[episodes] = np.maximum(
            self._successes[episodes], step["successes"][running]
        )
        self._keep(episodes, step["observations"][running])

    def result(self) -> EvaluationResult:
        """The totals of all episodes."""
        reported = (self._successes != NO_SUCCESS_REPORTED).any()
        return EvaluationResult(
            returns=self._returns,
            lengths=self.lengths,
            successes=self._successes == 1 if reported else None,
            trajectories=[np.stack(trajectory) for trajectory in self._trajectories],
        )

    def _keep(self, episodes: npt.NDArray[np.int64], observations: npt.NDArray[np.float32]) -> None:
        for i in np.flatnonzero(episodes < len(self._trajectories)):
            self._trajectories[episodes[i]].append(observations[i])

    def _check_finite(
        self, episodes: npt.NDArray[np.int64], values: npt.NDArray[np.floating], what: str
    ) -> None:
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            episode = int(episodes[bad][0])
            raise UserError(
                f"the environment's {what} in evaluation episode {episode} at step "
                f"{self.lengths[episode]} is not finite (NaN or infinite)"
            )
