"""Why V is a network of its own: an expectile over transitions counts on luck, IQL's does not.

    python benchmarks/paper/lucky_sample.py --out DIR

In the first state a safe action leads to a state worth 0.3, and a gamble to one worth 1 with a
probability of 0.1, else to one worth 0. Data hold both actions equally often. Expectile SARSA
regresses Q on the TD error with an expectile, and so values the gamble at the expectile of its
outcomes, as if luck were a choice: from some expectile on it prefers the gamble. IQL takes the
expectile over actions alone. Everything is known exactly: the true values, and the fixed point of
either objective. Lines are exact, dots are what the package's learner finds.
"""

import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

import exhibit
from iql_jax import cli
from iql_jax.algorithm.learner import IQLState, create_state, update_n
from iql_jax.algorithm.types import Transitions
from iql_jax.data.actions import next_actions
from iql_jax.outputs import plots

FloatArray = npt.NDArray[np.float64]

SAFE, GAMBLE = 0, 1
SAFE_REWARD = 0.3
WIN_PROBABILITY = 0.1
START, OK, WIN, LOSE = range(4)
PAYS = np.array([0.0, SAFE_REWARD, 1.0, 0.0])  # Whatever is done in a state.

EXPECTILES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
OBJECTIVES = {"expectile_sarsa": "expectile SARSA", "iql": "IQL"}
COLORS = {"expectile_sarsa": "#d1495b", "iql": "#1f9e89"}
UPDATES = 4_000


def dataset() -> Transitions:
    """40 episodes of two steps, in the true proportions, with either action in the second state."""
    arrivals = [OK] * 10 + [WIN] + [LOSE] * 9
    episodes = [
        (SAFE if state == OK else GAMBLE, state, second)
        for state in arrivals
        for second in (SAFE, GAMBLE)
    ]
    count = len(episodes)
    first, arrived, second = np.array(episodes).T
    states = np.stack([np.full(count, START), arrived], axis=1).ravel()
    actions = np.eye(2, dtype=np.float32)[np.stack([first, second], axis=1).ravel()]
    ends = np.tile([False, True], count)
    observe = np.eye(4, dtype=np.float32)
    return Transitions(
        observations=observe[states],
        actions=actions,
        rewards=np.where(ends, PAYS[states], 0.0).astype(np.float32),
        masks=1.0 - ends.astype(np.float32),
        next_observations=observe[np.where(ends, states, np.roll(states, -1))],
        **next_actions(actions, np.full(count, 2)),
    )


def expectile_of_two(
    low: FloatArray | float, high: FloatArray | float, share: float, expectile: FloatArray
) -> FloatArray:
    """The expectile of a variable that is ``high`` with probability ``share``, else ``low``."""
    above, below = expectile * share, (1 - expectile) * (1 - share)
    return (above * high + below * low) / (above + below)


