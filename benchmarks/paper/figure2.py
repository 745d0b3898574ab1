"""Figure 2 of the IQL paper: values in a discrete u-maze, from one good trajectory and 99 bad ones.

    python benchmarks/paper/figure2.py --out DIR

One-step evaluation (IQL with expectile 0.5), SARSA, expectile SARSA and IQL (0.95) learn with the
package's own learner. Their V is compared with the optimal values in the states that the data
visit; errors are shares of the range of optimal values there. ``success`` is the exact probability
that the policy, taken greedily, reaches the goal from the start within the time limit.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

import umaze
from iql_jax.algorithm import AgentConfig, Transitions, create_state, eval_actions, update_n
from iql_jax.utils.arrays import Float64

UPDATES, DISCOUNT = 6_000, 0.9
COLORS = PowerNorm(0.5, 0, umaze.GOAL_REWARD)  # Spreads the low values, of which there are most.

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


def exact() -> Solution:
    """Returns the optimal values and policy."""
    q_values = umaze.optimal_q(DISCOUNT)
    return Solution(q_values.max(axis=1), umaze.greedy(q_values))


def learn(method: str, transitions: Transitions, updates: int) -> Solution:
    """Trains small networks, with rates that go with few updates."""
    config = AgentConfig(
        hidden_dims=(64, 64), discount=DISCOUNT, actor_lr=1e-3, value_lr=1e-3, critic_lr=1e-3,
        tau=0.03, temperature=10.0, max_steps=updates, **METHODS[method],
    )  # fmt: skip
    sizes = transitions.observations.shape[1], transitions.actions.shape[1]
    state = create_state(jax.random.key(0), *sizes, config, discrete_actions=True)
    state, _ = update_n(state, jax.device_put(transitions), updates, batch_size=256)
    values = np.asarray(state.v(umaze.OBSERVATIONS), np.float64)
    return Solution(values, np.asarray(eval_actions(state.actor, umaze.OBSERVATIONS)))


def row(name: str, solution: Solution, best: Solution, visits: Float64) -> dict[str, Any]:
    """Returns a line of the table; values are compared in the states with ``visits`` [S]."""
    error = np.abs(solution.values - best.values)[visits > 0]
    percent = 100 * error / np.ptp(best.values[visits > 0])
    return {
        "method": name,
        "value_at_start": float(solution.values[umaze.START]),
        "mean_error_percent": float(percent.mean()),
        "max_error_percent": float(percent.max()),
        "success": umaze.success_probability(solution.policy),
    }


def draw(solutions: dict[str, Solution], rows: Sequence[dict[str, Any]], visits: Float64) -> Figure:
    """Draws the data, and a map of V with the policy's arrows for each solution."""
    figure = Figure(figsize=(10.5, 5.6), dpi=100, layout="constrained")
    grid = figure.subplots(2, 3).ravel()
    paint(grid[0], "the data", "visits (log scale)", visits, visits, cmap="Greys", norm="log")
    columns, rows_of_states = np.array(umaze.STATES)[visits > 0].T[::-1]
    for axes, (name, solution), line in zip(grid[1:], solutions.items(), rows, strict=True):
        error, success = line["mean_error_percent"], 100 * line["success"]
        label = f"mean error {error:.0f} %, success {success:.0f} %"
        paint(axes, name, label, solution.values, visits, cmap="viridis", norm=COLORS)
        down, right = (solution.policy[visits > 0] @ np.array(umaze.MOVES)).T
        axes.quiver(
            columns, rows_of_states, right, -down, color="white", pivot="mid", scale=18, width=0.007
        )
    bar = ScalarMappable(COLORS, "viridis")
    figure.colorbar(bar, ax=grid.tolist(), shrink=0.6, label="V(s)")
    return figure


def paint(
    axes: Axes, title: str, label: str, values: Float64, visits: Float64, **colors: Any
) -> None:
    """Draws the maze, its cells colored by ``values`` [S]; cells without data stay blank."""
    walls = np.array([[1.0 if cell == "#" else np.nan for cell in row] for row in umaze.CELLS])
    picture = np.full(walls.shape, np.nan)
    picture[tuple(np.array(umaze.STATES).T)] = np.where(visits > 0, values, np.nan)
    axes.imshow(picture, **colors)
    axes.imshow(walls, cmap="Greys", vmin=0, vmax=1.25)
    for state, letter in ((umaze.START, "S"), (umaze.GOAL, "G")):
        r, c = umaze.STATES[state]
        axes.text(c, r, letter, ha="center", va="center", color="red", backgroundcolor="white")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set(xlabel=label, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Learns, compares and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the picture and table")
    parser.add_argument("--updates", type=int, default=UPDATES, help="(%(default)s)")
    options = parser.parse_args(arguments)
    transitions = Transitions(**umaze.dataset())
    visits = np.asarray(transitions.observations, np.float64).sum(axis=0)
    best = exact()
    learned = {method: learn(method, transitions, options.updates) for method in METHODS}
    solutions = {"optimal": best, **learned}
    rows = [row(name, solution, best, visits) for name, solution in solutions.items()]
    cells = [[f"{x:z.4f}" if isinstance(x, float) else x for x in row.values()] for row in rows]
    lines = [",".join(line) for line in (rows[0], *cells)]
    print(*lines, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "figure2.csv").write_text("\n".join([*lines, ""]))
    draw(solutions, rows, visits).savefig(options.out / "figure2.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
