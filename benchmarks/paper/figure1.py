"""Figure 1 of the IQL paper: the expectile loss, and the expectiles that it finds.

    python benchmarks/paper/figure1.py --out DIR

Left, the asymmetric loss. In the middle, expectiles of a standard normal distribution: minimisers
of the package's loss, beside the solution of their defining equation by numerical integration.
Right, expectiles of y given x for a sample in the plane, fitted by the package's value network with
its own update of V; the sample's exact ones are known, for y is a shifted and scaled normal.
"""

import functools
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import exhibit
from iql_jax import cli
from iql_jax.algorithm import losses
from iql_jax.algorithm.networks import ScalarMLP
from iql_jax.algorithm.train_state import TrainState
from iql_jax.algorithm.types import Transitions
from iql_jax.algorithm.updates import update_v
from iql_jax.outputs import plots

FloatArray = npt.NDArray[np.float64]

EXPECTILES = (0.5, 0.7, 0.9, 0.95, 0.99)
COLORS = ("#8d99ae", "#2b6f9c", "#1f9e89", "#e08e1b", "#d1495b")

UPDATES = 3_000
SAMPLE = 20_000
BATCH = 1_024
SHOWN = np.array([-1.5, -0.75, 0.0, 0.75, 1.5])  # Where the fit is compared, in the table.


