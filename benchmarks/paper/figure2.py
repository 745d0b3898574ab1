"""Figure 2 of the IQL paper: values in a discrete u-maze, from one good trajectory and 99 bad ones.

    python benchmarks/paper/figure2.py --out DIR

One-step evaluation (IQL with expectile 0.5), SARSA, expectile SARSA and IQL (0.95) learn from the
dataset iql/discrete-umaze-v0 with the package's own learner. Their V is compared with the optimal
values, found by dynamic programming, in the states that the data visit; errors are shares of the
range of optimal values there. ``success`` is the exact probability that the policy, taken greedily,
reaches the goal from the start within the time limit.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure

import exhibit
from iql_jax.algorithm import AgentConfig, Transitions, create_state, eval_actions, update_n
from iql_jax.data.config import DataConfig
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
from iql_jax.envs.finite_mdp import greedy
from iql_jax.generation.provide import provide
from iql_jax.utils.arrays import Bool, Float64

DATASET = "iql/discrete-umaze-v0"
UPDATES, DISCOUNT = 6_000, 0.9
COLORS = PowerNorm(0.5, 0, GOAL_REWARD)  # Spreads the low values, of which there are most.

METHODS: dict[str, dict[str, Any]] = {
    "one-step evaluation": {"objective": "iql", "expectile": 0.5},
    "SARSA": {"objective": "sarsa", "expectile": 0.5},
    "expectile SARSA": {"objective": "expectile_sarsa", "expectile": 0.95},
    "IQL": {"objective": "iql", "expectile": 0.95},
}


class Solution(NamedTuple):
    """Values [S] and a policy [S, A], learned or exact."""

    values: Float64
    policy: Float64


def dataset() -> Transitions:
    """Loads the transitions with the actions that follow."""
    source = provide(DATASET, progress=False).source
    found = load_dataset(DataConfig(dataset=DATASET), source, next_actions=True, progress=False)
    return Transitions(**found.transitions)


def exact() -> Solution:
    """Returns the optimal values and policy."""
    q_values = model().optimal_q(DISCOUNT)
    return Solution(np.where(model().terminal, 0.0, q_values.max(axis=1)), greedy(q_values))


def learn(method: str, transitions: Transitions, updates: int) -> Solution:
    """Trains small networks, with rates that go with few updates."""
    config = AgentConfig(
        hidden_dims=(64, 64), discount=DISCOUNT, actor_lr=1e-3, value_lr=1e-3, critic_lr=1e-3,
        tau=0.03, temperature=10.0, max_steps=updates, **METHODS[method],
    )  # fmt: skip
    key = jax.random.key(0)
    state = create_state(key, len(STATES), len(MOVES), config, discrete_actions=True)
    state, _ = update_n(state, jax.device_put(transitions), updates, batch_size=256)
    every = observe(np.arange(len(STATES)))
    values = np.asarray(state.v(every), np.float64)
    return Solution(values, np.asarray(eval_actions(state.actor, every)))


def row(name: str, solution: Solution, best: Solution, visited: Bool) -> dict[str, Any]:
    """Returns a line of the table; values are compared in the ``visited`` [S] states."""
    error = np.abs(solution.values - best.values)[visited]
    span = np.ptp(best.values[visited])
    return {
        "method": name,
        "value_at_start": float(solution.values[START]),
        "mean_error_percent": float(100 * error.mean() / span),
        "max_error_percent": float(100 * error.max() / span),
        "success": model().success_probability(solution.policy, START, TIME_LIMIT),
    }


def draw(solutions: dict[str, Solution], rows: Sequence[dict[str, Any]], visits: Float64) -> Figure:
    """Draws the data, and a map of V for each solution; cells without data stay blank."""
    figure = Figure(figsize=(10.5, 5.6), dpi=100, layout="constrained")
    grid = figure.subplots(2, 3).ravel()
    paint(grid[0], np.maximum(visits, 1), visits > 0, "Greys", LogNorm(1, 3e4))
    grid[0].set_title("the data", loc="left", fontweight="bold")
    fewest = visits[visits > 0].min()
    grid[0].set_xlabel(f"visits (log scale), {visits[START]:,.0f} to {fewest:.0f}")
    for axes, (name, solution), line in zip(grid[1:], solutions.items(), rows, strict=True):
        paint(axes, solution.values, visits > 0, "viridis", COLORS, solution.policy)
        axes.set_title(name, loc="left", fontweight="bold")
        error, success = line["mean_error_percent"], 100 * line["success"]
        axes.set_xlabel(f"mean error {error:.0f} %, success {success:.0f} %")
    bar = figure.colorbar(ScalarMappable(COLORS, "viridis"), ax=grid.tolist(), shrink=0.6)
    bar.set_label("V(s)")
    return figure


def paint(
    axes: Axes,
    values: Float64,
    visited: Bool,
    colors: str,
    norm: Normalize,
    policy: Float64 | None = None,
) -> None:
    """Draws the maze, its cells colored by ``values`` [S], with a policy's arrows."""
    picture = np.full((len(CELLS), len(CELLS[0])), np.nan)
    rows, columns = np.array(STATES)[visited].T
    picture[rows, columns] = values[visited]
    walls = np.array([[1.0 if cell == "#" else np.nan for cell in row] for row in CELLS])
    axes.imshow(picture, cmap=colors, norm=norm)
    axes.imshow(walls, cmap="Greys", vmin=0, vmax=1.25)
    if policy is not None:
        down, right = (policy[visited] @ np.array(MOVES)).T
        axes.quiver(columns, rows, right, -down, color="white", pivot="mid", scale=18, width=0.007)
    for state, letter in ((START, "S"), (GOAL, "G")):
        r, c = STATES[state]
        axes.text(c, r, letter, ha="center", va="center", color="red", backgroundcolor="white")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Learns, compares and draws."""
    options = exhibit.parser(__doc__, UPDATES).parse_args(arguments)
    transitions = dataset()
    visits = np.asarray(transitions.observations, np.float64).sum(axis=0)
    best = exact()
    learned = {method: learn(method, transitions, options.updates) for method in METHODS}
    solutions = {"optimal": best, **learned}
    rows = [row(name, solution, best, visits > 0) for name, solution in solutions.items()]
    exhibit.publish(options.out, "figure2", draw(solutions, rows, visits), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
