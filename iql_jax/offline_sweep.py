"""Populations from a command to one table: what ``train_offline.py`` does with several members."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from iql_jax import hosts, population_report
from iql_jax.metrics import Row
from iql_jax.population_folder import Population, PopulationFolder
from iql_jax.population_run import train_population
from iql_jax.run_folder import RunFolder
from iql_jax.sweep import Member

Engine = Callable[[Sequence[Population]], Iterator[Population]]
"""Trains populations; yields each when it is finished."""


def in_this_process(populations: Sequence[Population]) -> Iterator[Population]:
    """One population after the other."""
    for population in populations:
        train_population(population)
        yield population


def train_sweep(
    members: Sequence[Member], workdir: Path, limit: int = 0, engine: Engine = in_this_process
) -> list[Row]:
    """Train every member; in a folder with some of this done, go on with it.

    Args:
        members: See ``sweep.members_of``. To those that the folder has, new ones may come.
        workdir: Gets the members' folders and what is told of all of them.
        limit: How many members are trained together at most; 0 for no limit.
        engine: Where the populations are trained.

    Returns:
        The rows of ``members.csv``.

    Raises:
        UserError: On anything that the user can mend, such as a folder whose runs have other
            settings.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    for member in members:  # Of a finished one, too, which no run would open again.
        RunFolder(workdir / member.name).check_settings(member.config.to_dict())
    folder = PopulationFolder(workdir)
    if not hosts.is_writer():
        hosts.barrier("the populations are planned")
        for _ in engine(_unsettled(folder.read_plan(members))):
            pass
        return population_report.rows(workdir, members)
    with folder:
        populations = _unsettled(folder.plan(members, limit))
        hosts.barrier("the populations are planned")
        for _ in engine(populations):
            population_report.write(workdir, members)
        return population_report.write(workdir, members)


def _unsettled(populations: Sequence[Population]) -> list[Population]:
    return [population for population in populations if not population.is_settled()]