def integrated_expectile(expectile: float) -> float:
    """The expectile of a standard normal from its definition, by integration and bisection.

    It is the m for which ``expectile * E[(X - m)+] = (1 - expectile) * E[(m - X)+]``.
    """
    x = np.linspace(-12, 12, 200_001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    def excess(m: float) -> float:
        above, below = np.maximum(x - m, 0) * density, np.maximum(m - x, 0) * density
        balance = expectile * above - (1 - expectile) * below
        return float(np.trapezoid(balance, x))

    low, high = -6.0, 6.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low


@jax.jit
def minimised_expectile(expectile: float, sample: jax.Array) -> jax.Array:
    """The minimiser of the package's loss over a constant, by Newton's method.

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
    """Quantiles of a standard normal at equal distances in probability: a sample without noise."""
    ranks = (jnp.arange(size) + 0.5) / size
    return jax.scipy.stats.norm.ppf(ranks)


def centre(x: FloatArray) -> FloatArray:
    """The mean of y given x in the plane."""
    return np.sin(2 * x)


def width(x: FloatArray) -> FloatArray:
    """The standard deviation of y given x."""
    return 0.2 + 0.25 * (x + 2)


def plane_sample() -> tuple[FloatArray, FloatArray]:
    """Points with x uniform in [-2, 2], and y normal around ``centre(x)``."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, SAMPLE)
    return x, centre(x) + width(x) * generator.normal(size=SAMPLE)


@functools.partial(jax.jit, static_argnames="updates")
def fit(expectile: float, x: jax.Array, y: jax.Array, updates: int) -> TrainState:
    """Fit V(x) to the ``expectile`` of y given x with the package's own update.

    Args:
        expectile: in (0, 1); traced.
        x: [N].
        y: [N].
        updates: how many; the rate falls to 0 over them.
    """
    network = ScalarMLP((64, 64))
    observations = x[:, None]
    value = TrainState.create_adam(network.apply, network.init(jax.random.key(0), observations[:1]))

    def step(i: jax.Array, value: TrainState) -> TrainState:
        rows = jax.random.randint(jax.random.key(i), (BATCH,), 0, len(x))
        batch = Transitions(
            observations=observations[rows],
            actions=jnp.zeros((BATCH, 1)),
            rewards=jnp.zeros(BATCH),
            masks=jnp.zeros(BATCH),
            next_observations=observations[rows],
        )
        rate = 3e-3 * (1 - i / updates)
        return update_v(value, batch, y[rows], expectile=expectile, learning_rate=rate)[0]

    return jax.lax.fori_loop(0, updates, step, value)


def draw_loss(axes: Axes) -> None:
    """The loss of each expectile."""
    u = np.linspace(-1, 1, 201)
    for expectile, color in zip(EXPECTILES, COLORS, strict=True):
        loss = np.asarray(losses.expectile_loss(u, expectile))
        axes.plot(u, loss, color=color, linewidth=2, label=rf"$\tau$ = {expectile}")
    axes.set_xlabel("u = target - prediction", color=plots.INK)
    exhibit.title(axes, r"$L_2^\tau(u)=|\tau-1(u<0)|\,u^2$")
    axes.legend(loc="upper left", frameon=False, labelcolor=plots.INK, fontsize=9)


def draw_normal(axes: Axes, found: FloatArray) -> None:
    """The density of the normal, and its expectiles ``found`` [len(EXPECTILES)]."""
    x = np.linspace(-3, 3, 301)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    axes.fill_between(x, density, color="#eef0f3")
    axes.plot(x, density, color=plots.INK, linewidth=1.2)
    for m, color in zip(found, COLORS, strict=True):
        top = np.exp(-(m**2) / 2) / np.sqrt(2 * np.pi)
        axes.vlines(m, 0, top, color=color, linewidth=2.5)
        axes.annotate(
            f"{abs(m):.2f}", (m, top), xytext=(5, 2), textcoords="offset points", color=color,
            fontsize=9, fontweight="bold",
        )  # fmt: skip
    axes.set_ylim(0, 0.45)
    axes.set_xlabel("x", color=plots.INK)
    exhibit.title(axes, "expectiles of a normal")


def draw_plane(axes: Axes, x: FloatArray, y: FloatArray, fitted: Sequence[FloatArray]) -> None:
    """The sample, and the fitted expectiles at ``_GRID``."""
    axes.plot(x[:800], y[:800], ".", color=plots.MUTED, alpha=0.5, markersize=3)
    for expectile, curve, color in zip(EXPECTILES, fitted, COLORS, strict=True):
        axes.plot(_GRID, curve, color=color, linewidth=2)
        exact = centre(_GRID) + width(_GRID) * integrated_expectile(expectile)
        axes.plot(_GRID, exact, color=plots.INK, linewidth=0.9, linestyle=(0, (3, 3)))
    axes.plot([], [], color=plots.INK, linewidth=0.9, linestyle=(0, (3, 3)), label="exact")
    axes.legend(frameon=False, labelcolor=plots.INK, fontsize=9, loc="upper left")
    axes.set_xlabel("x", color=plots.INK)
    exhibit.title(axes, "expectiles of y given x")


_GRID = np.linspace(-2, 2, 161)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute, fit, draw."""
    options = exhibit.parser(__doc__, UPDATES).parse_args(arguments)
    sample = normal_sample()
    x, y = plane_sample()
    inputs = [jnp.asarray(array, jnp.float32) for array in (x, y)]
    rows, fitted = [], []
    for expectile in EXPECTILES:
        found, exact = (
            float(minimised_expectile(expectile, sample)),
            integrated_expectile(expectile),
        )
        value = fit(expectile, *inputs, options.updates)
        curve, at_shown = (
            np.asarray(value.apply_fn(value.params, points[:, None]), np.float64)
            for points in (_GRID, SHOWN)
        )
        fitted.append(curve)
        error = (at_shown - centre(SHOWN) - width(SHOWN) * exact) / width(SHOWN)
        rows.append(
            {
                "expectile": str(expectile),
                "normal": found,
                "normal_exact": exact,
                "plane_mean_error_in_std": float(np.abs(error).mean()),
                "plane_max_error_in_std": float(np.abs(error).max()),
            }
        )
    figure = Figure(figsize=(11, 3.5), dpi=90, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_loss(left)
    draw_normal(middle, np.array([float(str(row["normal"])) for row in rows]))
    draw_plane(right, x, y, fitted)
    for axes in (left, middle, right):
        plots.tidy(axes)
    exhibit.publish(options.out, "figure1", figure, rows)
    return 0


if __name__ == "__main__":
    sys.exit(cli.guard(main))
