"""Feeds damaged files to everything that reads what a user can touch.

    python benchmarks/fuzz.py [--seed 0] [--count 200] [--only K]

A case damages a dataset (Minari, D4RL, OGBench), a run or a population, or writes a wrong config or
sweep file, and has the program use it. It is bad if anything comes of it but one printable line: an
exception, more than 20 seconds, gigabytes of memory, other files, or a wrong result without a word.
A dataset has to load as the undamaged one does, or as a copy does of the plain arrays that it still
holds, unless its notes differ; a run has to resume to the same bits. A case depends on the seed and
its number alone. The exit status is 1 if one is bad.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from common import damage
from common.damage import WEIRD, Random, pick
from iql_jax import cli, datasets
from iql_jax.data.config import DataConfig
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.make import make_environment
from iql_jax.generation.generate import generate
from iql_jax.outputs.logs import read_table
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of, read_sweep
from iql_jax.training.config import Config, FinetuneConfig, from_mapping, from_record
from iql_jax.training.load import load_networks, load_run
from iql_jax.training.offline import train_offline
from iql_jax.utils.errors import explain, is_out_of_memory

SECONDS, BYTES = 20, 4 * 2**30
MAZE, BOX, DISCRETE = "iql/pointmaze/umaze-v0", "fuzz/box-v0", "fuzz/discrete-v0"
D4RL, OGBENCH = "data/hopper-medium-v2.hdf5", "data/antmaze-medium-navigate-v0.npz"
DATASETS = (MAZE, BOX, DISCRETE, D4RL, OGBENCH)
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
CONFIG: Config = from_mapping({
    "dataset": MAZE, "hidden_dims": (8,), "batch_size": 8, "max_steps": 60, "log_interval": 20,
    "eval_interval": 20, "eval_episodes": 1, "eval_processes": 1, "checkpoint_interval": 20,
    "progress": False,
})  # fmt: skip
MEMBERS = members_of(dataclasses.replace(CONFIG, num_seeds=2, eval_episodes=0))
WHOLE: dict[str, Any] = {}  # What undamaged datasets and runs load as.


class Bad(Exception):
    """A fault."""


class Hang(BaseException):
    """A case took too long; nothing handles it."""


def main() -> int:
    """Runs the cases, and prints those that are bad; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--count", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--only", type=int, help="the number of one case")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, hang)
    numbers = range(options.count) if options.only is None else [options.only]
    bad = dict.fromkeys(FAMILIES, 0)
    with tempfile.TemporaryDirectory() as scratch:
        whole, work = Path(scratch, "whole"), Path(scratch, "work")
        jax.config.update("jax_compilation_cache_dir", f"{scratch}/programs")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        os.environ |= {"MINARI_DATASETS_PATH": str(work / "data"), "HF_HUB_OFFLINE": "1"}
        with contextlib.redirect_stderr(io.StringIO()):
            prepare(work)
        shutil.copytree(work, whole)
        used = re.findall(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
        resource.setrlimit(resource.RLIMIT_DATA, (1024 * int(used[0]) + BYTES,) * 2)
        for number in tqdm(numbers, unit="case", disable=None):
            rng = np.random.default_rng((options.seed, number))
            family = pick(rng, FAMILIES)
            use, part = FAMILIES[family]
            done, problem = run_case(use, rng, work)
            if part:
                shutil.rmtree(work / part)
                shutil.copytree(whole / part, work / part)
            if options.only is not None or problem:
                print(f"{number} {family}: {done} -> {problem or 'fine'}", flush=True)
            bad[family] += bool(problem)
    print(f"seed {options.seed}: {sum(bad.values())} of {len(numbers)} cases are bad: {bad}")
    return 1 if any(bad.values()) else 0


def run_case(use: Callable[..., None], rng: Random, work: Path) -> tuple[str, str]:
    """Returns what was damaged, and what is bad about what came of it, if anything."""
    done: list[str] = []
    said, started, problem = io.StringIO(), time.perf_counter(), ""
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stderr(said), np.errstate(all="ignore"):
            use(rng, work, done.append)
    except Bad as error:
        problem = str(error)
    except (Exception, Hang, SystemExit) as error:
        status, line = explain(error, "") or (None, f"{type(error).__name__}: {error}")
        if status is None or is_out_of_memory(error) or UNPRINTABLE.search(line):
            problem = repr(line[:300])
    finally:
        signal.alarm(0)
    if (seconds := time.perf_counter() - started) > SECONDS:
        problem += f" after {seconds:.0f} s"
    if left := [str(path.relative_to(work)) for path in work.rglob(".*.partial*")]:
        problem += f" half-written: {left}"
    if "Traceback" in said.getvalue():
        problem += f" it prints {said.getvalue()[-300:]!r}"
    return "; ".join(done), problem


def hang(signum: int, frame: object) -> None:
    """Ends a case."""
    raise Hang


def prepare(work: Path) -> None:
    """Writes the undamaged files, and keeps what they load as."""
    rng = np.random.default_rng(0)
    (work / "outside").mkdir(parents=True)
    generate(MAZE, steps=600, seed=0, progress=False)
    damage.write_minari(work / "data" / BOX, "InvertedPendulum-v5", rng)
    damage.write_minari(work / "data" / DISCRETE, "CartPole-v1", rng)
    damage.write_files(work / D4RL, work / OGBENCH, rng)
    for source in DATASETS:
        WHOLE[source] = load(work, source)
    train_offline(CONFIG, work / "run")
    WHOLE["run"] = load_run(work / "run").state
    shutil.rmtree(work / "run" / "checkpoints" / "60")
    (work / "run" / "summary.json").unlink()
    WHOLE["stopped"] = load_run(work / "run").state
    train_sweep(MEMBERS, work / "population")
    train_sweep(MEMBERS[:1], work / "compiled")  # A damaged plan may lead to it.


def load(work: Path, source: str) -> Dataset:
    """Loads a dataset or a file."""
    name = str(work / source) if "." in source else source
    return load_dataset(DataConfig(dataset=name), name, next_actions=True, progress=False)


def use_dataset(source: str, rng: Random, work: Path, note: Callable[[str], None]) -> None:
    """Loads a damaged dataset; sometimes runs a command on it first, or builds its environment."""
    file = work / source if "." in source else work / "data" / source / "data" / "main_data.hdf5"
    if "." not in source and rng.random() < 0.4:
        done = damage.damage_json(rng, file.with_name("metadata.json"))
    elif file.suffix == ".npz":
        done = damage.damage_npz(rng, file)
    else:
        done = damage.damage_hdf5(rng, file, work / "outside")
    note(done)
    before = {*work.rglob("*")}
    if rng.random() < 0.3:
        name = str(file) if "." in source else source
        run_command(pick(rng, (["list"], ["info", name], ["check", name])))
    loaded, expected = load(work, source), WHOLE[source]
    if not all(np.isfinite(array).all() for array in loaded.transitions.values()):
        raise Bad("it loads numbers that are not finite")
    told = loaded.record["notes"] != expected.record["notes"]
    if not (told or same(loaded.transitions, expected.transitions)):
        damage.make_plain(file)
        holds = load(work, source).transitions
        if done.startswith(("outside", "external")) or not same(loaded.transitions, holds):
            raise Bad("it loads as something else than it holds")
    if rng.random() < 0.3 and loaded.environment is not None:
        make_environment(loaded.require_environment()).close()
    if new := {*work.rglob("*")} - before:
        raise Bad(f"it leaves {new}")


def run_command(arguments: list[str]) -> None:
    """Runs a command of the datasets, which must print nothing that no terminal should get."""
    output = io.TextIOWrapper(raw := io.BytesIO(), "utf-8", write_through=True)
    with contextlib.redirect_stdout(output):
        status = datasets.main([*arguments, "--no-progress"])
    text = raw.getvalue().decode()
    if found := UNPRINTABLE.search(text):
        raise Bad(f"{arguments[0]} prints {text[max(0, found.start() - 50) : found.end()]!r}")
    if arguments[0] == "list" and (status or not all(name in text for name in (MAZE, BOX))):
        raise Bad(f"list ends with {status}: {text[-200:]!r}")


def same(*trees: Any) -> bool:
    """Returns whether two trees of arrays have the same numbers."""
    return jax.tree.all(
        jax.tree.map(lambda x, y: x.shape == y.shape and bool((x == y).all()), *trees)
    )


def use_run(rng: Random, work: Path, note: Callable[[str], None]) -> None:
    """Loads or resumes a run that was stopped and damaged."""
    folder = work / "run"
    how, *names = pick(rng, [
        (damage.damage_json, "config.json", "checkpoints/40/progress/metadata"),
        (damage.damage_csv, "metrics.csv", "evaluations.csv"),
        (damage.damage_tree, "", "checkpoints", "checkpoints/40"),
    ])  # fmt: skip
    note(how(rng, folder / pick(rng, names)))
    if rng.random() < 0.4:
        loaded = pick(rng, (load_run, load_networks))(folder)
        if loaded.step == 40 and not same(loaded.state, WHOLE["stopped"]):
            raise Bad("it loads as another state")
        if isinstance(layout := getattr(loaded, "layout", None), EnvironmentDescription):
            make_environment(layout).close()
        return
    train_offline(CONFIG, folder)
    if not same(load_run(folder).state, WHOLE["run"]):
        raise Bad("it resumes to another end")
    for table in ("metrics", "evaluations"):
        steps = [row["update"] for row in read_table(folder / f"{table}.csv")]
        if not {20, 40, 60} >= {*steps} >= {60} or len({*steps}) < len(steps):
            raise Bad(f"{table} has the steps {steps}")


def use_population(rng: Random, work: Path, note: Callable[[str], None]) -> None:
    """Trains or reports a damaged population, finished or with a member that is not."""
    folder = work / "population"
    member = folder / MEMBERS[1].name
    failure = {"update": pick(rng, (5, 100)), "reason": "loss is not finite"}
    if rng.random() < 0.5:
        (member / "failure.json").write_text(json.dumps(failure))
    if rng.random() < 0.5:
        (member / "summary.json").unlink()
    jsons = [*folder.glob("*.json"), *sorted(folder.glob("*/*.json"))]
    how, path = pick(rng, [
        (damage.damage_json, jsons[0]), *[(damage.damage_json, pick(rng, jsons))] * 2,
        (damage.damage_csv, member / "metrics.csv"), (damage.damage_tree, folder),
    ])  # fmt: skip
    note(how(rng, path))
    train_sweep(MEMBERS, folder)


def use_settings(rng: Random, work: Path, note: Callable[[str], None]) -> None:
    """Makes a config of wrong values; what is accepted has to come back from its record."""
    kind = pick(rng, (Config, FinetuneConfig))
    keys = [pick(rng, [*kind.__dataclass_fields__, "", "seeds"]) for _ in range(pick(rng, (1, 2)))]
    settings = {key: pick(rng, [*WEIRD, 10**9, (10**9,), [16, 8], "none"]) for key in keys}
    note(str({key: str(setting)[:50] for key, setting in settings.items()}))
    config = from_mapping({"dataset": MAZE, **settings}, kind)
    if from_record(json.loads(json.dumps(config.to_dict()))) != config:
        raise Bad("its record is of another config")


def use_code(rng: Random, work: Path, note: Callable[[str], None]) -> None:
    """Reads a config or sweep file, the user's own code, that does anything."""
    name, value = pick(rng, ("get_config", "get_sweep")), repr(pick(rng, WEIRD))
    key = pick(rng, ("seed", "num_seeds", "expectile", "hidden_dims", "dataset", "x"))
    base = "from configs.base import get_config\n    c = get_config()\n    "
    body = pick(rng, [
        f"return {value}", f"return {{{key!r}: {value}}}", f"return {{{key!r}: [{value}, 1]}}",
        f"return [{{{key!r}: {value}}}] * 3", f"raise Exception({value})", f"sys.exit({value})",
        "return {c: [1] * 999 for c in 'abcdefghijk'}", f"yield {value}", "import nowhere", "(",
        "return {str(c): [1] * 999 for c in range(2000)}", "\0", "return get_config()", "\udcff",
        f"{base}c.{key} = {value}\n    return c", f"{base}return c",
    ])  # fmt: skip
    text = pick(rng, [f"import sys\ndef {name}():\n    {body}\n"] * 4 + [f"{name} = {value}"])
    note(repr(text[:200]))
    path = work / "code.py"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    if name == "get_sweep":
        members_of(CONFIG, read_sweep(path))
        return
    argv = ["train_offline.py", f"--config={path}", f"--config.{key}={pick(rng, WEIRD)}"]
    values, said = flags.FlagValues(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(flags, "FLAGS", values),
        contextlib.redirect_stderr(said),
    ):
        holder = config_flags.DEFINE_config_file("config", flag_values=values)
        try:
            cli._parse_flags(argv)
        except SystemExit as error:
            if error.code in (0, None) or len(said.getvalue().splitlines()) != 1:
                raise Bad(f"exit status {error.code}: {said.getvalue()!r}") from error
            return
        members_of(cli.read_config(holder.value, Config))


FAMILIES: dict[str, tuple[Callable[..., None], str]] = {  # What is called, and what it damages.
    **{name: (functools.partial(use_dataset, name), "data") for name in DATASETS},
    "run": (use_run, "run"),
    "population": (use_population, "population"),
    "settings": (use_settings, ""),
    "code": (use_code, ""),
}

if __name__ == "__main__":
    sys.exit(main())
