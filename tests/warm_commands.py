"""Commands, each in a fork of one process that has imported what takes long to import.

    python tests/warm_commands.py FOLDER < COMMANDS

COMMANDS is a JSON list with the words after ``python`` of each. What command i writes to standard
error goes to FOLDER/i; printed is a JSON list of the exit statuses.

JAX is imported and not started, so that there are no threads whose locks a fork could inherit.
"""

import gc
import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path


def run(words, errors):
    """Become the command, and end as it does, but without tidying up: that takes a second."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    status = 0
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as exited:
        status = exited.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


sys.path[0] = str(Path(__file__).parents[1])  # As for a script there, and for python -m.
for module in ("populations.run", "training.finetune", "envs.video"):  # Commands define flags.
    importlib.import_module(f"iql_jax.{module}")
gc.freeze()  # A fork that collects garbage copies all memory.
statuses = []
for i, words in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        run(words, Path(sys.argv[1]) / str(i))
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
