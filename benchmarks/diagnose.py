"""Tables that say why a trained run does not do better.

    python benchmarks/diagnose.py weights RUN
    python benchmarks/diagnose.py failures RUN [RUN ...]
    python benchmarks/diagnose.py held_out RUN --data FILE
    python benchmarks/diagnose.py noise RUN

*weights*: how many transitions the actor learns from. V and the critics of IQL do not depend on the
policy, so those of one run give the weights w = min(exp(temperature x advantage), max_weight) that
each temperature and clip would make of its data. Shown are the effective sample size as a share of
the transitions, (sum w)^2 / (n sum w^2), and the share of the weight on negative advantages. A
policy needs both: enough transitions to learn to act at all, and the better ones among them.

*failures*: how episodes of AntMaze fail, by their last 200 steps. On the back: the ant's up pointed
down in the mean; on the spot: it stayed within 2 m; under way: all else. Ants of the datasets keep
their body's x axis along the world's: turned is by more than 0.8 rad, of upright steps.

*held_out*: how much of what a run learned is its data's own. FILE (or a dataset's id) was collected
as the run's data were. Shown are the root mean square of TD errors, the mean of V, and the log
density of actions under the policy, weighted as the actor's loss weighs them.

*noise*: what D4RL's noise does to a policy of Kitchen: its score with it, and with the tenth of it
that today's environment has by itself.
"""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from common import tables
from iql_jax import cli
from iql_jax.algorithm import IQLState, Transitions, losses
from iql_jax.data.load import load_dataset
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.episodes import EvaluationResult
from iql_jax.envs.specs import parse_spec
from iql_jax.training.evaluation import Evaluation, describe, open_evaluator
from iql_jax.training.load import Trained, load_run
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest

TEMPERATURES, MAX_WEIGHTS = (0.3, 1.0, 3.0, 10.0), (10.0, 100.0)
MOST = 100_000  # Transitions that are looked at, drawn at random.
NOISE_RATIOS = (0.1, 0.01)  # D4RL's, FrankaKitchen-v1's.
KINDS = ("on the back", "on the spot", "under way")
LAST_STEPS, SPOT, TURNED, UPRIGHT = 200, 2.0, 0.8, 0.5  # Steps, meters, rad, cosine.

Floats = npt.NDArray[np.floating]


def main() -> None:
    """Prints one of the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("weights", "failures", "held_out", "noise"))
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--max_weights", type=float, nargs="+", default=MAX_WEIGHTS)
    parser.add_argument(
        "--episodes", type=int, default=100, help="of failures and noise (%(default)s)"
    )
    parser.add_argument("--data", help="of held_out: other data of the same kind")
    parser.add_argument("--out", type=Path, help="markdown file of the table")
    options = parser.parse_args()
    texts = []
    for folder in options.runs:
        run = load_run(folder, progress=False)
        name = f"{folder}: {run.dataset.record['id']}, update {run.step:,}"
        if options.what == "weights":
            table = weights(
                advantages(run.state, some(run.dataset.transitions)),
                options.temperatures,
                options.max_weights,
            )
        elif options.what == "failures":
            table = failures(run, options.episodes)
        elif options.what == "noise":
            table = noise(run, options.episodes)
        else:
            table = held_out(run, options.data)
        texts.append(f"{name}\n\n{table}")
    tables.publish("\n\n".join(texts), options.out)


def some(arrays: Mapping[str, Floats], count: int = MOST) -> Transitions:
    """Returns at most so many of some transitions, drawn at random."""
    rows = np.random.default_rng(0).permutation(len(arrays["rewards"]))[:count]
    return Transitions(**{name: array[rows] for name, array in arrays.items()})


def advantages(state: IQLState, batch: Transitions) -> jax.Array:
    """Returns ``Q'(s, a) - V(s)``."""
    return state.target_q(batch.observations, batch.actions) - state.v(batch.observations)


# The actor's weights.


def weights(
    advantages: jax.Array | Floats, temperatures: Sequence[float], max_weights: Sequence[float]
) -> str:
    """Returns a row for each temperature, with a column for each ``max_weight``."""
    rows = []
    for temperature in temperatures:
        row = [f"{temperature:g}"]
        for max_weight in max_weights:
            w = losses.advantage_weights(advantages, temperature, max_weight)
            below = jnp.sum(w, where=advantages < 0) / jnp.sum(w)
            row.append(f"{losses.effective_sample_size(w):.1%}, {below:.0%} below")
        rows.append(row)
    header = ["temperature", *(f"max_weight {max_weight:g}" for max_weight in max_weights)]
    return tables.markdown(header, rows)


# Other data than the run's.


