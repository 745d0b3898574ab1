"""Several processes that train one population together: who writes, and how they agree.

All run the same program on the same settings, and see the same folders. The first one writes.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError, one_line
from iql_jax.utils.signals import StopRequest


def start(coordinator: str = "", num_processes: int = 0, process_id: int = -1) -> None:
    """Joins the other processes; call it before anything else of JAX.

    On TPU pods and under Slurm or MPI, JAX finds the address of process 0 and the numbers itself.
    """
    try:
        if coordinator:
            jax.distributed.initialize(coordinator, num_processes, process_id)
        else:
            jax.distributed.initialize()
        # They connect at the first exchange, which waits for 30 s: too short for one that is busy.
        multihost_utils.sync_global_devices("all are here")
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--distributed does not start: {one_line(error)}; elsewhere than on TPU pods and "
            "under Slurm it needs --coordinator, --num_processes and --process_id"
        ) from error
    logger.disabled = not is_writer()


def check_jax() -> None:
    """Refuses settings of JAX with which runs fail or have other bits; raises UserError."""
    usual = {"enable_x64": False, "disable_jit": False, "numpy_dtype_promotion": "standard"}
    for name, needed in usual.items():
        if (found := getattr(jax.config, f"jax_{name}")) != needed:
            raise UserError(f"JAX_{name.upper()} is {found}, and runs need {needed}; unset it")
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')} names no device that JAX has "
            f"here ({one_line(error)}); unset it, or install JAX for that device"
        ) from error


def is_writer() -> bool:
    """Returns whether this process writes what all have computed."""
    return jax.process_index() == 0


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Runs a part of the program that all processes get through, or none.

    If anything is raised on one, a UserError is raised on the others, instead of waiting for it.
    """
    try:
        yield
    except Exception as error:
        is_users = isinstance(error, UserError)
        exchange(str(error) if is_users else f"another process failed: {one_line(error)}")
        raise
    for failure in exchange(None):
        if failure is not None:
            raise UserError(failure)


def exchange(content: Any) -> list[Any]:
    """Gathers a JSON-able value from every process, in the order of processes."""
    if jax.process_count() == 1:
        return [content]
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.asarray(len(text), np.int32)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    texts = np.asarray(multihost_utils.process_allgather(padded))
    return [json.loads(bytes(line[:length])) for line, length in zip(texts, lengths, strict=True)]


class SharedStopRequest(StopRequest):
    """A stop request that any process may make and all obey, at the same check."""

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal has come to any process; all must call it together."""
        self.signum = next((s for s in exchange(self.signum) if s is not None), None)
        super().check()
