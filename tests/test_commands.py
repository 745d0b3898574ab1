"""The commands as a person types them: every mistake is one clear line and a failing status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

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
    "no folder": (["-m", "iql_jax.evaluate"], ["no --workdir given"]),
}


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
        "IQL_JAX_CACHE": str(tmp / "cache"),
        "JAX_PLATFORMS": "cpu",
    }

    def start(arguments):
        command = [sys.executable, *(part.format(tmp=tmp) for part in arguments)]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=-1, stderr=-1, stdin=-3, text=True
        )

    finished = {}
    waiting = list(MISTAKES.items())
    while waiting:
        pair = [(name, start(arguments)) for name, (arguments, _) in waiting[:2]]
        waiting = waiting[2:]
        for name, process in pair:
            output, errors = process.communicate(timeout=120)
            finished[name] = process.returncode, output, errors
    return tmp, finished


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line(outcomes, name):
    _, finished = outcomes
    status, _, errors = finished[name]
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
