"""Populations as tasks of a Ray cluster, each with its resources and its retries.

A task trains one population, in the folders that all nodes see. When its worker dies Ray starts it
again, and it goes on from its checkpoint as any command does on its folder.
"""

import importlib.util
from collections.abc import Iterator, Sequence

from iql_jax.console import say
from iql_jax.errors import UserError
from iql_jax.offline_sweep import Engine
from iql_jax.population_folder import Population

RETRIES = 10


def ray_engine(cpus: float, gpus: float) -> Engine:
    """An engine on the cluster that RAY_ADDRESS names, or on a Ray of this machine's own.

    Args:
        cpus: Cores that a population is given.
        gpus: GPUs that a population is given.

    Raises:
        UserError: If Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "--engine=ray needs Ray; install it with: pip install 'iql_jax[ray]', or leave "
            "--engine out"
        )

    def train(populations: Sequence[Population]) -> Iterator[Population]:
        import ray

        if not ray.is_initialized():
            ray.init()
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_train)
        waiting = {task.remote(population): population for population in populations}
        say(f"{len(waiting)} populations given to Ray, {cpus:g} CPUs and {gpus:g} GPUs each")
        while waiting:
            (finished,), _ = ray.wait(list(waiting), num_returns=1)
            try:
                ray.get(finished)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            except ray.exceptions.WorkerCrashedError as error:
                raise UserError(
                    f"a population's worker died {RETRIES + 1} times; run the same command again "
                    "to go on from its checkpoint"
                ) from error
            yield waiting.pop(finished)

    return train


def _train(population: Population) -> None:
    """What a worker does; the import of JAX is its own."""
    from iql_jax.population_run import train_population

    train_population(population)
