"""What the benchmarks that train would start: which method is which, and on what."""

import pytest
from benchmark_runs import schedule


def of(runs, *keys):
    """Each run's folder, and what it would train with: its config file's settings, overridden."""
    return {run.folder.name: tuple(run.wanted()[key] for key in keys) for run in runs}


def test_antmaze(tmp_path):
    runs = schedule(
        *["antmaze", f"--runs={tmp_path}", "--tasks=umaze,large-play", "--seeds=2"],
        *["--updates=700", "--bc_updates=50", "--eval_interval=20", "--eval_episodes=3"],
    )
    assert {run.folder.parent for run in runs} == {tmp_path}
    assert {(run.config, run.script) for run in runs} == {
        ("configs/antmaze.py", "train_offline.py")
    }
    # A seed of everything before the next.
    assert [run.settings["seed"] for run in runs] == [0] * 6 + [1] * 6
    found = of(runs, "dataset", "seed", "temperature", "top_episodes", "maze_drop", "max_steps")
    for task in ("umaze", "large-play"):
        data = f"iql/antmaze/{task}-v0"
        for seed in (0, 1):
            assert found[f"iql-{task}-seed{seed}"] == (data, seed, 10.0, 1.0, "waiting", 700)
            assert found[f"bc-{task}-seed{seed}"] == (data, seed, 0.0, 1.0, "waiting", 50)
            # The best episodes are the quickest arrivals.
            assert found[f"10bc-{task}-seed{seed}"] == (data, seed, 0.0, 0.1, "after_success", 50)
    assert set(of(runs, "eval_interval", "eval_episodes").values()) == {(20, 3)}


def test_antmaze_with_other_weights(tmp_path):
    runs = schedule(
        *["antmaze", f"--runs={tmp_path}", "--tasks=umaze", "--seeds=1"],
        *["--temperature=3", "--max_weight=10"],
    )
    # Cloning has none.
    assert of(runs, "temperature", "max_weight") == {
        "iql-umaze-seed0": (3.0, 10.0),
        "bc-umaze-seed0": (0.0, 100.0),
        "10bc-umaze-seed0": (0.0, 100.0),
    }


def test_pointmaze(tmp_path):
    runs = schedule("pointmaze", f"--runs={tmp_path}", "--tasks=large", "--seeds=1")
    found = of(runs, "dataset", "seed", "temperature", "max_steps")
    data = "iql/pointmaze/large-v0"
    assert found == {
        "iql-large-seed0": (data, 0, 10.0, 100_000),
        "bc-large-seed0": (data, 0, 0.0, 100_000),
    }


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_table1(tmp_path, engine):
    runs = schedule(
        *["table1", f"--runs={tmp_path}", "--methods=IQL,BC", "--seeds=2", f"--engine={engine}"],
        "--datasets=dapg/door/human-v0,iql/halfcheetah/gaits-v0",
    )
    configs = {run.settings["dataset"]: run.config for run in runs}
    assert configs == {
        "iql/halfcheetah/gaits-v0": "configs/locomotion.py",
        "dapg/door/human-v0": "configs/adroit.py",
    }
    temperatures = {
        (run.settings["dataset"], run.settings["seed"], run.wanted()["temperature"]) for run in runs
    }
    # With Ray a population is one command, that of its first seed.
    seeds = (0, 1) if engine == "local" else (0,)
    assert temperatures == {
        (dataset, seed, temperature)
        for dataset, paper in (("iql/halfcheetah/gaits-v0", 3.0), ("dapg/door/human-v0", 0.5))
        for seed in seeds
        for temperature in (paper, 0.0)
    }
    assert len(runs) == 4 * len(seeds)


def test_finetune(tmp_path):
    runs = schedule(
        *["finetune", "--task=antmaze-umaze", f"--runs={tmp_path}", "--seeds=2", "--num_envs=16"],
        *["--offline_runs=/runs/iql-umaze-seed{seed}", "--opt_decay_schedule=cosine"],
        *["--temperature=3", "--max_weight=10"],
    )
    assert {(run.config, run.script) for run in runs} == {
        ("configs/antmaze_finetune.py", "train_finetune.py")
    }
    keys = ("dataset", "seed", "offline_run", "num_envs", "opt_decay_schedule", "max_steps")
    assert of(runs, *keys, "temperature", "max_weight") == {
        f"antmaze-umaze-seed{seed}": (
            *("iql/antmaze/umaze-v0", seed, f"/runs/iql-umaze-seed{seed}"),
            *(16, "cosine", 1_000_000, 3.0, 10.0),
        )
        for seed in (0, 1)
    }
