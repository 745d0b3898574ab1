"""Whether a run overfits: its networks on its own transitions, and on others of the same kind.

    python benchmarks/held_out.py --run=runs/antmaze

The run's embedded dataset is made once more, smaller and with another seed, in a temporary folder.
The table compares the two at the newest checkpoint:

- TD error: of both critics, (Q - (r + discount mask V'))^2;
- advantage: mean and standard deviation of Q' - V, with the target critics;
- weight: AWR's, exp(temperature x advantage), clipped;
- effective share: of the transitions, (sum w)^2 / (n sum w^2) of these weights: what the actor
  learns from;
- log-likelihood: of the data's actions under the policy, plain and weighted with w.

Learned from enough data, both columns agree.
"""

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import reports
from iql_jax import cli
from iql_jax.algorithm import losses
from iql_jax.algorithm.state import IQLState
from iql_jax.algorithm.types import Transitions
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.generation import catalog
from iql_jax.generation.generate import generate
from iql_jax.training.config import Config
from iql_jax.training.trained import load_run
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted


def main() -> None:
    """Load, make, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=100_000, help="of the new data (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the new data, where a run's own have 0 (1)"
    )
    parser.add_argument("--out", default="", help="markdown file to write the table to")
    options = parser.parse_args()
    config, dataset, state, step = load_run(options.run, progress=False)
    check_other_seed(dataset, options.seed)
    others = made_anew(dataset, config, options.steps, options.seed)
    reports.publish(report(state, step, dataset, others), options.out)


def check_other_seed(dataset: Dataset, seed: int) -> None:
    """Refuse the seed that the run's own data were made with: part of them would come again."""
    own = (dataset.record["collection"] or {}).get("seed")
    if own == seed:
        raise UserError(f"--seed {seed} is that of the run's own data: give another")


def made_anew(dataset: Dataset, config: Config, steps: int, seed: int) -> Transitions:
    """Transitions of the same dataset with another seed, in the terms of the first.

    Args:
        dataset: the run's.
        config: the run's.
        steps: steps to make; fewer are left where the config drops some.
        seed: to make them with.

    Raises:
        UserError: If the dataset is none that this package makes with a seed.
    """
    dataset_id = dataset.record["id"]
    if dataset_id not in catalog.GENERATED or catalog.GENERATED[dataset_id].steps is None:
        raise UserError(f"{dataset_id} cannot be made with another seed; see iql_jax.data list")
    plain = dataclasses.replace(
        config, dataset=dataset_id, normalize_observations=False, reward_transform="none"
    )
    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.dict(os.environ, MINARI_DATASETS_PATH=scratch, IQL_JAX_CACHE=scratch),
    ):
        try:
            generate(dataset_id, steps, seed, score_episodes=1)
        except Interrupted as error:
            raise Interrupted(error.signum) from None  # Nothing is kept that could be resumed.
        made = load_dataset(plain).transitions
    normalization = dataset.record["choices"]["normalization"] or {"mean": 0.0, "std": 1.0}
    mean, std = (np.asarray(normalization[key], np.float32) for key in ("mean", "std"))
    return made.replace(
        observations=(made.observations - mean) / std,
        next_observations=(made.next_observations - mean) / std,
        rewards=dataset.reward_transform(made.rewards),
    )


def report(state: IQLState, step: int, dataset: Dataset, others: Transitions) -> str:
    """The table, in markdown; of the run's own transitions no more than there are others."""
    own = dataset.transitions
    chosen = np.random.default_rng(0).permutation(own.size)[: others.size]
    columns = [measure(state, jax.tree.map(lambda x: x[chosen], own)), measure(state, others)]
    header = [f"update {step:,}", f"{len(chosen):,} of its own", f"{others.size:,} others"]
    rows = [[name, *(f"{column[name]:.3g}" for column in columns)] for name in columns[0]]
    return (
        f"{reports.markdown(header, rows)}\n\n{dataset.record['id']}, {own.size:,} transitions.\n"
    )


@jax.jit
def measure(state: IQLState, batch: Transitions) -> dict[str, jax.Array]:
    """Each row's number for N transitions at once."""
    hp = state.hyperparameters
    values, next_values = (
        state.value.apply_fn(state.value.params, observations)
        for observations in (batch.observations, batch.next_observations)
    )
    q_values = state.critic.apply_fn(state.critic.params, batch.observations, batch.actions)
    targets = losses.td_targets(batch.rewards, batch.masks, next_values, hp.discount)
    advantages = state.target_q(batch.observations, batch.actions) - values
    weights = losses.advantage_weights(advantages, hp.temperature, hp.max_weight)
    policy = state.actor.apply_fn(state.actor.params, batch.observations)
    log_probs = policy.log_prob(batch.actions)
    return {
        "TD error": jnp.mean((q_values - targets[None]) ** 2),
        "advantage, mean": jnp.mean(advantages),
        "advantage, std": jnp.std(advantages),
        "weight": jnp.mean(weights),
        "effective share": losses.effective_sample_size(weights),
        "log-likelihood": jnp.mean(log_probs),
        "log-likelihood, weighted": jnp.sum(weights * log_probs) / jnp.sum(weights),
    }


if __name__ == "__main__":
    cli.guard(main)
