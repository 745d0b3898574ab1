"""Figure 1 of the IQL paper: the expectile loss, and the expectiles that it finds.

    python benchmarks/paper/figure1.py --out DIR

Left, the asymmetric loss. In the middle, expectiles of a standard normal distribution: minimizers
of the package's loss, beside the solution of their defining equation. Right, expectiles of y given
x for a sample in the plane, fitted by the package's value network with its own update of V; the
exact ones are known, for y is a shifted and scaled normal.
"""

import functools
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize, stats

import exhibit
from iql_jax.algorithm import AgentConfig, IQLState, Transitions, create_state, losses
from iql_jax.algorithm.updates import update_v
from iql_jax.utils.arrays import Float64

EXPECTILES = (0.5, 0.7, 0.9, 0.95, 0.99)
COLORS = ("#8d99ae", "#2b6f9c", "#1f9e89", "#e08e1b", "#d1495b")
SAMPLE, BATCH, UPDATES = 20_000, 1_024, 3_000
GRID = np.linspace(-2, 2, 161)
SHOWN = np.array([-1.5, -0.75, 0.0, 0.75, 1.5])  # Where the fit is compared, in the table.


def exact_expectile(expectile: float) -> float:
    """Returns the m for which expectile * E[(X - m)+] = (1 - expectile) * E[(m - X)+], X normal."""

    def balance(m: float) -> float:
        above = stats.norm.pdf(m) - m * stats.norm.sf(m)
        return float(expectile * above - (1 - expectile) * (above + m))

    return float(optimize.brentq(balance, -6.0, 6.0))


@jax.jit
def minimized_expectile(expectile: float, sample: jax.Array) -> jax.Array:
    """Returns the minimizer of the package's loss over a constant, by Newton's method.

    Args:
        expectile: in (0, 1).
        sample: [N].
    """

    def loss(m: jax.Array) -> jax.Array:
        return jnp.mean(losses.expectile_loss(sample - m, expectile))

    def step(_: int, m: jax.Array) -> jax.Array:
        return m - jax.grad(loss)(m) / jax.grad(jax.grad(loss))(m)

    return jax.lax.fori_loop(0, 20, step, jnp.zeros(()))


def normal_sample(size: int = 200_000) -> jax.Array:
    """Returns quantiles of a standard normal at equal distances: a sample without noise."""
    return jax.scipy.stats.norm.ppf((jnp.arange(size) + 0.5) / size)


def center(x: Float64) -> Float64:
    """Returns the mean of y given x in the plane."""
    return np.sin(2 * x)


def width(x: Float64) -> Float64:
    """Returns the standard deviation of y given x."""
    return 0.2 + 0.25 * (x + 2)


@functools.partial(jax.jit, static_argnames="updates")
def fit(expectile: float, x: jax.Array, y: jax.Array, updates: int) -> IQLState:
    """Fits V(x) to an expectile of y given x; the learning rate falls to 0."""
    observations = x[:, None]

    def step(i: jax.Array, state: IQLState) -> IQLState:
        rows = jax.random.randint(jax.random.key(i), (BATCH,), 0, len(x))
        batch = Transitions(
            observations=observations[rows],
            actions=jnp.zeros((BATCH, 1)),
            rewards=jnp.zeros(BATCH),
            masks=jnp.zeros(BATCH),
            next_observations=observations[rows],
        )
        hyperparameters = state.hyperparameters.replace(value_lr=3e-3 * (1 - i / updates))
        state = state.replace(hyperparameters=hyperparameters)
        return update_v(state, batch, y[rows], expectile)[0]

    state = create_state(jax.random.key(0), 1, 1, AgentConfig(hidden_dims=(64, 64)))
    return jax.lax.fori_loop(0, updates, step, state)


def draw(
    axes: Sequence[Axes], normal: Sequence[float], x: Float64, y: Float64, fitted: Float64
) -> None:
    """Draws the three parts; ``fitted`` has a curve over ``GRID`` for each expectile."""
    left, middle, right = axes
    u, grid = np.linspace(-1, 1, 201), np.linspace(-3, 3, 301)
    middle.fill_between(grid, stats.norm.pdf(grid), color="#eef0f3")
    right.plot(x[:800], y[:800], ".", color=exhibit.MUTED, alpha=0.5, markersize=3)
    for i, (expectile, color) in enumerate(zip(EXPECTILES, COLORS, strict=True)):
        loss = np.asarray(losses.expectile_loss(u, expectile))
        left.plot(u, loss, color=color, linewidth=2, label=rf"$\tau$ = {expectile}")
        top = stats.norm.pdf(normal[i])
        middle.vlines(normal[i], 0, top, color=color, linewidth=2.5)
        middle.text(normal[i], top + 0.01, f" {abs(normal[i]):.2f}", color=color, fontsize=9)
        right.plot(GRID, fitted[i], color=color, linewidth=2)
        exact = center(GRID) + width(GRID) * exact_expectile(expectile)
        right.plot(GRID, exact, color=exhibit.INK, linewidth=0.9, linestyle="--")
    left.set_xlabel("u = target - prediction")
    left.legend(frameon=False, fontsize=9)
    right.set_xlabel("x; dashed: exact")
    exhibit.style(left, r"$L_2^\tau(u)=|\tau-1(u<0)|\,u^2$")
    exhibit.style(middle, "expectiles of a normal")
    exhibit.style(right, "expectiles of y given x")


def main(arguments: Sequence[str] | None = None) -> int:
    """Computes, fits and draws."""
    options = exhibit.parser(__doc__, UPDATES).parse_args(arguments)
    sample = normal_sample()
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, SAMPLE)
    y = center(x) + width(x) * generator.normal(size=SAMPLE)
    inputs = [jnp.asarray(array, jnp.float32) for array in (x, y)]
    rows, fitted = [], []
    for expectile in EXPECTILES:
        found, exact = float(minimized_expectile(expectile, sample)), exact_expectile(expectile)
        state = fit(expectile, *inputs, options.updates)
        curve, at_shown = (
            np.asarray(state.v(points[:, None]), np.float64) for points in (GRID, SHOWN)
        )
        fitted.append(curve)
        error = np.abs((at_shown - center(SHOWN) - width(SHOWN) * exact) / width(SHOWN))
        rows.append(
            {
                "expectile": str(expectile),
                "normal": found,
                "normal_exact": exact,
                "plane_mean_error_in_std": float(error.mean()),
                "plane_max_error_in_std": float(error.max()),
            }
        )
    figure = Figure(figsize=(11, 3.5), dpi=90, layout="constrained")
    normal = [float(str(row["normal"])) for row in rows]
    draw(figure.subplots(1, 3), normal, x, y, np.array(fitted))
    exhibit.publish(options.out, "figure1", figure, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
