"""Updates a second at AntMaze size: one run, populations, and other implementations beside them.

    python benchmarks/throughput.py --repeats=5 --populations=1,4,16,64,256 \
        --peers=CHECKOUTS --json=throughput.json --picture=throughput.png

Sizes are AntMaze's: observations 29, actions 8, batch 256, hidden layers 256 x 256, 1M transitions
(made up: only their shapes matter), sampling included, evaluation excluded. Every timing is taken
in a fresh process, warm; all contenders take their turn in each repeat, and medians over the
repeats are compared. The package's own figures are those of the programs that ``train_offline.py``
runs. Only jax, flax, optax, chex, absl-py and tqdm are needed, and what the peers in the folder
CHECKOUTS need (see ``peers.py``): any of implicit_q_learning, JAX-CORL, unifloral and CORL.

One run is compared with a peer within each repeat, for a machine's speed drifts: told are the
median of those ratios and their range.

The limit is the rate at which this device's matrix product (2048 x 2048, float32, at JAX's default
precision) would do the products of one update of the package, 594 MFLOP. The peers' updates are not
held against it: theirs need not be as many.
"""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from tqdm import tqdm

import commands
import medians
import peers
from antmaze_size import device_name, made_up_transitions, new_state
from counts import define_counts
from iql_jax.algorithm.learner import update_n
from iql_jax.populations.mapped import Placement, Pool, maps_in_turn, stack, update_population_n
from iql_jax.training.compilation import compile_program

FLOP_PER_UPDATE = 594e6  # 1.16 M multiply-adds a sample, forward and backward; 256 samples.

_PEERS = flags.DEFINE_string("peers", "", "Folder of other implementations' checkouts.")
_POPULATIONS = define_counts("populations", ["1"], "Sizes of populations to time.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "How often each takes its turn.", lower_bound=1)
_UPDATES = flags.DEFINE_integer("updates", 5_000, "Updates in a timing, of all members together.")
_JSON = flags.DEFINE_string("json", "", "File to write the figures to.")
_PICTURE = flags.DEFINE_string("picture", "", "PNG file to draw them to.")
_ONLY = flags.DEFINE_string("only", "", "Internal: time one contender in this process.")

Figures = dict[str, float]


def main(_: Sequence[str]) -> None:
    """Time everything in turn, and tell the medians."""
    if _ONLY.value:
        print(json.dumps(measure(_ONLY.value)))
        return
    for path in filter(None, (_JSON.value, _PICTURE.value)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)  # A path that cannot be fails here.
    contenders = ["one run", *(f"population of {size}" for size in _POPULATIONS.value)]
    if _PEERS.value:
        found = [name for name in peers.PEERS if (Path(_PEERS.value) / name).is_dir()]
        if not found:
            sys.exit(f"--peers={_PEERS.value} has none of {', '.join(peers.PEERS)}")
        if missing := set(peers.PEERS) - set(found):
            print(f"not in {_PEERS.value}: {', '.join(sorted(missing))}", file=sys.stderr)
        contenders += found
    contenders.append("matrix product")
    figures: dict[str, list[Figures]] = {name: [] for name in contenders}
    turns = [name for _ in range(_REPEATS.value) for name in contenders]
    for name in tqdm(turns, unit="timing"):
        figures[name].append(in_fresh_process(name))
    result = summarize(figures)
    print(table(result))
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(result, indent=2) + "\n")
    if _PICTURE.value:
        draw(result, Path(_PICTURE.value))


def in_fresh_process(name: str) -> Figures:
    """Time one contender with nothing else in its process."""
    command = [sys.executable, "-W", "ignore", __file__, f"--only={name}"]
    command += [f"--peers={_PEERS.value}", f"--updates={_UPDATES.value}"]
    printed = commands.output_of(command, f"timing {name}")
    figures: Figures = json.loads(printed.splitlines()[-1])
    return figures


def measure(name: str) -> Figures:
    """Time a contender here."""
    if name == "matrix product":
        return {"rate": product_flops() / FLOP_PER_UPDATE}
    if name in peers.PEERS:
        return {"rate": peers.PEERS[name](Path(_PEERS.value) / name, _UPDATES.value)}
    figures = time_one() if name == "one run" else time_population(int(name.split()[-1]))
    return figures | {"memory_bytes": memory_in_use()}


def time_one() -> Figures:
    """One run, in the program of ``train_offline.py``."""
    state, transitions = new_state(0), jax.device_put(made_up_transitions())
    start = time.perf_counter()
    count = jnp.zeros((), jnp.int32)
    lowered = update_n.lower(state, transitions, count, batch_size=peers.BATCH)
    program = compile_program(lowered)
    compile_seconds = time.perf_counter() - start

    def train(count: int) -> None:
        nonlocal state
        state, metrics = program(state, transitions, jnp.asarray(count, jnp.int32))
        jax.block_until_ready((state, metrics))

    return {
        "rate": peers.rate(train, _UPDATES.value, warm_up=50),
        "compile_seconds": compile_seconds,
    }


