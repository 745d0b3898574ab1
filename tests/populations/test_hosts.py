"""Two processes as one program: none waits for the other, and all stop together."""

import os
import socket
import subprocess
import sys

from small_runs import ROOT

SCRIPT = """
import os, signal, sys
from iql_jax.utils import hosts
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

process = int(sys.argv[2])
hosts.start("localhost:" + sys.argv[1], 2, process)
print(hosts.is_writer(), hosts.exchange({"from": process}))
try:
    with hosts.all_or_none():
        if process == 0:
            raise OSError("no space")
except (OSError, UserError) as error:
    print(repr(error))
with hosts.SharedStopRequest() as stop:
    stop.check()
    if process == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    try:
        stop.check()
    except Interrupted as error:
        print(error)
"""


def start_processes(script, *arguments, devices=1):
    """Start two processes that train together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": str(ROOT),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, port, str(i), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def run_processes(script, *arguments, devices=1):
    """The exit statuses, outputs and errors of two processes that train together."""
    processes = start_processes(script, *arguments, devices=devices)
    ended = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, ended, strict=True)]


def test_processes_exchange_fail_and_stop_together():
    (code, first, errors), (other_code, second, _) = run_processes(SCRIPT)
    assert (code, other_code) == (0, 0), errors
    both = "[{'from': 0}, {'from': 1}]"
    said = [[line for line in text.splitlines() if "Gloo" not in line] for text in (first, second)]
    assert said[0] == [f"True {both}", "OSError('no space')", "stopped by SIGTERM"]
    failure = "UserError('another process failed: OSError: no space')"
    assert said[1] == [f"False {both}", failure, "stopped by SIGTERM"]
