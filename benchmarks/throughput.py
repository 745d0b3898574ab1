"""Updates per second at AntMaze size: one run, populations, and other implementations beside them.

    python benchmarks/throughput.py --repeats 5 --populations 1 4 16 64 256 \
        --peers CHECKOUTS --json throughput.json --picture throughput.png

Sizes are AntMaze's: observations 29, actions 8, batch 256, hidden layers 256 x 256, 1M transitions
(made up: only their shapes matter), sampling included, evaluation excluded. Each timing is taken in
a fresh process, warm. All contenders take turns within each repeat; medians over the repeats are
shown, and ratios to each peer within a repeat, for a machine's speed drifts. The package's programs
are those that ``train_offline.py`` runs. CHECKOUTS holds clones of any of implicit_q_learning,
JAX-CORL, unifloral and CORL, whose dependencies have to be installed (see ``peers.py``). TorchRL
and d3rlpy are timed where they are installed.

A population on a CPU is a process a core, as ``train_offline.py`` has it.

    python benchmarks/throughput.py --device_report --peers CHECKOUTS

is one sitting for a GPU, of some eight minutes: one run and populations of 1, 16, 64 and 128 in
each precision, both also without command buffers (CUDA graphs), and the peers, once each, into
device_report.json and device_report.png.

The limit is the rate at which this device's matrix product (2048 x 2048, in the same precision)
would do the products of one update of the package, 594 MFLOP; peers' may be fewer.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

import peers
from common import tables
from iql_jax.algorithm import IQLState, Transitions, create_state, update_n
from iql_jax.algorithm.networks import PRECISIONS
from iql_jax.populations.mapped import Placement, Pool, maps_in_turn, stack, update_population_n
from iql_jax.training.compilation import COMPILER_OPTIONS, offered_precisions
from iql_jax.utils.processes import cores

FLOP_PER_UPDATE = 594e6  # 1.16 M multiply-adds a sample, forward and backward; 256 samples.
PRODUCT = "matrix product"
PLAIN = " without command buffers"

Figures = dict[str, float]


def main() -> int:
    """Times everything in turn, and prints the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, help="folder of other implementations' checkouts")
    parser.add_argument("--populations", type=int, nargs="*", default=[1], help="sizes (1)")
    parser.add_argument("--repeats", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--updates", type=int, default=5_000, help="of a timing (%(default)s)")
    parser.add_argument("--json", type=Path, help="file of the numbers")
    parser.add_argument("--picture", type=Path, help="PNG file of the bars")
    parser.add_argument("--device_report", action="store_true", help="see above")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # Times one contender in this process.
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.peers, options.updates)))
        return 0
    precisions: tuple[str, ...] = ("float32",)
    if options.device_report:
        options.populations = [len(cores())] if maps_in_turn() else [1, 16, 64, 128]
        options.repeats = 1
        options.json = options.json or Path("device_report.json")
        options.picture = options.picture or Path("device_report.png")
        precisions = offered_precisions()
    ours = ["one run", *(f"population of {size}" for size in options.populations)]
    contenders = [f"{name}, {precision}" for precision in precisions for name in ours]
    if options.device_report and jax.default_backend() == "gpu":
        contenders += [f"{name}, {precisions[-1]}{PLAIN}" for name in (ours[0], ours[-1])]
    if options.peers is not None:
        found = [
            name
            for name in peers.PEERS
            if (options.peers / name).is_dir() or importlib.util.find_spec(name) is not None
        ]
        print(f"found in {options.peers}: {', '.join(found) or 'none'}", file=sys.stderr)
        contenders += found
    contenders += [f"{PRODUCT}, {precision}" for precision in precisions]
    figures: dict[str, list[Figures]] = {name: [] for name in contenders}
    for name in tqdm(contenders * options.repeats, unit="timing"):
        command = [sys.executable, "-W", "ignore", *sys.argv, f"--only={name}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"timing {name} failed:\n{done.stderr}")
        figures[name].append(json.loads(done.stdout.splitlines()[-1]))
    result = summarize(figures, options.peers) | {"updates": options.updates}
    print(table(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.picture is not None:
        draw(result, options.picture)
    return 0


def measure(name: str, checkouts: Path, updates: int) -> Figures:
    """Times a contender in this process."""
    if name in peers.PEERS:
        return {"rate": peers.time_peer(name, checkouts / name, updates)}
    what, precision = name.removesuffix(PLAIN).rsplit(", ", 1)
    compiler_options = dict(COMPILER_OPTIONS.get(jax.default_backend(), {}))
    if name.endswith(PLAIN):
        compiler_options["xla_gpu_enable_command_buffer"] = ""
    if what == PRODUCT:
        return {"rate": product_flops(precision) / FLOP_PER_UPDATE}
    if not what.startswith("population"):
        data = jax.device_put(Transitions(**made_up_transitions()))
        return time_program(update_n, new_state(0, precision), data, updates, compiler_options)
    size = int(what.split()[-1])
    if maps_in_turn():
        return on_each_core(size, updates)
    placement = Placement(size)
    population = placement.spread(stack([new_state(seed, precision) for seed in range(size)]))
    pool = placement.place(Pool.of([made_up_transitions()] * size))
    static: dict[str, Any] = {"size": size, "mesh": placement.mesh, "in_turn": False}
    return time_program(update_population_n, population, pool, updates, compiler_options, **static)


def on_each_core(size: int, updates: int) -> Figures:
    """Times one run on each of the cores that a population of so many keeps busy, all at once."""
    command = [sys.executable, "-W", "ignore", *sys.argv[:-1], "--only=one run, float32"]
    started = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(os.sched_setaffinity, 0, {core}),
        )
        for core in cores()[:size]
    ]
    figures = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return {name: sum(each[name] for each in figures) for name in figures[0]}


def time_program(
    function: Any,
    state: Any,
    data: Any,
    updates: int,
    compiler_options: Any,
    size: int = 1,
    **static: Any,
) -> Figures:
    """Compiles a program as a run does, and times it: updates per second of all its members."""
    start = time.perf_counter()
    count = jnp.zeros((), jnp.int32)
    lowered = function.lower(state, data, count, batch_size=peers.BATCH, **static)
    program = lowered.compile(compiler_options)
    seconds = time.perf_counter() - start

    def train(count: int) -> None:
        nonlocal state
        state, metrics = program(state, data, jnp.asarray(count, jnp.int32))
        jax.block_until_ready((state, metrics))

    rate = size * peers.rate(train, max(20, updates // size), warm_up=20)
    on_device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    of_process = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = float(on_device or of_process)
    return {"rate": rate, "compile_seconds": seconds, "memory_bytes": memory}


def new_state(seed: int, precision: Any) -> IQLState:
    """Returns a learner with the paper's settings for AntMaze."""
    config = dataclasses.replace(peers.PAPER, matmul_precision=precision)
    return create_state(jax.random.key(seed), peers.OBSERVATION_DIM, peers.ACTION_DIM, config)


def made_up_transitions() -> dict[str, Any]:
    """Returns the peers' transitions under the package's names."""
    data = peers.made_up_transitions()
    masks = 1.0 - data.pop("terminals")
    return {**data, "masks": masks}


def product_flops(precision: str) -> float:
    """Returns floating-point operations per second of a large matrix product."""
    size = 2_048
    a = jnp.ones((size, size)) * 1.1
    product = jax.jit(functools.partial(jnp.matmul, a, precision=PRECISIONS[precision]))

    def multiply(count: int) -> None:
        for _ in range(count):
            product(a).block_until_ready()

    multiply(2)
    rates = [peers.rate(multiply, 1, warm_up=1) for _ in range(10)]
    return 2.0 * size**3 * statistics.median(rates)


def summarize(figures: dict[str, list[Figures]], checkouts: Path | None) -> dict[str, Any]:
    """Returns medians over the repeats, the machine and the versions, JSON-able."""
    contenders: dict[str, dict[str, Any]] = {
        name: {
            "rates": [repeat["rate"] for repeat in repeats],
            **{key: statistics.median(each[key] for each in repeats) for key in repeats[0]},
        }
        for name, repeats in figures.items()
    }
    limits = {
        name.rsplit(", ", 1)[1]: contenders.pop(name)["rate"]
        for name in list(contenders)
        if name.startswith(PRODUCT)
    }
    for name, contender in contenders.items():
        if name not in peers.PEERS:
            precision = name.removesuffix(PLAIN).rsplit(", ", 1)[1]
            contender["share_of_limit"] = contender["rate"] / limits[precision]
        elif checkouts is not None and (checkouts / name / ".git").exists():
            command = ["git", "-C", str(checkouts / name), "rev-parse", "HEAD"]
            contender["commit"] = subprocess.check_output(command, text=True).strip()
        else:
            contender["version"] = importlib.metadata.version(name)
    return {
        "device": device_name(),
        "devices": len(jax.devices()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "product_flops": {name: limit * FLOP_PER_UPDATE for name, limit in limits.items()},
        "contenders": contenders,
    }


def device_name() -> str:
    """Returns the device's name; the processor's own where that is the CPU."""
    if jax.default_backend() == "cpu" and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "CPU"
        )
    return jax.devices()[0].device_kind


def table(result: dict[str, Any]) -> str:
    """Returns a markdown table, and how one run compares with each peer."""
    contenders = result["contenders"]
    rows = [
        [
            name,
            tables.median_range(one["rates"], ",.0f"),
            f"{one['share_of_limit']:.0%}" if "share_of_limit" in one else "",
            f"{one['compile_seconds']:.1f} s" if "compile_seconds" in one else "",
            f"{one['memory_bytes'] / 1e9:.2f} GB" if "memory_bytes" in one else "",
        ]
        for name, one in contenders.items()
    ]
    ours = contenders["one run, float32"]["rates"]
    ratios = [
        f"One run is {tables.ratio(ours, contenders[name]['rates'])} x {name}."
        for name in peers.PEERS
        if name in contenders
    ]
    products = ", ".join(
        f"{name} {flops / 1e9:,.0f}" for name, flops in result["product_flops"].items()
    )
    header = ["", "updates/s (low to high)", "of the limit", "compiled in", "memory"]
    machine = (
        f"{result['device']}, {result['cores']} cores; Python {result['python']}, jax "
        f"{result['jax']}; matrix product {products} GFLOP/s"
    )
    return "\n\n".join([machine, tables.markdown(header, rows), *ratios])


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws bars of the medians, the repeats as points and the limit as a line."""
    from matplotlib.figure import Figure  # The peers' environment need not have it.

    contenders = result["contenders"]
    figure = Figure(figsize=(7, 0.5 + 0.4 * len(contenders)), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, one in contenders.items():
        axes.barh(name, one["rate"], color="gray" if name in peers.PEERS else "tab:blue", alpha=0.7)
        axes.plot(one["rates"], [name] * len(one["rates"]), "k.", markersize=3)
    for flops in result["product_flops"].values():
        axes.axvline(flops / FLOP_PER_UPDATE, color="tab:red", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("updates/s; red: the limit of the package's update")
    axes.set_title(f"{result['device']}, {result['cores']} cores", fontsize="medium")
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
