"""Evaluating a learner's policy on the environment that its dataset names."""

import functools
from typing import Any

import numpy as np

from iql_jax.config import Config
from iql_jax.data.load import Dataset
from iql_jax.environments import make_environment
from iql_jax.errors import UserError
from iql_jax.evaluation import EvaluationResult, Evaluator
from iql_jax.interrupts import StopRequest
from iql_jax.learner import IQLState
from iql_jax.policy import eval_actions


class RunEvaluation:
    """Evaluates the mean actions of a run's policy; its environments live as long as the context.

    Args:
        config: The run's settings.
        dataset: The run's dataset, which says in which environment and how to score.
        episodes: How many episodes the evaluations have.
        num_envs: How many environments are stepped at once.

    Raises:
        UserError: If the dataset names no environment, or one that cannot be built.
    """

    def __init__(self, config: Config, dataset: Dataset, episodes: int, num_envs: int) -> None:
        if dataset.recipe is None:
            raise UserError(
                f"{dataset.record['id']} names no environment to evaluate in; "
                "set --config.eval_episodes=0 to train without evaluation"
            )
        self._config = config
        self._dataset = dataset
        self._episodes = episodes
        self._evaluator = Evaluator(functools.partial(make_environment, dataset.recipe), num_envs)

    def __enter__(self) -> "RunEvaluation":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Close the environments."""
        self._evaluator.close()

    def episodes(
        self, state: IQLState, update: int, episodes: int, stop: StopRequest, record: int = 0
    ) -> EvaluationResult:
        """Run episodes; their seeds follow from the run's seed and the update count."""

        def act(observations: Any) -> Any:
            stop.check()
            return np.asarray(eval_actions(state.actor, observations))

        seed = evaluation_seed(self._config, update)
        try:
            return self._evaluator.run(act, episodes, seed, record)
        except UserError:
            # A signal to the whole process group ends the workers first: then it is a stop request.
            stop.check()
            raise

    def __call__(self, state: IQLState, update: int, stop: StopRequest) -> dict[str, float | None]:
        """One row of evaluations.csv."""
        result = self.episodes(state, update, self._episodes, stop)
        return describe(result, self._dataset)


def evaluation_seed(config: Config, update: int) -> int:
    """The seed of the evaluation at an update count: a function of the run's seed alone."""
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