def held_out(run: Trained, data: str) -> str:
    """Returns a row for the run's data, and one for other data."""
    others = load_dataset(run.config, data, progress=False)
    named = {"its own": run.dataset.transitions, "held out": others.transitions}
    rows = [[name, *held_out_row(run.state, some(arrays))] for name, arrays in named.items()]
    return tables.markdown(["data", "TD error", "V", "weighted log density"], rows)


def held_out_row(state: IQLState, batch: Transitions) -> list[str]:
    """Returns the numbers of ``held_out`` for some transitions."""
    hp = state.hyperparameters
    target = batch.rewards + hp.discount * batch.masks * state.v(batch.next_observations)
    errors = state.target_q(batch.observations, batch.actions) - target
    w = losses.advantage_weights(advantages(state, batch), hp.temperature, hp.max_weight)
    density = state.actor.apply_fn(state.actor.params, batch.observations).log_prob(batch.actions)
    numbers = (
        jnp.sqrt(jnp.mean(errors**2)),
        jnp.mean(state.v(batch.observations)),
        jnp.sum(w * density) / jnp.sum(w),
    )
    return [f"{number:.2f}" for number in numbers]


# Noise.


def noise(run: Trained, episodes: int) -> str:
    """Evaluates a run's policy in Kitchen, and returns its scores by the ratio of the noise."""
    environment = run.dataset.environment
    if environment is None or "D4RLKitchen" not in environment.spec:
        raise UserError(f"{run.dataset.record['id']} is none of D4RL's Kitchen")
    rows = []
    for ratio in NOISE_RATIOS:
        spec = parse_spec(environment.spec)
        spec.kwargs["noise_ratio"] = ratio
        numbers = describe(
            evaluate(run, dataclasses.replace(environment, spec=spec.to_json()), episodes),
            run.dataset.score_rule,
        )
        rows.append([f"{ratio:g}", f"{numbers['score']:.1f}", f"{numbers['return_std']:.2f}"])
    return tables.markdown(["noise", "score", "deviation of completed tasks"], rows)


def evaluate(
    run: Trained, environment: EnvironmentDescription, episodes: int, record: int = 0
) -> EvaluationResult:
    """Evaluates a run's policy in an environment."""
    with StopRequest() as stop, open_evaluator(run.config, [environment]) as evaluator:
        evaluation = Evaluation(run.config, environment, run.dataset.score_rule, evaluator)
        return evaluation.episodes(run.state, run.step, episodes, stop, record=record)


# Failed episodes.


def failures(run: Trained, episodes: int) -> str:
    """Evaluates a run's policy, and returns how its ants fail."""
    environment = run.dataset.environment
    if environment is None or environment.maze is None or environment.action_dim != 8:
        raise UserError(f"{run.dataset.record['id']} is none of AntMaze's datasets")
    result = evaluate(run, environment, episodes, record=episodes)
    assert result.successes is not None
    paths = [environment.unnormalized(path) for path in result.trajectories]
    header = ["episodes", "failed", *KINDS, "ants ever turned", "steps turned"]
    return tables.markdown(header, [count_failures(paths, result.successes)])


def count_failures(
    paths: Sequence[Floats], successes: Sequence[bool] | npt.NDArray[np.bool_]
) -> list[str]:
    """Returns the row of some episodes, by their observations [T, 29 or more]."""
    failed = [path for path, success in zip(paths, successes, strict=True) if not success]
    kinds = Counter(kind_of_failure(path) for path in failed)
    upright, turned, ever = np.sum([turns(path) for path in paths], axis=0)
    counts = [len(paths), len(failed), *(kinds[kind] for kind in KINDS), ever]
    return [*map(str, counts), f"{turned / max(upright, 1):.0%}"]


def kind_of_failure(path: Floats) -> str:
    """Returns which of ``KINDS`` an episode's observations [T, 29 or more] are."""
    last = path[-LAST_STEPS:]
    if up_and_heading(last)[0].mean() < 0.0:
        return "on the back"
    return "on the spot" if np.ptp(last[:, :2], axis=0).max() < SPOT else "under way"


def turns(path: Floats) -> tuple[int, int, int]:
    """Returns how many observations are upright, how many of these are turned, and 1 if any is."""
    up, heading = up_and_heading(path)
    turned = (up > UPRIGHT) & (np.abs(heading) > TURNED)
    return int((up > UPRIGHT).sum()), int(turned.sum()), int(turned.any())


def up_and_heading(path: Floats) -> tuple[Floats, Floats]:
    """Returns the cosine of the body's tilt, and the angle of its x axis seen from above, [T]."""
    w, x, y, z = path[:, 3:7].T
    up = 1.0 - 2.0 * (x**2 + y**2)
    return up, np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y**2 + z**2))


if __name__ == "__main__":
    sys.exit(cli.guard(main))
