"""Updates a second of ``train_offline.py`` at AntMaze size, beside a peer's training loop.

    python benchmarks/throughput.py [--unifloral=CHECKOUT] [--repeats=5] [--json=FILE]

Sizes are AntMaze's: observations 29, actions 8, batch 256, hidden layers 256 x 256, 1M transitions
(made up: only their shapes matter). Ours is the figure that ``train_offline.py`` itself prints, in
a fresh process, evaluation off. The peer is unifloral (github.com/EmptyJackson/unifloral), whose
``lax.scan`` of 2,500 updates with the data on the device is timed in a fresh process too, warm;
its environment and logging packages are replaced by empty modules, for its loop does not use them
(distrax must be installed). The two run in turn, and the medians of the repeats are compared.

The limit is the rate at which this machine's matrix product (2048 x 2048, float32) would do one
update's 594 MFLOP.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from tqdm import tqdm

ROOT = Path(__file__).parent.parent

OBSERVATION_DIM, ACTION_DIM, BATCH = 29, 8, 256
TRANSITIONS = 1_000_000
FLOP_PER_UPDATE = 594e6  # 1.16 M multiply-adds a sample, forward and backward; see the README.
SCAN = 2_500

_UNIFLORAL = flags.DEFINE_string("unifloral", "", "A checkout of unifloral to time beside ours.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Runs of each.", lower_bound=1)
_UPDATES = flags.DEFINE_integer("updates", 10_000, "Updates in a timed run.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "", "File to write the figures to.")
_ONLY = flags.DEFINE_enum("only", None, ["unifloral", "matmul"], "Internal: time one, here.")


def main(_: Sequence[str]) -> None:
    """Time everything in turn and print the medians."""
    if _ONLY.value == "unifloral":
        print(json.dumps(time_unifloral()))
        return
    if _ONLY.value == "matmul":
        print(json.dumps(time_matmul()))
        return
    contenders = ["iql_jax", *(["unifloral"] if _UNIFLORAL.value else [])]
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            **os.environ,
            "MINARI_DATASETS_PATH": f"{scratch}/datasets",
            "IQL_JAX_CACHE": f"{scratch}/cache",
        }
        write_dataset(Path(scratch) / "datasets" / "benchmark" / "antmaze-size-v0")
        for repeat in tqdm(range(_REPEATS.value), unit="repeat"):
            for name in contenders:
                if name == "iql_jax":
                    rate = run_ours(Path(scratch) / f"run{repeat}", environment)
                else:
                    rate = run_self("unifloral")
                rates[name].append(rate)
        matmul = run_self("matmul")
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    report(medians, rates, matmul)


def report(medians: dict[str, float], rates: dict[str, list[float]], matmul: float) -> None:
    """Print the table, and write the JSON where asked."""
    limit = matmul / FLOP_PER_UPDATE
    print(f"device: {jax.devices()[0].device_kind}, {os.cpu_count()} cores; jax {jax.__version__}")
    print(f"matrix product: {matmul / 1e9:.0f} GFLOP/s, a limit of {limit:.0f} updates/s")
    for name, median in medians.items():
        low, high = min(rates[name]), max(rates[name])
        print(
            f"{name:>10}: median {median:.0f} updates/s ({low:.0f} to {high:.0f}), "
            f"{100 * median / limit:.0f} % of the limit"
        )
    if "unifloral" in medians:
        print(f"ours / unifloral: {medians['iql_jax'] / medians['unifloral']:.2f}")
    if _JSON.value:
        figures = {"medians": medians, "rates": rates, "matmul_flops": matmul}
        Path(_JSON.value).write_text(json.dumps(figures, indent=2) + "\n")


def write_dataset(folder: Path) -> None:
    """A Minari dataset of random numbers in AntMaze's shapes: 1,000 episodes of 1,000 steps."""
    import gymnasium as gym
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    rng = np.random.default_rng(0)
    steps, episodes = 1_000, TRANSITIONS // 1_000
    space = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_DIM,), np.float32)
    folder.joinpath("data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data",
        observation_space=space,
        action_space=gym.spaces.Box(-1, 1, (ACTION_DIM,), np.float32),
        data_format="hdf5",
    )
    storage.update_metadata({"dataset_id": "benchmark/antmaze-size-v0", "minari_version": "0.5.4"})
    ends = np.arange(steps) == steps - 1
    storage.update_episodes(
        EpisodeBuffer(
            id=episode,
            observations=rng.standard_normal((steps + 1, OBSERVATION_DIM), np.float32),
            actions=rng.uniform(-1, 1, (steps, ACTION_DIM)).astype(np.float32),
            rewards=-np.ones(steps),
            terminations=np.zeros(steps, bool),
            truncations=ends,
        )
        for episode in range(episodes)
    )


