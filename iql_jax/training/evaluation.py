"""Evaluating the policies of learners on the environment that their dataset names."""

import functools
import itertools
from collections.abc import Container, Sequence
from typing import Self

import jax
import numpy as np
import numpy.typing as npt

from iql_jax.algorithm.learner import IQLState
from iql_jax.algorithm.policy import eval_actions, sample_actions
from iql_jax.algorithm.train_state import TrainState
from iql_jax.data.load import Dataset
from iql_jax.envs.episodes import EvaluationResult
from iql_jax.envs.lockstep import Act, Evaluator
from iql_jax.envs.make import make_environment
from iql_jax.envs.shards import MakeEnv
from iql_jax.populations.mapped import eval_population_actions, maps_in_turn
from iql_jax.training.config import Config
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest


class _Environments:
    """Environments of the dataset's task, in which policies are evaluated side by side.

    Args:
        configs: The settings of each policy's run.
        datasets: Each run's dataset, which says in which environment and how to score.
        episodes: How many episodes the evaluations have.
        num_envs: How many environments are stepped at once for each policy.

    Raises:
        UserError: If a dataset names no environment, or one that cannot be built.
    """

    def __init__(
        self,
        configs: Sequence[Config],
        datasets: Sequence[Dataset],
        episodes: int,
        num_envs: int,
    ) -> None:
        makes: list[MakeEnv] = []
        for dataset in datasets:
            makes += [functools.partial(make_environment, dataset.require_environment())] * num_envs
        self._configs = configs
        self._datasets = datasets
        self._episodes = episodes
        self._num_envs = num_envs
        self._evaluator = Evaluator(makes, len(makes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Close the environments; after an error without waiting for what they are doing."""
        self._evaluator.__exit__(kind, error, traceback)

    def _run(
        self,
        act: Act,
        update: int,
        episodes: int,
        stop: StopRequest,
        record: int,
        skipped: Container[int] = (),
    ) -> list[EvaluationResult | None]:
        """Run episodes; their seeds follow from a run's seed and the update count."""

        def checked(observations: npt.NDArray[np.float32]) -> npt.ArrayLike:
            stop.check()
            return act(observations)

        seeds = [
            None if i in skipped else evaluation_seed(config, update)
            for i, config in enumerate(self._configs)
        ]
        try:
            return self._evaluator.run_side_by_side(checked, episodes, seeds, record)
        except UserError:
            # A signal to the whole process group ends the workers first: then it is a stop request.
            stop.check()
            raise


class RunEvaluation(_Environments):
    """Evaluates a run's policy; its environments live as long as the context.

    Args:
        config: The run's settings.
        dataset: The run's dataset, which says in which environment and how to score.
        episodes: How many episodes the evaluations have.
        num_envs: How many environments are stepped at once.

    Raises:
        UserError: If the dataset names no environment, or one that cannot be built.
    """

    def __init__(self, config: Config, dataset: Dataset, episodes: int, num_envs: int) -> None:
        super().__init__([config], [dataset], episodes, num_envs)

    def episodes(
        self,
        state: IQLState,
        update: int,
        episodes: int,
        stop: StopRequest,
        record: int = 0,
        *,
        sample: bool = False,
    ) -> EvaluationResult:
        """Run episodes; their seeds follow from the run's seed and the update count."""
        act = policy_of(state, evaluation_seed(self._configs[0], update), sample=sample)
        (result,) = self._run(act, update, episodes, stop, record)
        assert result is not None
        return result

    def __call__(self, state: IQLState, update: int, stop: StopRequest) -> dict[str, float | None]:
        """One row of evaluations.csv."""
        result = self.episodes(state, update, self._episodes, stop)
        return describe(result, self._datasets[0])


class PopulationEvaluation(_Environments):
    """Evaluates all policies of a population in one go, each on the episodes of a run on its own.

    Args:
        configs: The members' settings.
        datasets: Each member's dataset, which says in which environment and how to score.
        episodes: How many episodes the evaluations have.
        num_envs: How many environments are stepped at once for each member.

    Raises:
        UserError: If a dataset names no environment, or one that cannot be built.
    """

    def episodes(
        self,
        actors: TrainState,
        update: int,
        episodes: int,
        stop: StopRequest,
        record: int = 0,
        skipped: Container[int] = (),
    ) -> list[EvaluationResult | None]:
        """Run episodes of every member, but of those ``skipped``.

        Args:
            actors: Leaves [N, ...].
            update: The update count.
            episodes: How many, of each member.
            stop: Checked in every step.
            record: See ``Evaluator.run``.
            skipped: Members that have no episodes.

        Returns:
            Each member's result; None for those skipped, and for those whose actions are not
            finite.
        """
        in_turn = maps_in_turn()
        broken: set[int] = set()

        def act(observations: npt.NDArray[np.float32]) -> npt.ArrayLike:
            by_member = observations.reshape(len(self._configs), self._num_envs, -1)
            actions = np.array(eval_population_actions(actors, by_member, in_turn=in_turn))
            finite = np.isfinite(actions).all(axis=(1, 2))
            broken.update(np.flatnonzero(~finite).tolist())
            actions[~finite] = 0.0  # The others' episodes go on.
            return actions.reshape(len(observations), -1)

        results = self._run(act, update, episodes, stop, record, skipped)
        return [None if i in broken else result for i, result in enumerate(results)]

    def __call__(
        self, actors: TrainState, update: int, stop: StopRequest, skipped: Container[int] = ()
    ) -> list[dict[str, float | None] | None]:
        """Each member's row of evaluations.csv; None where ``episodes`` has none."""
        results = self.episodes(actors, update, self._episodes, stop, skipped=skipped)
        return [
            None if result is None else describe(result, dataset)
            for result, dataset in zip(results, self._datasets, strict=True)
        ]


def policy_of(state: IQLState, seed: int, *, sample: bool) -> Act:
    """How a state's policy acts: by its mean actions, or drawn from it with keys from the seed."""
    key = jax.random.key(seed)
    steps = itertools.count()

    def act(observations: npt.NDArray[np.float32]) -> npt.ArrayLike:
        if sample:
            step_key = jax.random.fold_in(key, next(steps))
            return np.asarray(sample_actions(state.actor, step_key, observations))
        return np.asarray(eval_actions(state.actor, observations))

    return act


def evaluation_seed(config: Config, update: int) -> int:
    """The seed of the evaluation at a step: a function of it and the run's seed alone."""
    return int(np.random.SeedSequence((config.seed, update)).generate_state(1)[0])


def describe(result: EvaluationResult, dataset: Dataset) -> dict[str, float | None]:
    """The numbers of an evaluation; None where the dataset has no reference or no successes."""
    successes = result.successes
    return {
        "score": dataset.score_rule.score(result.returns, successes),
        "return_mean": float(np.mean(result.returns)),
        "return_std": float(np.std(result.returns)),
        "success_rate": None if successes is None else float(np.mean(successes)),
        "length_mean": float(np.mean(result.lengths)),
        "episodes": len(result.returns),
    }
