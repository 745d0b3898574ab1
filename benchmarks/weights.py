"""How many transitions an actor learns from, at any temperature and clip of AWR's weights.

    python benchmarks/weights.py --run=runs/antmaze

V and the critics of IQL know nothing of the policy: those of one run give the weights that every
temperature and every ``max_weight`` would make of its data. The table's cells are

- the effective share of the transitions, (sum w)^2 / (n sum w^2), of weights w
  = min(exp(temperature x advantage), max_weight): 1 where all weights are equal;
- after it, the share of the weight that lies on transitions whose advantage is negative: what is
  learned from actions that are no better than the usual.

A policy needs both: enough transitions to learn to act at all, and the better ones among them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import reports
from iql_jax import cli
from iql_jax.algorithm import losses
from iql_jax.algorithm.types import Array
from iql_jax.training.trained import Trained, load_run

TEMPERATURES = (0.3, 1.0, 3.0, 10.0)
MAX_WEIGHTS = (10.0, 100.0)
MOST = 100_000  # Transitions that are looked at, drawn at random.


def main() -> None:
    """Load, weigh, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--max_weights", type=float, nargs="+", default=MAX_WEIGHTS)
    parser.add_argument("--out", default="", help="markdown file to write the table to")
    options = parser.parse_args()
    if min(options.temperatures) < 0.0 or min(options.max_weights) <= 0.0:
        parser.error("temperatures are 0 or more, and max_weights positive")
    run = load_run(options.run, progress=False)
    table = report(advantages(run), options.temperatures, options.max_weights)
    told = f"{run.dataset.record['id']}, update {run.step:,}."
    reports.publish(f"{table}\n\n{told}\n", options.out)


def advantages(run: Trained) -> jax.Array:
    """``Q'(s, a) - V(s)`` of the run's transitions, or of ``MOST`` of them."""
    state, size = run.state, run.dataset.transitions.size
    chosen = np.random.default_rng(0).permutation(size)[:MOST]
    batch = jax.tree.map(lambda x: x[chosen], run.dataset.transitions)
    values = state.value.apply_fn(state.value.params, batch.observations)
    return state.target_q(batch.observations, batch.actions) - values


def report(advantages: Array, temperatures: Sequence[float], max_weights: Sequence[float]) -> str:
    """The table, in markdown: a row for each temperature, a column for each ``max_weight``."""
    header = ["temperature", *(f"max_weight {max_weight:g}" for max_weight in max_weights)]
    rows = []
    for temperature in temperatures:
        row = [f"{temperature:g}"]
        for max_weight in max_weights:
            weights = losses.advantage_weights(advantages, temperature, max_weight)
            below = jnp.sum(weights, where=advantages < 0) / jnp.sum(weights)
            row.append(f"{losses.effective_sample_size(weights):.1%}, {below:.0%} below")
        rows.append(row)
    return reports.markdown(header, rows)


if __name__ == "__main__":
    cli.guard(main)
