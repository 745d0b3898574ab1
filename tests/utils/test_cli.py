"""The commands as a person types them: every mistake is one clear line and a failing status."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iql_jax import cli
from iql_jax.utils.errors import UserError, explain
from iql_jax.utils.signals import Interrupted

ROOT = Path(__file__).parents[2]

CONFIGS = {
    "broken": "def get_config(: pass\n",
    "attribute": "import os\ndef get_config():\n    return os.nothing\n",
    "exits": "import sys\ndef get_config():\n    sys.exit(0)\n",
    "raises": "def get_config():\n    raise RuntimeError('my own\\n mistake')\n",
}

OFFLINE = "train_offline.py --config=pointmaze"
NEW = f"{OFFLINE} --workdir={{tmp}}/new"
SEEDS = f"{OFFLINE} --config.num_seeds=2"

MISTAKES = {
    "train_offline.py": "no --config given; for example --config=pointmaze",
    "train_offline.py --config={tmp}/broken.py": "config file fails with SyntaxError",
    "train_offline.py --config={tmp}/attribute.py": "config file fails with AttributeError",
    "train_offline.py --config={tmp}/exits.py": "config file fails with SystemExit: 0",
    "train_offline.py --config={tmp}/raises.py": "fails with RuntimeError: my own mistake",
    f"{OFFLINE} config.seed=3": "unexpected argument 'config.seed=3'; flags are --name=value",
    f"{OFFLINE} --config.batch_size=1{'0' * 30}": "config.batch_size has a number of more than 64",
    f"{OFFLINE} --config.hidden_dims=(8,) --config.hidden_dims=(0,)": "hidden_dims is (0,)",
    "train_offline.py --config=nothing": "no config 'nothing'; give a file, or one of adroit",
    f"{OFFLINE} --config.expectil=1": "unknown config key 'expectil'; did you mean 'expectile'?",
    f"{OFFLINE} --config.num_envs=4": "'num_envs' is one of fine-tuning; use train_finetune.py",
    f"{NEW} --config.dataset=iql/pointmaze/umazes-v0": "iql/pointmaze/umaze-v0",
    f"{OFFLINE} --workdir={{tmp}}/broken.py/run": "Not a directory",
    f"{OFFLINE} --engine=ray": "--sweep",
    f"{SEEDS} --coordinator=localhost:1": "go together",
    f"{SEEDS} --distributed": "--distributed does not start",
    "train_finetune.py --config=configs/pointmaze.py": "use train_offline.py",
    "-m iql_jax.evaluate": "no --workdir given",
    "-m iql_jax.evaluate --workdir={tmp}/nothing": "holds no run",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A folder, and of every mistaken command its status and what it wrote to standard error."""
    tmp, errors = (tmp_path_factory.mktemp(name) for name in ("commands", "errors"))
    for name, content in CONFIGS.items():
        (tmp / f"{name}.py").write_text(content)
    environment = {
        **os.environ,
        "MINARI_DATASETS_PATH": str(tmp / "datasets"),
        "JAX_PLATFORMS": "cpu",
    }
    forks = subprocess.run(
        [sys.executable, "tests/warm_commands.py", str(errors)],
        cwd=ROOT,
        env=environment,
        input=json.dumps([command.format(tmp=tmp).split() for command in MISTAKES]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    statuses = json.loads(forks.stdout)
    said = [(errors / str(i)).read_text() for i in range(len(statuses))]
    return tmp, dict(zip(MISTAKES, zip(statuses, said, strict=True), strict=True))


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_clear_line(outcomes, command):
    status, errors = outcomes[1][command]
    assert status not in (0, None)
    (line,) = [line for line in errors.splitlines() if line.strip()]
    assert MISTAKES[command] in line


def test_nothing_is_left_half_written(outcomes):
    tmp, _ = outcomes
    left = {path.name for path in tmp.iterdir() if path.suffix != ".py"}
    assert left <= {"datasets", "__pycache__"}
    assert not any((tmp / "datasets").rglob("*"))


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("two\n lines"), 1, "two lines"),
        (UserError("é \x1b[31m\0\ud800"), 1, r"é \x1b[31m\x00\ud800"),
        (Interrupted(signal.SIGTERM, resumable=True), 143, "stopped by SIGTERM; resume with X"),
        (Interrupted(signal.SIGINT, "saved"), 130, "saved"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "a.csv"), 1, "No space left on device: a.csv"),
        (MemoryError("allocate 9 EiB"), 1, "out of memory (allocate 9 EiB); buy some"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: 9 bytes.\nDetails"),
            1,
            "out of memory (RESOURCE_EXHAUSTED: 9 bytes.); buy some",
        ),
    ],
)
def test_a_failure_that_the_user_can_fix_is_one_line(error, status, line):
    assert explain(error, "resume with X", "buy some") == (status, line)


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
