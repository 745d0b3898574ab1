"""Figure 3 of the IQL paper: success against the expectile.

    python benchmarks/paper/figure3.py --out DIR

The paper shows that returns on AntMaze rise with the expectile tau: near 0.5, V is that of the
data's policy, and only towards 1 does it put parts of different trajectories together. PointMaze
large takes AntMaze's place, for it asks the same in a thirtieth of the updates: its data go between
random cells, and cloning them reaches the evaluation's goal in 3 % of the episodes. Each expectile
with each seed is a member of one sweep, that of ``train_offline.py --sweep``, in --runs; the same
command resumes it. The last evaluation counts. Bars are the 95 % interval by Student's t, of two
seeds their range.

The temperature is 3, for with the paper's 10 PointMaze large takes more updates. With an
accelerator, the paper's own task:

    python benchmarks/paper/figure3.py --out DIR --config antmaze --updates 1000000 \
        --dataset iql/antmaze/medium-play-v0 --temperature 10
"""

import csv
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from matplotlib.figure import Figure

import exhibit

ROOT = Path(__file__).parents[2]
EXPECTILES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
UPDATES = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what is not trained yet, and draws."""
    parser = exhibit.parser(__doc__, UPDATES)
    parser.add_argument("--seeds", type=int, default=3, help="of each, from 0 on (%(default)s)")
    parser.add_argument("--episodes", type=int, default=50, help="(%(default)s)")
    parser.add_argument("--dataset", default="iql/pointmaze/large-v0", help="(%(default)s)")
    parser.add_argument("--config", default="pointmaze", help="of configs/ (%(default)s)")
    parser.add_argument("--temperature", type=float, default=3.0, help="(%(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/figure3"), help="(%(default)s)")
    options = parser.parse_args(arguments)
    runs = options.runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    members = {"expectile": list(EXPECTILES), "seed": list(range(options.seeds))}
    sweep = runs.with_name(f"{runs.name}_sweep.py")
    sweep.write_text(f'"""Members of figure 3."""\n\n\ndef get_sweep():\n    return {members}\n')
    settings = {
        "dataset": options.dataset,
        "temperature": options.temperature,
        "max_steps": options.updates,
        "eval_interval": options.updates,
        "eval_episodes": options.episodes,
        "checkpoint_interval": 5_000,
    }
    command = [
        *(sys.executable, "train_offline.py", f"--config=configs/{options.config}.py"),
        *(f"--sweep={sweep}", f"--workdir={runs}"),
        *(f"--config.{key}={setting}" for key, setting in settings.items()),
    ]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode  # It says why it failed.
    if not (runs / "members.csv").exists():
        return status or 1
    with (runs / "members.csv").open(newline="") as file:
        found = scores(list(csv.DictReader(file)))
    rows = [row(expectile, found[expectile]) for expectile in EXPECTILES if found[expectile]]
    if not rows:
        return status or 1
    figure = Figure(figsize=(5.6, 3.7), dpi=100, layout="constrained")
    draw(figure, rows, found, f"{options.dataset}, {options.updates:,} updates")
    exhibit.publish(options.out, "figure3", figure, rows)
    return status


def scores(members: Sequence[Mapping[str, str]]) -> dict[float, list[float]]:
    """Returns the last scores of the finished members by expectile."""
    found: dict[float, list[float]] = defaultdict(list)
    for member in members:
        if member["status"] == "finished" and member["score"]:
            found[float(member["expectile"])].append(float(member["score"]))
    return found


def row(expectile: float, scores: Sequence[float]) -> dict[str, Any]:
    """Returns a line of the table."""
    mean = float(np.mean(scores))
    low, high = min(scores), max(scores)
    if len(scores) > 2 and low < high:
        error = scipy.stats.sem(scores) * scipy.stats.t.ppf(0.975, len(scores) - 1)
        low, high = max(mean - error, 0.0), min(mean + error, 100.0)
    return {
        "expectile": str(expectile),
        "success": mean,
        "low": float(low),
        "high": float(high),
        "seeds": " ".join(f"{score:.0f}" for score in scores),
    }


def draw(
    figure: Figure,
    rows: Sequence[Mapping[str, Any]],
    found: Mapping[float, Sequence[float]],
    title: str,
) -> None:
    """Draws means with their bars, and each seed as a dot."""
    axes = figure.add_subplot()
    x = [float(row["expectile"]) for row in rows]
    means = np.array([row["success"] for row in rows])
    bounds = np.array([[row["low"], row["high"]] for row in rows]).T
    axes.errorbar(
        x, means, np.abs(bounds - means), color=exhibit.ACCENT, marker="o", linewidth=2, capsize=4
    )
    for expectile in x:
        beside = [expectile - 0.008] * len(found[expectile])  # The bars would hide them.
        axes.plot(beside, found[expectile], "o", color=exhibit.MUTED, alpha=0.5, markersize=4)
    axes.set_xlabel(r"expectile $\tau$")
    axes.set_ylabel("success (%): mean over seeds, and each seed")
    axes.set_xticks(x)
    axes.set_ylim(-4, 104)
    exhibit.style(axes, title)


if __name__ == "__main__":
    sys.exit(main())