def run_ours(workdir: Path, environment: dict[str, str]) -> float:
    """The updates a second that ``train_offline.py`` prints."""
    command = [
        sys.executable,
        "train_offline.py",
        "--config=configs/antmaze.py",
        f"--workdir={workdir}",
        "--config.dataset=benchmark/antmaze-size-v0",
        f"--config.max_steps={_UPDATES.value}",
        "--config.eval_episodes=0",
        "--config.progress=False",
    ]
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        sys.exit(f"train_offline.py failed:\n{process.stderr}")
    summary = json.loads((workdir / "summary.json").read_text())
    return float(summary["updates_per_second"])


def run_self(only: str) -> float:
    """Time something in a fresh process of this file."""
    command = [sys.executable, "-W", "ignore", __file__, f"--only={only}"]
    command += [f"--unifloral={_UNIFLORAL.value}", f"--updates={_UPDATES.value}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        sys.exit(f"timing {only} failed:\n{process.stderr}")
    return float(json.loads(process.stdout.splitlines()[-1]))


def time_matmul() -> float:
    """Floating-point operations a second of a large float32 matrix product."""
    size = 2_048
    a = jnp.ones((size, size)) * 1.1
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / statistics.median(seconds)


def time_unifloral() -> float:
    """Updates a second of unifloral's own train step in its own scan."""
    for name in ("d4rl", "gym", "wandb", "tyro"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.path.insert(0, str(Path(_UNIFLORAL.value) / "algorithms"))
    import iql as unifloral  # The checkout's algorithms/iql.py.

    keys = jax.random.split(jax.random.key(0), 4)
    dataset = unifloral.Transition(
        obs=jax.random.normal(keys[0], (TRANSITIONS, OBSERVATION_DIM)),
        action=jax.random.uniform(keys[1], (TRANSITIONS, ACTION_DIM), minval=-1),
        reward=-jnp.ones(TRANSITIONS),
        next_obs=jax.random.normal(keys[2], (TRANSITIONS, OBSERVATION_DIM)),
        done=jnp.zeros(TRANSITIONS),
    )
    args = unifloral.Args(batch_size=BATCH)
    mean, std = dataset.obs.mean(axis=0), dataset.obs.std(axis=0)
    observation, action = jnp.zeros(OBSERVATION_DIM), jnp.zeros(ACTION_DIM)
    actor = unifloral.TanhGaussianActor(ACTION_DIM, mean, std)
    critic = unifloral.DualQNetwork(mean, std)
    value = unifloral.StateValueFunction(mean, std)

    def create(network: Any, *inputs: Any) -> Any:
        return unifloral.create_train_state(args, keys[3], network, inputs)

    state = unifloral.AgentTrainState(
        actor=create(actor, observation),
        dual_q=create(critic, observation, action),
        dual_q_target=create(critic, observation, action),
        value=create(value, observation),
    )
    step = unifloral.make_train_step(args, actor.apply, critic.apply, value.apply, dataset)
    carry = (keys[3], state)

    # As its main program does: a scan at top level, which JAX compiles once and then reuses.
    carry, _ = jax.lax.scan(step, carry, None, SCAN)
    jax.block_until_ready(carry)
    scans = max(1, _UPDATES.value // SCAN)
    start = time.perf_counter()
    for _ in range(scans):
        carry, _ = jax.lax.scan(step, carry, None, SCAN)
    jax.block_until_ready(carry)
    return scans * SCAN / (time.perf_counter() - start)


if __name__ == "__main__":
    app.run(main)
