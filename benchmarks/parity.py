"""Replays recorded updates of the official implementation and compares everything.

    python benchmarks/parity.py FILE.npz [FILE.npz ...]

Each file holds fixed batches, the official implementation's initial state, and what that
implementation computed from them (tests/data/parity/README.md has the format). The package's own
jitted ``update`` is run on the same batches from the same state. For each stored step, and each
group of arrays (actor, critic, target_critic, value, every info), the largest error over the
group's arrays is printed: the L2 norm of the difference over the L2 norm of the reference. The exit
status is 1 if any error exceeds the tolerance of its step.
"""

import argparse
import ast
import dataclasses
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from iql_jax.algorithm import AgentConfig, IQLState, Params, Transitions, create_state, update

FIRST_STEP_TOLERANCE = 1e-5
LAST_STEP_TOLERANCE = 2e-4
REQUIRED = (
    *("hidden_dims", "discount", "expectile", "temperature", "tau"),
    *("max_steps", "opt_decay_schedule"),
)
NETWORKS = ("actor", "critic", "target_critic", "value")

compiled_update = jax.jit(update)  # One for all files, so that alike ones share a program.


class Comparison(NamedTuple):
    """The largest relative error of one group of arrays after ``step`` updates."""

    step: int
    group: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


def stored_params(data: Any, step: int, network: str) -> Params:
    """The parameters of a network after ``step`` updates, as this package nests them."""
    prefix = f"step_{step}/{network}/"
    leaves = {
        tuple(name.removeprefix(prefix).split("/")): jnp.asarray(data[name])
        for name in data.files
        if name.startswith(prefix)
    }
    return {"params": traverse_util.unflatten_dict(leaves)}


def stored_batch(data: Any, step: int) -> Transitions:
    """The batch of the update numbered ``step``, counted from 0."""
    names = ("observations", "actions", "rewards", "masks", "next_observations")
    return Transitions(**{name: jnp.asarray(data[f"batch/{name}"][step]) for name in names})


def agent_config(hyper: Any) -> AgentConfig:
    """The settings of a file's hyperparameters, each of which is used.

    Raises:
        ValueError: On a key that is unknown or missing, and on a value that cannot be replayed.
    """
    if not isinstance(hyper, dict):
        raise ValueError(f"hyper is {hyper!r}, not a dict")
    keys = {field.name for field in dataclasses.fields(AgentConfig)}
    for key in hyper:
        if key not in keys | {"seed"}:  # Of the seed, the stored parameters are all that matters.
            raise ValueError(f"hyper has the unknown key {key!r}")
    for key in REQUIRED:
        if key not in hyper:
            raise ValueError(f"hyper has no {key!r}")
    if hyper.get("dropout_rate"):
        raise ValueError("hyper has a dropout_rate; only updates without dropout can be replayed")
    settings = {key: value for key, value in hyper.items() if key in keys - {"dropout_rate"}}
    if settings["opt_decay_schedule"] is None:
        settings["opt_decay_schedule"] = "none"
        del settings["max_steps"]
    return AgentConfig(**settings)


def initial_state(data: Any, config: AgentConfig) -> IQLState:
    """A state with the file's initial parameters."""
    batch = stored_batch(data, 0)
    observation_dim, action_dim = batch.observations.shape[-1], batch.actions.shape[-1]
    state = create_state(jax.random.key(0), observation_dim, action_dim, config)
    params = {network: stored_params(data, 0, network) for network in NETWORKS}
    if _shapes(params) != _shapes(network_params(state)):
        raise ValueError("step_0 has other arrays or shapes than its hyper asks for")
    return state.replace(
        actor=state.actor.replace(params=params["actor"]),
        critic=state.critic.replace(params=params["critic"]),
        value=state.value.replace(params=params["value"]),
        target_critic_params=params["target_critic"],
    )


def network_params(state: IQLState) -> dict[str, Params]:
    """The parameters of every network by the names of the parity files."""
    return {
        "actor": state.actor.params,
        "critic": state.critic.params,
        "target_critic": state.target_critic_params,
        "value": state.value.params,
    }


def _shapes(tree: Params) -> dict[tuple[str, ...], tuple[int, ...]]:
    return {path: np.shape(leaf) for path, leaf in traverse_util.flatten_dict(tree).items()}


def relative_error(actual: Any, reference: Any) -> float:
    """L2 norm of the difference over the L2 norm of the reference, in float64."""
    actual, reference = np.asarray(actual, np.float64), np.asarray(reference, np.float64)
    difference = np.linalg.norm(actual - reference)
    norm = np.linalg.norm(reference)
    return float(difference / norm) if norm > 0 else float(difference)


def compare(path: Path) -> Iterator[Comparison]:
    """Replay the updates of a parity file; yield one comparison for each step and group."""
    with np.load(path, allow_pickle=False) as data:
        config = agent_config(ast.literal_eval(str(data["hyper"])))
        num_updates = data["batch/rewards"].shape[0]
        stored_steps = sorted(
            {
                int(name.split("/")[0].removeprefix("step_"))
                for name in data.files
                if "step_" in name
            }
        )
        infos = sorted(
            name.removeprefix("info/") for name in data.files if name.startswith("info/")
        )
        state = initial_state(data, config)
        for step in range(1, num_updates + 1):
            batch = stored_batch(data, step - 1)
            target_q = state.target_q(batch.observations, batch.actions)
            state, metrics = compiled_update(state, batch)
            if step not in stored_steps:
                continue
            tolerance = FIRST_STEP_TOLERANCE if step == 1 else LAST_STEP_TOLERANCE
            for network, params in network_params(state).items():
                reference = traverse_util.flatten_dict(stored_params(data, step, network))
                actual = traverse_util.flatten_dict(params)
                errors = [relative_error(actual[leaf], reference[leaf]) for leaf in reference]
                # Not Python's max, which passes over a NaN that is not the first.
                yield Comparison(step, network, float(np.max(errors)), tolerance)
            # The advantage as the actor saw it: target critics before, V after this update.
            computed = {**metrics, "adv": target_q - state.v(batch.observations)}
            for info in infos:
                error = relative_error(computed[info], data[f"info/{info}"][step - 1])
                yield Comparison(step, f"info/{info}", error, tolerance)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparisons of every file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz", help="recorded updates")
    all_passed = True
    for path in parser.parse_args(arguments).files:
        try:
            comparisons = list(compare(path))
        except (OSError, EOFError, KeyError, ValueError, SyntaxError, zipfile.BadZipFile) as error:
            print(f"{path}: cannot replay this file: {error}", file=sys.stderr)
            return 2
        print(f"{path}\n{'step':>6}  {'group':<18}{'error':>10}{'tolerance':>11}")
        for row in comparisons:
            verdict = "" if row.passed else "  FAILED"
            print(
                f"{row.step:>6}  {row.group:<18}{row.error:>10.2e}{row.tolerance:>11.0e}{verdict}"
            )
        all_passed = all_passed and bool(comparisons) and all(row.passed for row in comparisons)
    print("parity: passed" if all_passed else "parity: FAILED")
    return 0 if all_passed else 1


if __name__ == "__main__":
    sys.exit(main())
