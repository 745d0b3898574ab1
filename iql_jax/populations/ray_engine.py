"""Populations as tasks of a Ray cluster, each with its resources and its retries.

A task trains one population, in folders that all nodes see. When its worker dies, Ray starts it
again, and it resumes from its checkpoint.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from iql_jax.populations.folder import Population
from iql_jax.populations.run import Engine
from iql_jax.populations.session import train_population
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted, StopRequest

RETRIES = 10


def ray_engine(cpus: float, gpus: float) -> Engine:
    """Returns an engine on the cluster that RAY_ADDRESS names, or on this machine's own Ray.

    Each population is given so many cores and GPUs.
    """
    try:
        import ray
    except ImportError as error:
        message = "--engine=ray needs Ray; install it with: pip install 'iql_jax[ray]'"
        raise UserError(message) from error

    def train(populations: Sequence[Population]) -> Iterator[Population]:
        if not populations:
            return  # A finished sweep needs no cluster.
        if not ray.is_initialized():
            try:
                ray.init()
            except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
                raise UserError(f"Ray does not start: {error}; is RAY_ADDRESS right?") from error
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(train_population)
        workdir = populations[0].workdir.absolute()  # Workers have their own working directories.
        waiting = {task.remote(dataclasses.replace(p, workdir=workdir)): p for p in populations}
        logger.info(f"gave {len(waiting)} tasks to Ray, {cpus:g} CPUs and {gpus:g} GPUs each")
        with StopRequest(resumable=True) as stop:
            while waiting:
                stop.check()  # The tasks end with this process, after their newest checkpoints.
                for finished in ray.wait(list(waiting), num_returns=1, timeout=1.0)[0]:
                    _raise_failure(ray, finished)
                    population = waiting.pop(finished)
                    if not population.is_settled():
                        raise UserError(
                            f"a population was trained, but {population.workdir} does not hold its "
                            "results: name a --workdir that all nodes of the cluster share"
                        )
                    yield population

    return train


def _raise_failure(ray: Any, task: Any) -> None:
    """Raises the error, if any, that ended a task."""
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError | Interrupted | OSError | MemoryError):
            raise error.cause from None
        raise
    # Out of memory, a node gone, a worker that dies again and again: Ray's own words say it.
    except ray.exceptions.RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"a population's task failed ({type(error).__name__}: {reason}), after up to {RETRIES} "
            "retries; run the same command again to resume from its checkpoint"
        ) from error
