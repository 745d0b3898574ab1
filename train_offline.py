"""Train an IQL agent offline, or a population of agents.

    python train_offline.py --config=configs/pointmaze.py --workdir=runs/pointmaze

Any key of the config can be overridden: --config.seed=1 --config.expectile=0.8. The same command on
the same folder resumes where it stopped. --config.num_seeds=8 trains eight seeds together;
--sweep=configs/sweeps/pointmaze.py trains what that file overrides in the config.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from iql_jax import cli
from iql_jax.populations.mapped import maps_in_turn
from iql_jax.populations.ray_engine import ray_engine
from iql_jax.populations.run import check_finished, local_engine, train_sweep
from iql_jax.populations.sweep import members_of, read_sweep
from iql_jax.training.config import Config
from iql_jax.training.offline import train_offline
from iql_jax.utils import hosts
from iql_jax.utils.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Config file, or the name of one in configs/."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run or runs. By default runs/DATASET/seed_SEED, seeds_SEED or the sweep's name.",
)
_SWEEP = flags.DEFINE_string("sweep", None, "Sweep file; see configs/sweeps/.")
_ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray"], "What trains populations.")
_TASK_CPUS = flags.DEFINE_float("task_cpus", 1.0, "Cores of a Ray task.", lower_bound=0.0)
_TASK_GPUS = flags.DEFINE_float("task_gpus", 0.0, "GPUs of a Ray task.", lower_bound=0.0)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "This is one of several processes that train a population together."
)
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, if not found.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many, with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which this is, with --coordinator.")


def main(_: list[str]) -> None:
    """Wires the flags to an offline run, or to several."""
    _check_flags()
    config = cli.read_config(_CONFIG.value, Config)
    if _SWEEP.value is None and config.num_seeds == 1:
        if _DISTRIBUTED.value or _ENGINE.value != "local":
            raise UserError("--distributed and --engine need --config.num_seeds or --sweep")
        hosts.check_jax()
        train_offline(config, cli.workdir(_WORKDIR.value, config.dataset, f"seed_{config.seed}"))
        return
    name = f"seeds_{config.seed}" if _SWEEP.value is None else Path(_SWEEP.value).stem
    members = members_of(config, [{}] if _SWEEP.value is None else read_sweep(Path(_SWEEP.value)))
    if _DISTRIBUTED.value:
        hosts.start(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    hosts.check_jax()
    engine, on_cpu = local_engine(), maps_in_turn()
    if _ENGINE.value == "ray":
        engine, on_cpu = ray_engine(_TASK_CPUS.value, _TASK_GPUS.value), _TASK_GPUS.value == 0
    workdir = cli.workdir(_WORKDIR.value, config.dataset, name)
    # A CPU gains nothing from a program for several members.
    alone = on_cpu and not _DISTRIBUTED.value
    check_finished(train_sweep(members, workdir, config.population_size, engine, alone), workdir)


def _check_flags() -> None:
    """Refuses flags whose partners are missing: they would do nothing."""
    if _DISTRIBUTED.value and _ENGINE.value != "local":
        raise UserError("--distributed and --engine=ray exclude each other; give one of them")
    if _ENGINE.value != "ray" and (_TASK_CPUS.present or _TASK_GPUS.present):
        raise UserError("--task_cpus and --task_gpus need --engine=ray")
    given = [flag.present for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)]
    if any(given) and not (_DISTRIBUTED.value and all(given)):
        raise UserError(
            "--coordinator, --num_processes, --process_id and --distributed go together"
        )
    if any(given) and not 0 <= _PROCESS_ID.value < _NUM_PROCESSES.value:
        raise UserError(
            f"--process_id={_PROCESS_ID.value} is not below --num_processes={_NUM_PROCESSES.value}"
        )


if __name__ == "__main__":
    cli.run(
        main,
        "train fewer members at once (--config.population_size=N in a new folder), set a smaller "
        "--config.batch_size or, if it was during an evaluation, fewer --config.eval_processes",
    )
