"""Extrapolation error: Q-learning counts on actions that the data never show, IQL does not.

    python benchmarks/paper/extrapolation.py --out DIR

A point on a line is moved by the first of eight components of its action; the reward falls from 1
at the origin to 0 at the walls. The data's actions are small, with a standard deviation of 0.1
where [-1, 1] is allowed. Q-learning's maximum over actions asks the critics about actions far
outside, where nothing holds their answers down; each answer becomes a target. IQL asks about the
data's actions only. The optimal values are known to the precision of a grid.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import exhibit
from iql_jax.algorithm import AgentConfig, Transitions, create_state, update_n
from iql_jax.utils.arrays import Float64

ACTION_DIM = 8
STEP, ACTION_STD = 0.1, 0.1  # How far an action of 1 moves the point.
EPISODES, LENGTH, DISCOUNT = 200, 50, 0.95
UPDATES, INTERVAL = 6_000, 250

METHODS: dict[str, dict[str, Any]] = {
    "Q-learning (uniform)": {"objective": "q_learning", "max_over": "uniform"},
    "Q-learning (policy)": {"objective": "q_learning", "max_over": "policy"},
    "IQL": {"objective": "iql", "expectile": 0.9},
}
COLORS = ("#d1495b", "#e08e1b", "#1f9e89")


def dataset() -> Transitions:
    """Returns episodes that start anywhere, and end at a time limit alone."""
    generator = np.random.default_rng(0)
    shape = (EPISODES, LENGTH, ACTION_DIM)
    actions = np.clip(generator.normal(scale=ACTION_STD, size=shape), -1, 1)
    positions = np.empty((EPISODES, LENGTH + 1))
    positions[:, 0] = generator.uniform(-1, 1, EPISODES)
    for t in range(LENGTH):
        positions[:, t + 1] = np.clip(positions[:, t] + STEP * actions[:, t, 0], -1.0, 1.0)
    before, after = positions[:, :-1].ravel(), positions[:, 1:].ravel()
    return Transitions(
        observations=before[:, None].astype(np.float32),
        actions=actions.reshape(-1, ACTION_DIM).astype(np.float32),
        rewards=(1.0 - np.abs(after)).astype(np.float32),
        masks=np.ones(len(before), np.float32),
        next_observations=after[:, None].astype(np.float32),
    )


def optimal_mean(positions: Float64, points: int = 401) -> float:
    """Returns the mean of ``V*``: the best action moves to the origin as fast as it may."""
    grid = np.linspace(-1, 1, points)
    after = np.sign(grid) * np.maximum(np.abs(grid) - STEP, 0.0)
    values = np.zeros(points)
    for _ in range(400):  # The discount to this power is 1e-9.
        values = 1.0 - np.abs(after) + DISCOUNT * np.interp(after, grid, values)
    return float(np.interp(positions, grid, values).mean())


def learn(method: str, transitions: Transitions, updates: int) -> list[float]:
    """Trains, and returns the mean Q of the data's actions after each interval."""
    config = AgentConfig(
        hidden_dims=(64, 64), discount=DISCOUNT, tau=0.02, actor_lr=1e-3, value_lr=1e-3,
        critic_lr=1e-3, opt_decay_schedule="none", **METHODS[method],
    )  # fmt: skip
    state = create_state(jax.random.key(0), 1, ACTION_DIM, config)
    means = []
    for _ in range(0, updates, INTERVAL):
        state, metrics = update_n(state, transitions, INTERVAL, batch_size=256)
        means.append(float(metrics["q1"]))
    return means


def draw(figure: Figure, means: Mapping[str, Sequence[float]], best: float) -> None:
    """Draws mean Q over updates, on a scale that shows the truth and what has left it."""
    axes = figure.add_subplot()
    axes.axhline(best, color=exhibit.INK, linestyle="--", label=f"optimal values, mean {best:.1f}")
    for (name, q_values), color in zip(means.items(), COLORS, strict=True):
        updates = INTERVAL * np.arange(1, len(q_values) + 1)
        axes.plot(updates, q_values, color=color, linewidth=2, label=name)
    axes.set_yscale("symlog", linthresh=10)
    axes.set(xlabel="updates", ylabel="mean Q(s, a) of the data")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    exhibit.style(axes, "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains with each objective, compares and draws."""
    options = exhibit.parser(__doc__, UPDATES).parse_args(arguments)
    transitions = jax.device_put(dataset())
    best = optimal_mean(np.asarray(transitions.observations[:, 0], np.float64))
    means = {method: learn(method, transitions, options.updates) for method in METHODS}
    rows = [{"method": name, "mean_q": q[-1], "optimal": best} for name, q in means.items()]
    figure = Figure(figsize=(6.8, 3.8), dpi=100, layout="constrained")
    draw(figure, means, best)
    exhibit.publish(options.out, "extrapolation", figure, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
