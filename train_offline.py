"""Train an IQL agent offline.

    python train_offline.py --config=configs/pointmaze.py --workdir=runs/pointmaze

Any key of the config can be overridden: --config.seed=1 --config.expectile=0.8. The same command on
the same folder goes on where it stopped.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from iql_jax import cli
from iql_jax.config import Config
from iql_jax.offline import train_offline

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file; see configs/.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run. By default runs/DATASET/seed_SEED."
)


def main(_: list[str]) -> None:
    """Wire the flags to an offline run."""
    config = cli.read_config(_CONFIG.value, Config)
    workdir = _WORKDIR.value or f"runs/{config.dataset.replace('/', '-')}/seed_{config.seed}"
    train_offline(config, Path(workdir))


if __name__ == "__main__":
    cli.run(main)
