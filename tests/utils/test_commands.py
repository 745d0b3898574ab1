"""The commands as a person types them: every mistake is one clear line and a failing status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import pointmaze_finetune
from iql_jax import cli
from iql_jax.training.config import Config
from iql_jax.utils.errors import UserError

ROOT = Path(__file__).parents[2]

POINTMAZE = "--config=configs/pointmaze.py"

MISTAKES = {
    "no config": (["train_offline.py"], ["no --config given", "configs/pointmaze.py"]),
    "missing config": (
        ["train_offline.py", "--config=configs/missing.py"],
        ["configs/missing.py"],
    ),
    "broken config": (
        ["train_offline.py", "--config={tmp}/broken.py"],
        ["config file fails", "SyntaxError", "broken.py"],
    ),
    "config without get_config": (
        ["train_offline.py", "--config={tmp}/empty.py"],
        ["config file fails", "get_config"],
    ),
    "config that raises": (
        ["train_offline.py", "--config={tmp}/raises.py"],
        ["config file fails", "RuntimeError", "my own mistake"],
    ),
    "config of another type": (
        ["train_offline.py", "--config={tmp}/dictionary.py"],
        ["--config"],
    ),
    "unknown flag": (["train_offline.py", "--confg=x"], ["confg", "config"]),
    "flag without dashes": (
        ["train_offline.py", POINTMAZE, "config.seed=3"],
        ["unexpected argument 'config.seed=3'", "--name=value"],
    ),
    "unknown key": (
        ["train_offline.py", POINTMAZE, "--config.expectil=0.8"],
        ["unknown config key", "expectile"],
    ),
    "ill-typed value": (
        ["train_offline.py", POINTMAZE, "--config.batch_size=many"],
        ["batch_size", "many"],
    ),
    "value out of range": (
        ["train_offline.py", POINTMAZE, "--config.expectile=1.5", "--workdir={tmp}/never"],
        ["expectile", "(0, 1)"],
    ),
    "unknown dataset": (
        [
            "train_offline.py",
            POINTMAZE,
            "--config.dataset=iql/pointmaze/umazes-v0",
            "--workdir={tmp}/unknown",
        ],
        ["iql/pointmaze/umazes-v0", "iql/pointmaze/umaze-v0"],
    ),
    "config with a mistake of its own": (
        ["train_offline.py", "--config={tmp}/attribute.py"],
        ["config file fails", "AttributeError", "nothing"],
    ),
    "folder inside a file": (
        ["train_offline.py", POINTMAZE, "--workdir={tmp}/empty.py/run"],
        ["Not a directory", "empty.py/run"],
    ),
    "folder without a run": (
        ["-m", "iql_jax.evaluate", "--workdir={tmp}/nothing"],
        ["nothing", "no run"],
    ),
    "unknown swept key": (
        ["train_offline.py", POINTMAZE, "--sweep={tmp}/sweep.py", "--workdir={tmp}/never"],
        ["unknown config key 'expectil'", "expectile"],
    ),
    "a sweep of fine-tuning": (
        ["train_finetune.py", "--config=configs/pointmaze_finetune.py", "--sweep={tmp}/sweep.py"],
        ["sweep"],
    ),
    "seeds of fine-tuning": (
        ["train_finetune.py", "--config=configs/pointmaze_finetune.py", "--config.num_seeds=2"],
        ["num_seeds is 2", "one seed at a time"],
    ),
    "an engine for one run": (
        ["train_offline.py", POINTMAZE, "--engine=ray"],
        ["--engine", "--sweep"],
    ),
    "an offline config for fine-tuning": (
        ["train_finetune.py", POINTMAZE],
        ["a config of offline runs", "train_offline.py"],
    ),
    "a key of fine-tuning": (
        ["train_offline.py", POINTMAZE, "--config.num_envs=4"],
        ["'num_envs'", "fine-tuning", "train_finetune.py"],
    ),
    "a coordinator alone": (
        ["train_offline.py", POINTMAZE, "--config.num_seeds=2", "--coordinator=localhost:1"],
        ["--coordinator", "--process_id", "--distributed"],
    ),
    "cores of no task": (
        ["train_offline.py", POINTMAZE, "--config.num_seeds=2", "--task_cpus=2"],
        ["--task_cpus", "--engine=ray"],
    ),
    "processes that do not find each other": (
        ["train_offline.py", POINTMAZE, "--config.num_seeds=2", "--distributed"],
        ["--distributed does not start", "--coordinator"],
    ),
    "no folder": (["-m", "iql_jax.evaluate"], ["no --workdir given"]),
}

TYPED = ("no config", "no folder")
"""Run as they are; the others in forks of a process that has done all the importing."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Every mistaken command, run two at a time."""
    tmp = tmp_path_factory.mktemp("commands")
    (tmp / "broken.py").write_text("def get_config(: pass\n")
    (tmp / "empty.py").write_text("x = 1\n")
    (tmp / "raises.py").write_text(
        "def get_config():\n    raise RuntimeError('my own\\n mistake')\n"
    )
    (tmp / "attribute.py").write_text("import os\ndef get_config():\n    return os.nothing\n")
    (tmp / "sweep.py").write_text("def get_sweep():\n    return {'expectil': [0.5]}\n")
    (tmp / "dictionary.py").write_text("def get_config():\n    return {'seed': 1}\n")
    environment = {
        **os.environ,
        "MINARI_DATASETS_PATH": str(tmp / "datasets"),
        "JAX_PLATFORMS": "cpu",
    }

    commands = {
        name: [part.format(tmp=tmp) for part in words] for name, (words, _) in MISTAKES.items()
    }
    finished = {}
    for name in TYPED:
        done = subprocess.run(
            [sys.executable, *commands.pop(name)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        finished[name] = done.returncode, done.stderr
    said = tmp_path_factory.mktemp("said")
    forks = subprocess.run(
        [sys.executable, "tests/warm_commands.py", str(said)],
        cwd=ROOT,
        env=environment,
        input=json.dumps(commands),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    for name, status in json.loads(forks.stdout).items():
        finished[name] = status, (said / f"{name}.err").read_text()
    return tmp, finished


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line(outcomes, name):
    _, finished = outcomes
    status, errors = finished[name]
    assert status not in (0, None)
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, errors
    for part in MISTAKES[name][1]:
        assert part in lines[0]


def test_nothing_is_left_half_written(outcomes):
    tmp, _ = outcomes
    left = {path.name for path in tmp.iterdir() if path.suffix != ".py"}
    assert left <= {"datasets", "__pycache__"}
    assert not any((tmp / "datasets").rglob("*"))


def test_a_config_of_fine_tuning_is_none_of_an_offline_run():
    with pytest.raises(UserError, match=r"a config of fine-tuning; use train_finetune\.py"):
        cli.read_config(pointmaze_finetune.get_config(), Config)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 9 EiB"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nDetails"),
    ],
)
def test_running_out_of_memory_is_one_line(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.guard(main, "set a smaller --config.batch_size")
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    reason = str(error).partition("\n")[0]
    assert said.startswith(f"out of memory{reason and f' ({reason})'}; set a smaller --config.")


def test_another_error_of_xla_keeps_its_traceback():
    def main():
        raise RuntimeError("INTERNAL: a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        cli.guard(main)
