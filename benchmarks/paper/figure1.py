"""Figure 1 of the IQL paper: the expectile loss, and the expectiles that it finds.

    python benchmarks/paper/figure1.py --out DIR

Left, the asymmetric loss. In the middle, expectiles of a standard normal distribution: minimizers
of the package's loss, beside SciPy's. Right, expectiles of y given x for a sample in the plane,
fitted by the package's value network with its own update of V; the exact ones are known, for y is
a shifted and scaled normal.
"""

import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

import exhibit
from iql_jax.algorithm import AgentConfig, IQLState, Transitions, create_state, losses
from iql_jax.algorithm.updates import update_v
from iql_jax.utils.arrays import Float64

EXPECTILES = (0.5, 0.7, 0.9, 0.95, 0.99)
COLORS = ("#8d99ae", "#2b6f9c", "#1f9e89", "#e08e1b", "#d1495b")
SAMPLE, BATCH, UPDATES = 20_000, 1_024, 3_000
COLUMNS = ("expectile", "normal", "normal_exact", "plane_mean_error_in_std")
GRID = np.linspace(-2, 2, 161)


def normal_sample(size: int = 200_000) -> Float64:
    """Returns quantiles of a standard normal at equal distances: a sample without noise."""
    return np.asarray(stats.norm.ppf((np.arange(size) + 0.5) / size))


def exact_expectile(expectile: float) -> float:
    """Returns the expectile of a standard normal."""
    return float(stats.expectile(normal_sample(), expectile))


@jax.jit
def minimized_expectile(expectile: float, sample: Float64) -> jax.Array:
    """Returns the minimizer of the package's loss over a constant, by Newton's method."""

    def loss(m: jax.Array) -> jax.Array:
        return jnp.mean(losses.expectile_loss(sample - m, expectile))

    def step(_: int, m: jax.Array) -> jax.Array:
        return m - jax.grad(loss)(m) / jax.grad(jax.grad(loss))(m)

    return jax.lax.fori_loop(0, 20, step, jnp.zeros(()))


def plane(x: Float64) -> tuple[Float64, Float64]:
    """Returns the mean and the standard deviation of y given x."""
    return np.sin(2 * x), 0.2 + 0.25 * (x + 2)


@jax.jit
def fit(expectile: float, x: jax.Array, y: jax.Array, updates: int) -> IQLState:
    """Fits V(x) to an expectile of y given x; the learning rate falls to 0."""

    def step(i: jax.Array, state: IQLState) -> IQLState:
        rows = jax.random.randint(jax.random.key(i), (BATCH,), 0, len(x))
        seen, unused = x[rows, None], jnp.zeros(BATCH)
        batch = Transitions(seen, unused[:, None], unused, unused, seen)
        hyperparameters = state.hyperparameters.replace(value_lr=3e-3 * (1 - i / updates))
        state = state.replace(hyperparameters=hyperparameters)
        return update_v(state, batch, y[rows], expectile)[0]

    state = create_state(jax.random.key(0), 1, 1, AgentConfig(hidden_dims=(64, 64)))
    return jax.lax.fori_loop(0, updates, step, state)


def draw(
    figure: Figure,
    rows: Sequence[dict[str, float]],
    sample: tuple[Float64, Float64],
    fitted: Sequence[Float64],
) -> None:
    """Draws the three parts; ``fitted`` has a curve over ``GRID`` for each row of the table."""
    left, middle, right = figure.subplots(1, 3)
    mean, std = plane(GRID)
    u, grid = np.linspace(-1, 1, 201), np.linspace(-3, 3, 301)
    middle.fill_between(grid, stats.norm.pdf(grid), color="#eef0f3")
    right.plot(*sample, ".", color="#8d99ae", alpha=0.5, markersize=3)
    for row, curve, color in zip(rows, fitted, COLORS, strict=True):
        loss = np.asarray(losses.expectile_loss(u, row["expectile"]))
        left.plot(u, loss, color=color, linewidth=2, label=rf"$\tau$ = {row['expectile']}")
        found = row["normal"]
        top = stats.norm.pdf(found)
        middle.vlines(found, 0, top, color=color, linewidth=2.5)
        middle.text(found, top + 0.01, f" {abs(found):.2f}", color=color, fontsize=9)
        right.plot(GRID, curve, color=color, linewidth=2)
        exact = mean + std * row["normal_exact"]
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
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, SAMPLE)
    mean, std = plane(x)
    y = mean + std * generator.normal(size=SAMPLE)
    inputs = [jnp.asarray(array, jnp.float32) for array in (x, y)]
    mean, std = plane(GRID)
    rows, fitted = [], []
    for expectile in EXPECTILES:
        state = fit(expectile, *inputs, options.updates)
        fitted.append(np.asarray(state.v(GRID[:, None]), np.float64))
        found = float(minimized_expectile(expectile, normal_sample()))
        exact = exact_expectile(expectile)
        error = float(np.abs((fitted[-1] - mean) / std - exact).mean())
        rows.append(dict(zip(COLUMNS, (expectile, found, exact, error), strict=True)))
    figure = Figure(figsize=(11, 3.5), dpi=90, layout="constrained")
    draw(figure, rows, (x[:800], y[:800]), fitted)
    exhibit.publish(options.out, "figure1", figure, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
