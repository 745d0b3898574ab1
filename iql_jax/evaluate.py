"""Evaluate a saved run: ``python -m iql_jax.evaluate --workdir=DIR``.

Without further flags it repeats, for a finished run, its last evaluation to the very episodes.
"""

import functools
from pathlib import Path

from absl import flags

from iql_jax import cli
from iql_jax.data.load import Dataset
from iql_jax.envs.lockstep import Act, default_num_envs
from iql_jax.envs.make import make_environment
from iql_jax.envs.video import check_film, configure_headless_rendering, record_episode
from iql_jax.outputs.folder import read_record
from iql_jax.training.config import from_record
from iql_jax.training.evaluation import RunEvaluation, describe, evaluation_seed, policy_of
from iql_jax.training.trained import load_run
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_EPISODES = flags.DEFINE_integer(
    "episodes", None, "How many episodes; by default as many as the run evaluated.", lower_bound=1
)
_ENVS = flags.DEFINE_integer(
    "eval_envs", None, "Environments stepped at once; by default as in the run.", lower_bound=1
)
_TRUST = flags.DEFINE_bool(
    "trust_environment", False, "Build an environment that is not known to be safe."
)
_SAMPLE = flags.DEFINE_bool(
    "sample", False, "Draw actions from the policy, as fine-tuning does, instead of its mean."
)
_VIDEO = flags.DEFINE_string("video", None, "Film the first episode to this .mp4 file.")


def main(_: list[str]) -> None:
    """Wire the flags to an evaluation."""
    if _WORKDIR.value is None:
        raise UserError("no --workdir given; name the folder of a run")
    if _VIDEO.value is not None:
        check_film(Path(_VIDEO.value).expanduser())
        configure_headless_rendering()
    folder = Path(_WORKDIR.value).expanduser()
    record = read_record(folder)
    before = from_record(record["config"])
    episodes = _EPISODES.value or before.eval_episodes
    if episodes == 0:
        raise UserError(f"{folder} was trained without evaluation; say how many --episodes")
    trusted = before.trust_environment or _TRUST.value
    settings, dataset, state, step = load_run(folder, trust_environment=trusted)
    num_envs = default_num_envs(episodes, _ENVS.value or settings.eval_envs)
    with StopRequest() as stop, RunEvaluation(settings, dataset, episodes, num_envs) as evaluation:
        result = evaluation.episodes(state, step, episodes, stop, sample=_SAMPLE.value)
    logger.info(f"{folder} at step {step:,}, {episodes} episodes of {dataset.record['id']}:")
    for name, number in describe(result, dataset).items():
        print(f"{name:>14}  {'-' if number is None else f'{number:.4g}'}")
    if _VIDEO.value is not None:
        seed = evaluation_seed(settings, step)
        act = policy_of(state, seed, sample=_SAMPLE.value)
        film(act, dataset, seed, Path(_VIDEO.value).expanduser())


def film(act: Act, dataset: Dataset, seed: int, path: Path) -> None:
    """Film episode 0 of an evaluation with this seed; drawn actions are drawn anew."""
    make = functools.partial(make_environment, dataset.require_environment())
    result = record_episode(make, act, seed, path)
    logger.info(f"{path}: {result.lengths[0]} environment steps, return {result.returns[0]:.4g}")


if __name__ == "__main__":
    cli.run(main, "step fewer environments at once (--eval_envs=N)")