def time_population(size: int) -> Figures:
    """A population, in the program of ``train_offline.py --config.num_seeds``."""
    placement = Placement.of(size)
    population = placement.spread(stack([new_state(seed) for seed in range(size)]))
    pool = placement.place(Pool.of([made_up_transitions()] * size))

    start = time.perf_counter()
    lowered = update_population_n.lower(
        population,
        pool,
        jnp.zeros((), jnp.int32),
        batch_size=peers.BATCH,
        mesh=placement.mesh,
        in_turn=maps_in_turn(),
    )
    program = compile_program(lowered)
    compile_seconds = time.perf_counter() - start

    def train(count: int) -> None:
        nonlocal population
        population, metrics = program(population, pool, jnp.asarray(count, jnp.int32))
        jax.block_until_ready((population, metrics))

    each = max(20, _UPDATES.value // size)
    return {
        "rate": size * peers.rate(train, each, warm_up=5),
        "compile_seconds": compile_seconds,
    }


def product_flops() -> float:
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


def memory_in_use() -> float:
    """The most bytes that were in use: on the device, or of the process where it is the CPU."""
    statistics_of_device = jax.local_devices()[0].memory_stats() or {}
    peak = statistics_of_device.get("peak_bytes_in_use")
    return float(peak or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def summarize(figures: dict[str, list[Figures]]) -> dict[str, Any]:
    """Medians over the repeats, how they were taken, the machine, and the versions."""
    contenders: dict[str, dict[str, Any]] = {}
    for name, repeats in figures.items():
        rates = [repeat["rate"] for repeat in repeats]
        contenders[name] = {"rates": rates} | {
            key: statistics.median(repeat[key] for repeat in repeats) for key in repeats[0]
        }
    limit = contenders.pop("matrix product")["rate"]
    for name, contender in contenders.items():
        if name in peers.PEERS:
            contender["commit"] = commit(Path(_PEERS.value) / name)
        else:
            contender["flops"] = contender["rate"] * FLOP_PER_UPDATE
            contender["share_of_limit"] = contender["rate"] / limit
    return {
        "device": device_name(),
        "devices": len(jax.devices()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "updates": _UPDATES.value,
        "repeats": _REPEATS.value,
        "product_flops": limit * FLOP_PER_UPDATE,
        "contenders": contenders,
    }


def commit(checkout: Path) -> str | None:
    """What a checkout has checked out; None where it is none of git's."""
    if not (checkout / ".git").exists():  # git would answer for a repository around it.
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return commands.output_of(command, "git").strip()


def table(result: dict[str, Any]) -> str:
    """A markdown table, and how one run compares with each peer."""
    lines = [
        f"{result['device']}, {result['cores']} cores; Python {result['python']}, "
        f"jax {result['jax']}; matrix product {result['product_flops'] / 1e9:,.0f} GFLOP/s",
        "",
        "| | updates/s | low to high | GFLOP/s | of the limit | compiled in | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, figures in result["contenders"].items():
        compiled, memory = figures.get("compile_seconds"), figures.get("memory_bytes")
        flops, share = figures.get("flops"), figures.get("share_of_limit")
        lines.append(
            f"| {name} | {figures['rate']:,.0f} | {min(figures['rates']):,.0f} to "
            f"{max(figures['rates']):,.0f} | {f'{flops / 1e9:,.0f}' if flops else ''} | "
            f"{f'{share:.0%}' if share else ''} | {f'{compiled:.1f} s' if compiled else ''} | "
            f"{f'{memory / 1e9:.2f} GB' if memory else ''} |"
        )
    ours = result["contenders"]["one run"]["rates"]
    ratios = [
        f"{medians.ratio(ours, result['contenders'][name]['rates'])} x {name}"
        for name in peers.PEERS
        if name in result["contenders"]
    ]
    return "\n".join([*lines, *(["", "One run is " + ", ".join(ratios) + "."] if ratios else [])])


def draw(result: dict[str, Any], path: Path) -> None:
    """Bars of the medians, with the repeats as points and the limit as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    contenders = result["contenders"]
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.4 * len(contenders)), layout="constrained")
    for row, (name, figures) in enumerate(contenders.items()):
        color = "tab:gray" if name in peers.PEERS else "tab:blue"
        axes.barh(row, figures["rate"], color=color, alpha=0.7)
        axes.plot(figures["rates"], np.full(len(figures["rates"]), row), "k.", markersize=3)
    limit = result["product_flops"] / FLOP_PER_UPDATE
    axes.axvline(limit, color="tab:red", linewidth=1, label="limit of the package's update")
    names = [name if name in peers.PEERS else f"iql_jax, {name}" for name in contenders]
    axes.set_yticks(range(len(contenders)), names)
    axes.invert_yaxis()
    axes.set_xlabel("updates/s")
    axes.set_title(f"{result['device']}, {result['cores']} cores", fontsize="medium")
    figure.legend(loc="outside lower center", fontsize="small", frameon=False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    app.run(main)
