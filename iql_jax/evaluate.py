"""Evaluate a saved run: ``python -m iql_jax.evaluate --workdir=DIR``.

Without further flags it repeats, for a finished run, its last evaluation to the very episodes. The
run's folder holds all that this needs; its dataset need not be here.
"""

from pathlib import Path

from absl import flags

from iql_jax import cli
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.specs import check_spec, parse_spec
from iql_jax.envs.video import check_film, configure_headless_rendering, record_episode
from iql_jax.outputs.folder import read_record
from iql_jax.training.config import from_record
from iql_jax.training.evaluation import Evaluation, describe, episode_task, open_evaluator
from iql_jax.training.load import load_networks
from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_EPISODES = flags.DEFINE_integer(
    "episodes", None, "How many episodes; by default as many as the run evaluated.", lower_bound=1
)
_PROCESSES = flags.DEFINE_integer(
    "eval_processes", 0, "Episodes run at once; 0: one a core.", lower_bound=0
)
_TRUST = flags.DEFINE_bool(
    "trust_environment", False, "Build an environment that is not known to be safe."
)
_SAMPLE = flags.DEFINE_bool(
    "sample", False, "Draw actions from the policy, as fine-tuning does, instead of its mean."
)
_VIDEO = flags.DEFINE_string("video", None, "Film the first episode to this .mp4 file.")


def main(_: list[str]) -> None:
    """Wires the flags to an evaluation."""
    if _WORKDIR.value is None:
        raise UserError("no --workdir given; name the folder of a run")
    if _VIDEO.value is not None:
        check_film(Path(_VIDEO.value).expanduser())
        configure_headless_rendering()
    hosts.check_jax()
    folder = Path(_WORKDIR.value).expanduser()
    record = read_record(folder)
    episodes = _EPISODES.value or from_record(record["config"]).eval_episodes
    if episodes == 0:
        raise UserError(f"{folder} was trained without evaluation; set --episodes")
    run = load_networks(folder, trust_environment=_TRUST.value, eval_processes=_PROCESSES.value)
    if not isinstance(run.layout, EnvironmentDescription):
        raise UserError(f"{folder} was trained on data without an environment")
    check_spec(parse_spec(run.layout.spec), run.layout.trusted)
    with StopRequest() as stop, open_evaluator(run.config, [run.layout]) as evaluator:
        evaluation = Evaluation(run.config, run.layout, run.score_rule, evaluator)
        result = evaluation.episodes(run.state, run.step, episodes, stop, sample=_SAMPLE.value)
    logger.info(f"{folder} at step {run.step:,}, {episodes} episodes of {record['dataset']['id']}:")
    for name, number in describe(result, run.score_rule).items():
        print(f"{name:>14}  {'-' if number is None else f'{number:.4g}'}")
    if _VIDEO.value is not None:
        path = Path(_VIDEO.value).expanduser()
        task = episode_task(run.config, run.layout, run.state.actor, run.step)
        episode = record_episode(task, path, sample=_SAMPLE.value)
        logger.info(f"{path}: {episode.length} environment steps, return {episode.total:.4g}")


def command() -> None:
    """Runs the program."""
    cli.run(main, "run fewer episodes at once (--eval_processes=N)")


if __name__ == "__main__":
    command()
