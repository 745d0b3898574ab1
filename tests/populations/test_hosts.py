"""Populations on two processes with two devices each, as on two hosts."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from small_runs import ROOT, assert_same_run, offline_config

from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of

pytestmark = pytest.mark.usefixtures("pointmaze")

CONFIG = offline_config(num_seeds=3, max_steps=40, checkpoint_interval=20)

SCRIPT = """
import os, signal, sys
from pathlib import Path
from iql_jax import cli
from iql_jax.outputs import logs
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.training.config import from_mapping
from iql_jax.utils import hosts

port, process, workdir, stop = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
config = from_mapping({settings!r})
hosts.start("localhost:" + port, 2, process)
if stop and process == 1:  # It writes no row itself: it stops when it has updated.
    from iql_jax.populations.session import PopulationSession as Session
    record = Session.record
    def stopped(self, *args, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        record(self, *args, **more)
    Session.record = stopped
cli.guard(lambda: train_sweep(members_of(config), workdir))
"""


def run_processes(workdir, stop="", **changes):
    """The exit statuses and the messages of two processes that train together."""
    settings = dataclasses.asdict(dataclasses.replace(CONFIG, **changes))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(ROOT),
    }
    script = SCRIPT.replace("{settings!r}", repr(settings))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, port, str(i), workdir, stop],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    messages = [process.communicate(timeout=300)[1] for process in processes]
    return [process.returncode for process in processes], messages


def test_processes_train_a_population_together(tmp_path):
    """Stopped by a signal to one of them, and resumed; on four devices for three members."""
    codes, messages = run_processes(tmp_path / "both", stop="yes")
    assert codes == [128 + signal.SIGTERM] * 2, messages
    assert all(re.search("at update 20; saved in", text) for text in messages)
    codes, messages = run_processes(tmp_path / "both")
    assert codes == [0, 0], messages
    # One of them writes and speaks.
    assert "3 members done" in messages[0]
    assert "done" not in messages[1]
    train_sweep(members_of(CONFIG), tmp_path / "one")
    for seed in range(CONFIG.seed, CONFIG.seed + 3):
        assert_same_run(tmp_path / "both" / f"seed_{seed}", tmp_path / "one" / f"seed_{seed}")
    summary = json.loads((tmp_path / "both" / f"seed_{CONFIG.seed}" / "summary.json").read_text())
    assert summary["device"].endswith("x 4")


def test_no_process_waits_for_one_that_fails(tmp_path):
    """The writer cannot write a record where a folder is in the way."""
    (tmp_path / "population.json").write_text('{"populations": []}')
    (tmp_path / f"seed_{CONFIG.seed}" / ".config.partial.json" / "in the way").mkdir(parents=True)
    codes, messages = run_processes(tmp_path, eval_episodes=0)
    assert codes == [1, 1], messages
    assert "Is a directory" in messages[0].splitlines()[-1]
    assert "another process failed: IsADirectoryError" in messages[1].splitlines()[-1]
