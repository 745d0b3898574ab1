"""Extrapolation error: Q-learning counts on actions that the data never show, IQL does not.

    python benchmarks/paper/extrapolation.py --out DIR

A point on a line is moved by the first of eight components of its action; the reward falls with the
distance to the origin. The data's actions are small, with a standard deviation of 0.1 where
[-1, 1] is allowed. Q-learning's maximum over actions asks the critics about actions far outside,
where nothing holds their answers down; each answer becomes a target. IQL asks about the data's
actions only. The optimal values are known to the precision of a grid, and no policy's exceed them.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import exhibit
from iql_jax import cli
from iql_jax.algorithm.learner import create_state, update_n
from iql_jax.algorithm.types import Transitions
from iql_jax.outputs import plots
from iql_jax.utils.errors import UserError

FloatArray = npt.NDArray[np.float64]

ACTION_DIM = 8
STEP = 0.1  # How far an action of 1 moves the point.
ACTION_STD = 0.1
EPISODES, LENGTH = 200, 50
DISCOUNT = 0.95
UPDATES = 6_000
INTERVAL = 250

METHODS: dict[str, dict[str, Any]] = {
    "Q-learning, uniform": {"objective": "q_learning", "max_over": "uniform"},
    "Q-learning, policy": {"objective": "q_learning", "max_over": "policy"},
    "IQL": {"objective": "iql", "expectile": 0.9},
}
COLORS = ("#d1495b", "#e08e1b", "#1f9e89")


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """The mean of Q over the data after each interval, [K]."""

    updates: FloatArray
    q_values: FloatArray


def move(position: FloatArray, push: FloatArray) -> FloatArray:
    """Where the point goes; walls are at -1 and 1."""
    return np.clip(position + STEP * push, -1.0, 1.0)


def reward(position: FloatArray) -> FloatArray:
    """1 at the origin, 0 at the walls; for arriving at a position."""
    return 1.0 - np.abs(position)


def dataset() -> Transitions:
    """Episodes that begin anywhere, and end at a time limit alone."""
    generator = np.random.default_rng(0)
    shape = (EPISODES, LENGTH, ACTION_DIM)
    actions = np.clip(generator.normal(scale=ACTION_STD, size=shape), -1, 1)
    positions = np.empty((EPISODES, LENGTH + 1))
    positions[:, 0] = generator.uniform(-1, 1, EPISODES)
    for t in range(LENGTH):
        positions[:, t + 1] = move(positions[:, t], actions[:, t, 0])
    before, after = positions[:, :-1].ravel(), positions[:, 1:].ravel()
    return Transitions(
        observations=before[:, None].astype(np.float32),
        actions=actions.reshape(-1, ACTION_DIM).astype(np.float32),
        rewards=reward(after).astype(np.float32),
        masks=np.ones(len(before), np.float32),
        next_observations=after[:, None].astype(np.float32),
    )


def optimal_mean(positions: FloatArray, points: int = 401) -> float:
    """The mean of ``V*`` over positions: the best push goes to the origin as fast as it may."""
    grid = np.linspace(-1, 1, points)
    after = np.sign(grid) * np.maximum(np.abs(grid) - STEP, 0.0)
    values = np.zeros(points)
    for _ in range(400):  # The discount to this power is 1e-9.
        values = reward(after) + DISCOUNT * np.interp(after, grid, values)
    return float(np.interp(positions, grid, values).mean())


def learn(method: str, transitions: Transitions, updates: int) -> History:
    """Train, and follow the mean Q of the data's actions."""
    state = create_state(
        jax.random.key(0), 1, ACTION_DIM, hidden_dims=(64, 64), discount=DISCOUNT, tau=0.02,
        actor_lr=1e-3, value_lr=1e-3, critic_lr=1e-3, actor_decay_steps=None, **METHODS[method],
    )  # fmt: skip
    on_device = jax.device_put(transitions)
    means = []
    for _ in range(updates // INTERVAL):
        state, metrics = update_n(state, on_device, INTERVAL, batch_size=256)
        means.append(float(metrics["q1"]))
    return History(INTERVAL * np.arange(1.0, len(means) + 1), np.array(means))


def draw(axes: Axes, histories: dict[str, History], best: float) -> None:
    """Mean Q over updates, on a scale that shows both the truth and what has left it."""
    axes.axhspan(0, best, color="#eef0f3", zorder=0)
    axes.axhline(best, color=plots.INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"optimal values, mean {best:.1f}: no policy has more", (0.99, best), xytext=(0, -4),
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="top",
        fontsize=9, color=plots.INK,
    )  # fmt: skip
    for (name, history), color in zip(histories.items(), COLORS, strict=True):
        axes.plot(history.updates, history.q_values, color=color, linewidth=2, label=name)
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("updates", color=plots.INK)
    axes.set_ylabel("mean Q(s, a) of the data", color=plots.INK)
    axes.legend(frameon=False, labelcolor=plots.INK, fontsize=9, loc="lower right")
    plots.tidy(axes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train each, compare, draw."""
    options = exhibit.parser(__doc__, UPDATES).parse_args(arguments)
    if options.updates < 1 or options.updates % INTERVAL:
        raise UserError(f"--updates must be a multiple of {INTERVAL}, not {options.updates}")
    transitions = dataset()
    best = optimal_mean(np.asarray(transitions.observations[:, 0], np.float64))
    histories = {method: learn(method, transitions, options.updates) for method in METHODS}
    rows = [
        {
            "method": name,
            "mean_q": float(history.q_values[-1]),
            "optimal_mean": best,
            "times_optimal": float(history.q_values[-1] / best),
        }
        for name, history in histories.items()
    ]
    figure = Figure(figsize=(6.8, 3.8), dpi=100, layout="constrained")
    draw(figure.add_subplot(), histories, best)
    exhibit.publish(options.out, "extrapolation", figure, rows)
    return 0


if __name__ == "__main__":
    sys.exit(cli.guard(main))
