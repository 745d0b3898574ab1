"""Evaluates the policies of runs in the environments that their datasets name."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import IQLState, TrainState
from iql_jax.data.load import Dataset
from iql_jax.data.scores import ScoreRule
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.episodes import EpisodeTask, EvaluationResult, Evaluator, derived_seed
from iql_jax.envs.policy import NumpyPolicy
from iql_jax.envs.video import configure_headless_rendering, record_episode
from iql_jax.training.config import Config
from iql_jax.utils.errors import Diverged, NoEnvironment, UserError
from iql_jax.utils.signals import StopRequest


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Evaluates a run's policy on episodes that follow from the run's seed and its step."""

    config: Config
    environment: EnvironmentDescription
    rule: ScoreRule
    evaluator: Evaluator

    def __call__(self, state: IQLState, step: int, stop: StopRequest) -> dict[str, float | None]:
        """Returns a row of evaluations.csv."""
        return describe(self.episodes(state, step, self.config.eval_episodes, stop), self.rule)

    def episodes(
        self,
        state: IQLState,
        step: int,
        count: int,
        stop: StopRequest,
        *,
        record: int = 0,
        sample: bool = False,
    ) -> EvaluationResult:
        """Runs ``count`` episodes, of which the first ``record`` keep their observations.

        With ``sample``, actions are drawn from the policy instead of its mode.

        Raises:
            Diverged: If an action is not finite.
            UserError: If an environment fails.
        """
        task = episode_task(self.config, self.environment, state.actor, step)
        (result,) = self.evaluator.run(
            [task], count, record=record, sample=sample, check=stop.check
        )
        if isinstance(result, Diverged):
            raise result
        return result

    def film(self, state: IQLState, step: int, path: Path) -> None:
        """Films the first episode of an evaluation; raises UserError if that fails."""
        record_episode(episode_task(self.config, self.environment, state.actor, step), path)


def is_evaluated(config: Config, dataset: Dataset) -> bool:
    """Returns whether a run evaluates: not without episodes, nor for a file of an unknown task."""
    return config.eval_episodes > 0 and not (
        dataset.environment is None and dataset.may_lack_environment
    )


@contextlib.contextmanager
def open_evaluation(config: Config, dataset: Dataset) -> Iterator[Evaluation | None]:
    """Opens what evaluates a run; None where nothing does, see ``is_evaluated``."""
    if not is_evaluated(config, dataset):
        yield None
        return
    environment = dataset.require_environment()
    if config.video:
        configure_headless_rendering()
    with open_evaluator(config, [environment]) as evaluator:
        yield Evaluation(config, environment, dataset.score_rule, evaluator)


@contextlib.contextmanager
def open_evaluator(
    config: Config, environments: Sequence[EnvironmentDescription]
) -> Iterator[Evaluator]:
    """Opens an evaluator that starts to build these environments."""
    with Evaluator(config.eval_processes) as evaluator:
        evaluator.prepare(list({id(each): each for each in environments}.values()))
        yield evaluator


@contextlib.contextmanager
def may_do_without_environment() -> Iterator[None]:
    """Adds to a missing environment's error what an offline run can do about it."""
    try:
        yield
    except NoEnvironment as error:
        raise UserError(
            f"{error}; --config.eval_episodes=0 trains without it, in a new folder"
        ) from error


def episode_task(
    config: Config, environment: EnvironmentDescription, actor: TrainState, step: int
) -> EpisodeTask:
    """Returns an actor's evaluation at a step, whose seed follows from it and the run's alone."""
    return EpisodeTask(environment, numpy_policy(actor), derived_seed(config.seed, step))


def numpy_policy(actor: TrainState) -> NumpyPolicy:
    """Returns an actor's policy for worker processes, which do without JAX."""
    params: dict[str, Any] = jax.device_get(actor.params)["params"]
    count = sum(name.startswith("hidden_") for name in params)
    output = "logits" if "logits" in params else "mean"
    layers = [params[name] for name in (*(f"hidden_{i}" for i in range(count)), output)]
    return NumpyPolicy.from_layers(
        [(layer["kernel"], layer["bias"]) for layer in layers], params.get("log_std")
    )


def describe(result: EvaluationResult, rule: ScoreRule) -> dict[str, float | None]:
    """Returns an evaluation's numbers; None where there is no reference or no success signal."""
    successes = result.successes
    return {
        "score": rule.score(result.returns, successes),
        "return_mean": float(np.mean(result.returns)),
        "return_std": float(np.std(result.returns)),
        "success_rate": None if successes is None else float(np.mean(successes)),
        "length_mean": float(np.mean(result.lengths)),
        "episodes": len(result.returns),
    }
