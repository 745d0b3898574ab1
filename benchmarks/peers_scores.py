"""Success of other implementations of IQL beside this package's, on the same data.

    python benchmarks/peers_scores.py --config pointmaze --dataset iql/pointmaze/medium-v0 \
        --updates 30000 --interval 5000 --peers CHECKOUTS
    python benchmarks/peers_scores.py --config antmaze --dataset iql/antmaze/medium-play-v0 \
        --updates 100000 --interval 50000 --peers CHECKOUTS

Transitions are those of the config, and hyperparameters the same for all (``peers.py``); each
learner is in its own documented training loop, in a process of its own, one after the other. CORL
is a checkout in CHECKOUTS; TorchRL and d3rlpy are compared where they are installed. Seconds are of
training, and of what it has to prepare. The policies' most likely actions are evaluated alike.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import peers
from common import tables
from iql_jax import cli
from iql_jax.algorithm import AgentConfig, Transitions, create_state, update_n
from iql_jax.envs.episodes import EpisodeTask, EvaluationResult, Evaluator, derived_seed
from iql_jax.envs.policy import NumpyPolicy
from iql_jax.generation.provide import provide
from iql_jax.training.compilation import compile_program
from iql_jax.training.evaluation import numpy_policy
from iql_jax.training.presets import load_config
from iql_jax.training.run import load_data

OURS = "iql_jax"
WITH_POLICY = ("CORL", "torchrl", "d3rlpy")  # Of PyTorch, whose layers are read.
GOAL = 90.0  # Percent.


def main() -> None:
    """Trains all in turn, and prints their table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="name of a config")
    parser.add_argument("--dataset", required=True, help="id of a maze's dataset")
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--interval", type=int, required=True, help="updates between evaluations")
    parser.add_argument("--episodes", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--peers", type=Path, default=Path(), help="folder of checkouts")
    parser.add_argument("--out", type=Path, help="markdown file of the table")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # Trains one in this process.
    options = parser.parse_args()
    if options.only:
        print(json.dumps(curve(options.only, options)))
        return
    found = [
        name
        for name in WITH_POLICY
        if (options.peers / name).is_dir() or importlib.util.find_spec(name) is not None
    ]
    curves = {}
    for name in (OURS, *found):
        command = [sys.executable, "-W", "ignore", *sys.argv, f"--only={name}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{name} failed")
        curves[name] = json.loads(done.stdout.splitlines()[-1])
    tables.publish(table(curves, options), options.out)


def curve(name: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """Trains one learner; returns updates, seconds and success at every evaluation."""
    config = load_config(options.config, dataset=options.dataset, max_steps=options.updates)
    dataset = load_data(config, provide(config.dataset))
    environment = dataset.require_environment()
    start = time.perf_counter()
    if name == OURS:
        learner = ours(dataset.transitions, config)
    else:
        arrays = {key: np.array(array) for key, array in dataset.transitions.items()}
        arrays["terminals"] = 1.0 - arrays.pop("masks")
        learner = peers.PEERS[name](options.peers / name, arrays, config)
    rows, seconds, log_std = [], time.perf_counter() - start, np.zeros(environment.action_dim)
    with Evaluator() as evaluator:
        evaluator.prepare([environment])
        for done in range(options.interval, options.updates + 1, options.interval):
            start = time.perf_counter()
            learner.train(options.interval)
            seconds += time.perf_counter() - start
            policy = NumpyPolicy.from_layers(learner.layers(), log_std)
            task = EpisodeTask(environment, policy, derived_seed(0, done))
            (result,) = evaluator.run([task], options.episodes)
            assert isinstance(result, EvaluationResult)
            assert result.successes is not None
            score = 100.0 * float(np.mean(result.successes))
            rows.append({"updates": done, "seconds": seconds, "score": score})
            print(f"{name}: {done:,} updates, {seconds:.0f} s, {score:.0f} %", file=sys.stderr)
    return rows


def ours(data: dict[str, Any], config: AgentConfig) -> peers.Peer:
    """Returns this package's learner."""
    dims = data["observations"].shape[1], data["actions"].shape[1]
    state, on_device = create_state(jax.random.key(0), *dims, config), Transitions(**data)
    lowered = update_n.lower(state, on_device, np.int32(0), batch_size=peers.BATCH)
    program, on_device = compile_program(lowered), jax.device_put(on_device)

    def train(count: int) -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program(state, on_device, np.int32(count)))

    def layers() -> list[Any]:
        policy = numpy_policy(state.actor)
        return [(w.T, bias) for w, bias in zip(policy.weights, policy.biases, strict=True)]

    return peers.Peer(train, layers=layers)


def table(curves: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> str:
    """Returns the table in markdown."""
    rows = []
    for name, curve in curves.items():
        reached = next((row["seconds"] for row in curve if row["score"] >= GOAL), None)
        last = curve[-1]
        rows.append(
            [
                name,
                ", ".join(f"{row['score']:.0f}" for row in curve),
                f"{last['seconds']:,.0f}",
                f"{last['updates'] / last['seconds']:,.0f}",
                "not reached" if reached is None else f"{reached:,.0f}",
            ]
        )
    every = f"success (%) every {options.interval:,} updates"
    header = ["", every, "seconds of training", "updates/s", f"seconds to {GOAL:.0f} %"]
    return f"{options.dataset}\n\n{tables.markdown(header, rows)}"


if __name__ == "__main__":
    cli.guard(main)
