"""Figure 2 of the IQL paper: values in a discrete u-maze, from one good trajectory and 99 bad ones.

    python benchmarks/paper/figure2.py --out DIR

One-step evaluation (IQL with expectile 0.5), SARSA, expectile SARSA and IQL (0.95) learn from the
dataset iql/discrete-umaze-v0 with the package's own learner. Their V is compared with the optimal
values, found by dynamic programming, in the states that the data visit; errors are shares of the
range of optimal values there. ``success`` is the exact probability that the extracted policy, taken
greedily, reaches the goal from the start within the time limit.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure

import exhibit
from iql_jax import cli
from iql_jax.algorithm.learner import update_n
from iql_jax.algorithm.policy import eval_actions
from iql_jax.data.load import load_dataset
from iql_jax.envs.discrete_umaze import (
    CELLS,
    GOAL,
    GOAL_REWARD,
    MOVES,
    START,
    STATES,
    TIME_LIMIT,
    model,
    observe,
)
from iql_jax.envs.finite_mdp import BoolArray, FloatArray, greedy
from iql_jax.outputs import plots
from iql_jax.training.config import Config
from iql_jax.training.run import initial_state

DATASET = "iql/discrete-umaze-v0"
UPDATES = 6_000
_COLORS = PowerNorm(0.5, 0, GOAL_REWARD)  # Spreads the low values, of which there are most.

METHODS: dict[str, dict[str, Any]] = {
    "one-step evaluation": {"objective": "iql", "expectile": 0.5},
    "SARSA": {"objective": "sarsa", "expectile": 0.5},
    "expectile SARSA": {"objective": "expectile_sarsa", "expectile": 0.95},
    "IQL": {"objective": "iql", "expectile": 0.95},
}


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Values [S] and a policy [S, A], learned or exact."""

    values: FloatArray
    policy: FloatArray


def settings(method: str, updates: int) -> Config:
    """A method's settings: small networks, and rates to go with few updates."""
    return Config(
        dataset=DATASET,
        max_steps=updates,
        hidden_dims=(64, 64),
        actor_lr=1e-3,
        value_lr=1e-3,
        critic_lr=1e-3,
        tau=0.03,
        temperature=10.0,
        discount=0.9,
        seed=0,
        eval_episodes=0,
        progress=False,
        **METHODS[method],
    )


def exact() -> Solution:
    """The optimal values and policy."""
    q_values = model().optimal_q(settings("IQL", UPDATES).discount)
    return Solution(np.where(model().terminal, 0.0, q_values.max(axis=1)), greedy(q_values))


def learn(method: str, updates: int) -> Solution:
    """What a method learns from the dataset."""
    config = settings(method, updates)
    dataset = load_dataset(config)
    state, _ = update_n(
        initial_state(config, dataset),
        jax.device_put(dataset.transitions),
        updates,
        batch_size=config.batch_size,
    )
    every = observe(np.arange(len(STATES)))
    values = state.value.apply_fn(state.value.params, every)
    return Solution(np.asarray(values, np.float64), np.asarray(eval_actions(state.actor, every)))


def visits() -> npt.NDArray[np.int64]:
    """How often the data act in each state, [S]."""
    transitions = load_dataset(settings("IQL", UPDATES)).transitions
    return np.asarray(transitions.observations).sum(axis=0).astype(np.int64)


def row(name: str, solution: Solution, best: Solution, known: BoolArray) -> dict[str, object]:
    """A line of the table; ``known`` [S] are the states to compare values in."""
    error = np.abs(solution.values - best.values)[known]
    span = np.ptp(best.values[known])
    return {
        "method": name,
        "value_at_start": float(solution.values[START]),
        "mean_error_percent": float(100 * error.mean() / span),
        "max_error_percent": float(100 * error.max() / span),
        "success": model().success_probability(solution.policy, START, TIME_LIMIT),
    }


def draw(
    solutions: dict[str, Solution], rows: list[dict[str, object]], counts: npt.NDArray[np.int64]
) -> Figure:
    """The data, and a map of V for each solution; cells that no data visit stay blank."""
    figure = Figure(figsize=(10.5, 5.6), dpi=100, layout="constrained")
    grid = figure.subplots(2, 3).ravel()
    paint(grid[0], np.maximum(counts, 1), counts > 0, "Greys", LogNorm(1, 3e4))
    exhibit.title(grid[0], "the data")
    grid[0].set_xlabel(f"visits (log scale): {counts[START]:,} to {counts[counts > 0].min()}")
    for axes, (name, solution), line in zip(grid[1:], solutions.items(), rows, strict=True):
        paint(axes, solution.values, counts > 0, "viridis", _COLORS, solution.policy)
        exhibit.title(axes, name)
        error = f"mean error {line['mean_error_percent']:.0f} %   "
        axes.set_xlabel(
            f"{error if name != 'optimal' else ''}success {100 * float(str(line['success'])):.0f} %"
        )
    bar = figure.colorbar(
        ScalarMappable(_COLORS, "viridis"), ax=grid.tolist(), shrink=0.6, pad=0.02
    )
    bar.set_label("V(s)", color=plots.INK)
    bar.outline.set_visible(False)
    return figure


def paint(
    axes: Axes,
    values: FloatArray,
    known: BoolArray,
    colors: str,
    norm: Normalize,
    policy: FloatArray | None = None,
) -> None:
    """A maze whose cells have the colours of ``values`` [S], with a policy's arrows."""
    picture = np.full((len(CELLS), len(CELLS[0])), np.nan)
    rows, columns = np.array(STATES).T
    picture[rows[known], columns[known]] = values[known]
    walls = np.array([[cell == "#" for cell in row] for row in CELLS])
    axes.set_facecolor("#eef0f3")
    axes.imshow(picture, cmap=colors, norm=norm)
    axes.imshow(np.where(walls, 1.0, np.nan), cmap="Greys", vmin=0, vmax=1.25)
    if policy is not None:
        down, right = (policy[known] @ np.array(MOVES)).T
        axes.quiver(
            columns[known], rows[known], right, -down, color="white", pivot="mid", scale=18,
            width=0.007, headwidth=4.5,
        )  # fmt: skip
    for state, letter in ((START, "S"), (GOAL, "G")):
        r, c = STATES[state]
        axes.text(
            c, r, letter, ha="center", va="center", fontsize=9, fontweight="bold", color=plots.INK,
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "#ffd23f", "edgecolor": "none"},
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn, compare, draw."""
    options = exhibit.parser(__doc__, UPDATES).parse_args(arguments)
    counts = visits()
    best = exact()
    solutions = {"optimal": best}
    for method in METHODS:
        solutions[method] = learn(method, options.updates)
    rows = [row(name, solution, best, counts > 0) for name, solution in solutions.items()]
    exhibit.publish(options.out, "figure2", draw(solutions, rows, counts), rows)
    return 0


if __name__ == "__main__":
    sys.exit(cli.guard(main))