def exact(objective: str, expectile: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The fixed point: Q of the gamble and V of the first state; Q of the safe action is 0.3."""
    luck = np.full_like(expectile, 0.5) if objective == "iql" else expectile
    gamble = expectile_of_two(0.0, 1.0, WIN_PROBABILITY, luck)
    low, high = np.minimum(gamble, SAFE_REWARD), np.maximum(gamble, SAFE_REWARD)
    return gamble, expectile_of_two(low, high, 0.5, expectile)


def learn(objective: str, updates: int) -> tuple[FloatArray, FloatArray]:
    """What the learner finds for every expectile: Q [len(EXPECTILES), 2], V [len(EXPECTILES)]."""
    members = [
        create_state(
            jax.random.key(0), 4, 2, hidden_dims=(32, 32), discrete_actions=True, discount=1.0,
            objective=objective, expectile=expectile, value_lr=1e-3, critic_lr=1e-3, tau=0.02,
        )
        for expectile in EXPECTILES
    ]  # fmt: skip
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    transitions = jax.device_put(dataset())

    def train(state: IQLState) -> IQLState:
        return update_n(state, transitions, updates, batch_size=128)[0]

    trained = jax.jit(jax.vmap(train))(stacked)
    first = jnp.tile(jnp.eye(4)[START], (2, 1))
    q_values = jax.vmap(lambda s: s.critic.apply_fn(s.critic.params, first, jnp.eye(2)))(trained)
    values = jax.vmap(lambda s: s.value.apply_fn(s.value.params, first[:1]))(trained)
    return np.asarray(q_values.mean(axis=1), np.float64), np.asarray(values[:, 0], np.float64)


def draw_mdp(axes: Axes) -> None:
    """The states, and what leads where."""
    places = {START: (0.0, 0.5), OK: (1.0, 0.92), WIN: (1.0, 0.46), LOSE: (1.0, 0.0)}
    ways = ((OK, "safe", COLORS["iql"]), (WIN, "gamble, 10 %", COLORS["expectile_sarsa"]),
            (LOSE, "gamble, 90 %", COLORS["expectile_sarsa"]))  # fmt: skip
    for state, text, color in ways:
        arrow = FancyArrowPatch(
            places[START], places[state], arrowstyle="-|>", mutation_scale=14, color=color,
            shrinkA=20, shrinkB=20, linewidth=2 if state != WIN else 1,
        )  # fmt: skip
        axes.add_patch(arrow)
        (x0, y0), (x1, y1) = places[START], places[state]
        axes.text(
            (x0 + x1) / 2, (y0 + y1) / 2 + 0.04, text, ha="center", va="bottom", color=color,
            fontsize=9, rotation=np.degrees(np.arctan2((y1 - y0) * 1.02, x1 - x0)),
            rotation_mode="anchor",
        )  # fmt: skip
    for state, (x, y) in places.items():
        axes.add_patch(Circle((x, y), 0.1, facecolor="white", edgecolor=plots.INK, linewidth=1.5))
        label = "s" if state == START else f"{PAYS[state]:g}"
        axes.text(x, y, label, ha="center", va="center", color=plots.INK, fontsize=10)
    axes.set_xlim(-0.15, 1.15)
    axes.set_ylim(-0.15, 1.07)
    axes.set_aspect("equal")
    axes.axis("off")
    exhibit.title(axes, "a gamble")


def draw_curves(axes: Axes, found: dict[str, FloatArray]) -> None:
    """The value of the gamble against the expectile: exact lines, learned dots."""
    expectile = np.linspace(0.5, 0.995, 200)
    axes.axhline(SAFE_REWARD, color=plots.MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.text(0.5, SAFE_REWARD + 0.015, "the safe action, 0.3", color=plots.MUTED, fontsize=9)
    for objective, name in OBJECTIVES.items():
        color = COLORS[objective]
        axes.plot(expectile, exact(objective, expectile)[0], color=color, linewidth=2)
        axes.plot(EXPECTILES, found[objective][:, GAMBLE], "o", color=color, markersize=6)
        axes.plot([], [], "o-", color=color, label=name)
    axes.set_xlabel(r"expectile $\tau$", color=plots.INK)
    axes.set_ylabel("Q(s, gamble); truth: 0.1", color=plots.INK)
    axes.set_ylim(0, 1)
    exhibit.title(axes, "what the gamble seems worth")
    axes.legend(frameon=False, labelcolor=plots.INK, fontsize=9, loc="upper left")
    plots.tidy(axes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Solve, learn, draw."""
    options = exhibit.parser(__doc__, UPDATES).parse_args(arguments)
    rows, found = [], {}
    for objective in OBJECTIVES:
        found[objective], values = learn(objective, options.updates)
        exact_gamble, exact_value = exact(objective, np.array(EXPECTILES))
        rows += [
            {
                "objective": objective,
                "expectile": str(expectile),
                "true_q_gamble": WIN_PROBABILITY,
                "exact_q_gamble": float(exact_gamble[i]),
                "learned_q_gamble": float(found[objective][i, GAMBLE]),
                "learned_q_safe": float(found[objective][i, SAFE]),
                "exact_v": float(exact_value[i]),
                "learned_v": float(values[i]),
                "prefers": "safe" if np.argmax(found[objective][i]) == SAFE else "gamble",
            }
            for i, expectile in enumerate(EXPECTILES)
        ]
    figure = Figure(figsize=(8.6, 3.6), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    draw_mdp(left)
    draw_curves(right, found)
    exhibit.publish(options.out, "lucky_sample", figure, rows)
    return 0


if __name__ == "__main__":
    sys.exit(cli.guard(main))
