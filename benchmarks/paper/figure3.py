"""Figure 3 of the IQL paper: success against the expectile.

    python benchmarks/paper/figure3.py --out DIR

The paper shows that returns on AntMaze rise with the expectile tau: near 0.5, V is that of the
data's policy, and only towards 1 does it put parts of different trajectories together. PointMaze
large stands in, for it asks the same in a thirtieth of the updates: its data go between random
cells, cloning them reaches the evaluation's goal in 3 % of the episodes, and a way there has to be
put together. Every expectile with every seed is one population, that of ``train_offline.py
--sweep``, in --runs; a repeated command goes on where it stopped. The last evaluation counts.

The temperature is 3, for with the paper's 10 PointMaze large takes more updates (two seeds had 62,
90, 80, 71, 69 and 42 % from 0.5 to 0.95 after 40,000). The bars are the 95 % interval by Student's
t, of two seeds their range. With an accelerator, the paper's own task:

    python benchmarks/paper/figure3.py --out DIR --config antmaze --updates 1000000 \
        --dataset iql/antmaze/medium-play-v0 --temperature 10
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import exhibit
from iql_jax import cli
from iql_jax.outputs import plots
from iql_jax.outputs.logs import Row
from iql_jax.populations.run import check_finished, train_sweep
from iql_jax.populations.scores import Setting, settings
from iql_jax.populations.sweep import Member, members_of
from iql_jax.training.config import Config, from_mapping
from iql_jax.utils.errors import UserError

ROOT = Path(__file__).parents[2]

EXPECTILES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SEEDS = 3
EPISODES = 50
UPDATES = 50_000
TEMPERATURE = 3.0
CHECKPOINT_INTERVAL = 5_000  # Of all members at once: a kill costs that many updates of each.
INTERVAL, RANGE = "95 % interval (Student's t)", "range of the seeds"
DOTS_ASIDE = -0.008  # Of the error bars, which would hide them.


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = exhibit.parser(__doc__, UPDATES)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each, from 0 on ({SEEDS})")
    parser.add_argument(
        "--episodes", type=int, default=EPISODES, help=f"of the last evaluation ({EPISODES})"
    )
    parser.add_argument(
        "--dataset", default="iql/pointmaze/large-v0", help="a maze's (%(default)s)"
    )
    parser.add_argument(
        "--config", default="pointmaze", choices=("pointmaze", "antmaze"), help="of configs/"
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="of all members (%(default)s)"
    )
    parser.add_argument("--runs", type=Path, help="folder of the runs (runs/figure3/DATASET)")
    return parser.parse_args(arguments)


def base(options: argparse.Namespace) -> Config:
    """What all members share: a config file with this figure's dataset, budget and seeds."""
    sys.path.insert(0, str(ROOT))  # Configs are no part of the installed package.
    module = importlib.import_module(f"configs.{options.config}")
    changed = {
        "dataset": options.dataset,
        "seed": 0,
        "num_seeds": options.seeds,
        "temperature": options.temperature,
        "max_steps": options.updates,
        "eval_interval": options.updates,
        "eval_episodes": options.episodes,
        "checkpoint_interval": CHECKPOINT_INTERVAL,
    }
    return from_mapping({**module.get_config().to_dict(), **changed})


def train(members: Sequence[Member], runs: Path) -> tuple[list[Setting], list[Row]]:
    """Train what is not trained yet; the scores of each expectile, and how each member ended.

    Raises:
        UserError: If the folder has runs with other settings, or no run comes to its end.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    table = train_sweep(members, runs)
    found = settings(runs, members, "score")
    if not found:
        raise UserError(f"no run has come to its end with a score; {runs}/members.csv says more")
    return found, table


def row(setting: Setting) -> dict[str, object]:
    """A line of the table."""
    scores, (low, high) = setting.scores[:, -1], setting.interval()
    return {
        "expectile": str(setting.values["expectile"]),
        "success": float(scores.mean()),
        "low": float(low[-1]),
        "high": float(high[-1]),
        "seeds": " ".join(f"{score:.0f}" for score in scores),
        "updates": int(setting.steps[-1]),
    }


def draw(axes: Axes, found: Sequence[Setting]) -> None:
    """The mean over seeds with its interval or, of two, their range; and each seed."""
    expectiles = np.array([float(setting.values["expectile"]) for setting in found])
    means = np.array([setting.scores[:, -1].mean() for setting in found])
    bounds = np.array([[side[-1] for side in setting.interval()] for setting in found]).T
    kinds = {INTERVAL if len(setting.scores) > 2 else RANGE for setting in found}
    axes.errorbar(
        expectiles, means, np.abs(bounds - means), color=plots.ACCENT, marker="o", linewidth=2,
        capsize=4, label=f"mean, {' or '.join(sorted(kinds))}",
    )  # fmt: skip
    for i, (expectile, setting) in enumerate(zip(expectiles, found, strict=True)):
        scores = setting.scores[:, -1]
        axes.plot(
            np.full(len(scores), expectile + DOTS_ASIDE), scores, "o", color=plots.MUTED, alpha=0.5,
            markersize=4, markeredgewidth=0, zorder=1, label="a seed" if i == 0 else None,
        )  # fmt: skip
    axes.set_xlabel(r"expectile $\tau$", color=plots.INK)
    axes.set_ylabel("success (%)", color=plots.INK)
    axes.set_xticks(expectiles)
    axes.set_ylim(-4, 104)  # Dots at 0 and 100 are whole.
    plots.tidy(axes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not trained yet, draw."""
    options = parse(arguments)
    runs = options.runs or Path("runs/figure3") / options.dataset.replace("/", "-")
    members = members_of(base(options), [{"expectile": tau} for tau in EXPECTILES])
    found, table = train(members, runs)
    figure = Figure(figsize=(5.6, 3.7), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    draw(axes, found)
    figure.legend(
        loc="outside lower center", ncols=2, frameon=False, labelcolor=plots.INK, fontsize=9
    )
    exhibit.title(axes, f"{options.dataset}, {options.updates:,} updates")
    exhibit.publish(options.out, "figure3", figure, [row(setting) for setting in found])
    check_finished(table, runs)
    return 0


if __name__ == "__main__":
    sys.exit(cli.guard(main))
