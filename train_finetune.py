"""Train an IQL agent offline, then fine-tune it in the environment.

    python train_finetune.py --config=configs/antmaze_finetune.py --workdir=runs/ant_finetune

Any key of the config can be overridden: --config.offline_run=runs/ant starts from a finished
offline run. The same command on the same folder resumes where it stopped.
"""

import dataclasses
import os

from absl import flags
from ml_collections import config_flags

from iql_jax import cli
from iql_jax.populations.processes import in_processes
from iql_jax.populations.run import check_finished, local_engine, train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.training.config import FinetuneConfig
from iql_jax.training.finetune import train_finetune
from iql_jax.utils import hosts
from iql_jax.utils.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Config file, or the name of one in configs/."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run. By default runs/DATASET/finetune_seed_SEED."
)


def main(_: list[str]) -> None:
    """Wires the flags to a fine-tuning run."""
    config = cli.read_config(_CONFIG.value, FinetuneConfig)
    if config.offline_run:  # One spelling of one folder: it is compared when the run is resumed.
        offline_run = os.path.normpath(os.path.expanduser(config.offline_run))
        config = dataclasses.replace(config, offline_run=offline_run)
    hosts.check_jax()
    name = "finetune_seed" if config.num_seeds == 1 else "finetune_seeds"
    workdir = cli.workdir(_WORKDIR.value, config.dataset, f"{name}_{config.seed}")
    if config.num_seeds == 1:
        train_finetune(config, workdir)
        return
    if (engine := local_engine()) is not in_processes:
        raise UserError(
            "config.num_seeds fine-tunes seeds side by side on the cores of a CPU, and here is one "
            "core or a GPU; run this command once for each --config.seed"
        )
    check_finished(train_sweep(members_of(config), workdir, engine=engine, alone=True), workdir)


if __name__ == "__main__":
    cli.run(
        main,
        "set a smaller --config.replay_buffer_size or --config.batch_size or, if it was during an "
        "evaluation, fewer --config.eval_processes",
    )
