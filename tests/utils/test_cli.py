"""The commands as a person types them: every mistake is one clear line and a failing status."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from configs import pointmaze_finetune
from iql_jax import cli
from iql_jax.training.config import Config
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

ROOT = Path(__file__).parents[2]

OFFLINE = ["train_offline.py", "--config=configs/pointmaze.py"]
SEEDS = [*OFFLINE, "--config.num_seeds=2"]

CONFIGS = {
    "broken": "def get_config(: pass\n",
    "empty": "x = 1\n",
    "raises": "def get_config():\n    raise RuntimeError('my own\\n mistake')\n",
    "attribute": "import os\ndef get_config():\n    return os.nothing\n",
}

MISTAKES = {
    "no config": (["train_offline.py"], ["no --config given", "configs/pointmaze.py"]),
    "missing config": (["train_offline.py", "--config=configs/no.py"], ["configs/no.py"]),
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
    "config with a mistake of its own": (
        ["train_offline.py", "--config={tmp}/attribute.py"],
        ["config file fails", "AttributeError", "nothing"],
    ),
    "unknown flag": (["train_offline.py", "--confg=x"], ["confg", "config"]),
    "flag without dashes": (
        [*OFFLINE, "config.seed=3"],
        ["unexpected argument 'config.seed=3'", "--name=value"],
    ),
    "unknown key": ([*OFFLINE, "--config.expectil=0.8"], ["unknown config key", "expectile"]),
    "a key of fine-tuning": (
        [*OFFLINE, "--config.num_envs=4"],
        ["'num_envs'", "fine-tuning", "train_finetune.py"],
    ),
    "an offline config for fine-tuning": (
        ["train_finetune.py", "--config=configs/pointmaze.py"],
        ["a config of offline runs", "train_offline.py"],
    ),
    "unknown dataset": (
        [*OFFLINE, "--config.dataset=iql/pointmaze/umazes-v0", "--workdir={tmp}/unknown"],
        ["iql/pointmaze/umazes-v0", "iql/pointmaze/umaze-v0"],
    ),
    "folder inside a file": (
        [*OFFLINE, "--workdir={tmp}/empty.py/run"],
        ["Not a directory", "empty.py/run"],
    ),
    "no folder": (["-m", "iql_jax.evaluate"], ["no --workdir given"]),
    "folder without a run": (
        ["-m", "iql_jax.evaluate", "--workdir={tmp}/nothing"],
        ["nothing", "no run"],
    ),
    "an engine for one run": ([*OFFLINE, "--engine=ray"], ["--engine", "--sweep"]),
    "a coordinator alone": (
        [*SEEDS, "--coordinator=localhost:1"],
        ["--coordinator", "--process_id", "--distributed"],
    ),
    "cores of no task": ([*SEEDS, "--task_cpus=2"], ["--task_cpus", "--engine=ray"]),
    "processes that do not find each other": (
        [*SEEDS, "--distributed"],
        ["--distributed does not start", "--coordinator"],
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A folder, and of every mistaken command its status and what it wrote to standard error."""
    tmp, errors = (tmp_path_factory.mktemp(name) for name in ("commands", "errors"))
    for name, content in CONFIGS.items():
        (tmp / f"{name}.py").write_text(content)
    commands = {
        name: [part.format(tmp=tmp) for part in words] for name, (words, _) in MISTAKES.items()
    }
    environment = {
        **os.environ,
        "MINARI_DATASETS_PATH": str(tmp / "datasets"),
        "IQL_JAX_CACHE": str(tmp / "cache"),
        "JAX_PLATFORMS": "cpu",
    }
    forks = subprocess.run(
        [sys.executable, "tests/warm_commands.py", str(errors)],
        cwd=ROOT,
        env=environment,
        input=json.dumps(commands),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    statuses = json.loads(forks.stdout)
    return tmp, {name: (statuses[name], (errors / name).read_text()) for name in statuses}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line(outcomes, name):
    status, errors = outcomes[1][name]
    assert status not in (0, None)
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
    ("error", "status", "line"),
    [
        (UserError("two\n lines"), 1, "two lines"),
        (Interrupted(signal.SIGTERM, resumable=True), 143, "stopped by SIGTERM; resume with X"),
        (Interrupted(signal.SIGINT, "saved"), 130, "saved"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "a.csv"), 1, "No space left on device: a.csv"),
        (MemoryError(), 1, "out of memory; buy some"),
        (MemoryError("allocate 9 EiB"), 1, "out of memory (allocate 9 EiB); buy some"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: 9 bytes.\nDetails"),
            1,
            "out of memory (RESOURCE_EXHAUSTED: 9 bytes.); buy some",
        ),
    ],
)
def test_a_failure_that_the_user_can_fix_is_one_line(error, status, line):
    assert cli.explain(error, "resume with X", "buy some") == (status, line)


def test_a_guarded_program_exits_and_a_bug_keeps_its_traceback(capsys):
    def fail_with(error):
        raise error

    assert cli.guard(lambda: 3) == 3
    with pytest.raises(SystemExit) as caught:
        cli.guard(lambda: fail_with(Interrupted(15, resumable=True)))
    assert caught.value.code == 143
    assert f"resume with: {sys.executable}" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="a bug"):
        cli.guard(lambda: fail_with(RuntimeError("INTERNAL: a bug")))


def test_sigterm_leaves_by_an_exception(capsys):
    with pytest.raises(SystemExit) as caught:
        cli._terminate(signal.SIGTERM, None)
    assert caught.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"
