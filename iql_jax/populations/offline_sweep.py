"""Populations from a command to one table: what ``train_offline.py`` does with several members."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from iql_jax.outputs.folder import RunFolder
from iql_jax.outputs.logs import Row
from iql_jax.populations import report as population_report
from iql_jax.populations.folder import Population, PopulationFolder
from iql_jax.populations.sweep import Member
from iql_jax.populations.train import train_population
from iql_jax.utils import hosts
from iql_jax.utils.errors import UserError

Engine = Callable[[Sequence[Population]], Iterator[Population]]
"""Trains populations; yields each when it is finished."""


def in_this_process(populations: Sequence[Population]) -> Iterator[Population]:
    """One population after the other."""
    for population in populations:
        train_population(population)
        yield population


def train_sweep(
    members: Sequence[Member],
    workdir: Path,
    limit: int = 0,
    engine: Engine = in_this_process,
    in_turn: bool | None = None,
) -> list[Row]:
    """Train every member; in a folder with some of this done, go on with it.

    Args:
        members: See ``sweep.members_of``. To those that the folder has, new ones may come.
        workdir: Gets the members' folders and what is told of all of them.
        limit: How many members are trained together at most; 0 for no limit.
        engine: Where the populations are trained.
        in_turn: Whether members are updated one after the other there; by default as here.

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
    tell = population_report.write if hosts.is_writer() else population_report.rows
    with contextlib.ExitStack() as stack:
        with hosts.writer_first():
            if hosts.is_writer():
                stack.enter_context(folder)
                folder.plan(members, limit, in_turn)
            planned = folder.read_plan(members)
            unsettled = [population for population in planned if not population.is_settled()]
        for _ in engine(unsettled):
            tell(workdir, members)
        return tell(workdir, members)


def check_finished(table: Sequence[Row], workdir: Path) -> None:
    """Say which members have not come to their end, given the rows of ``members.csv``.

    Raises:
        UserError: If any has not.
    """
    if lost := [str(row["member"]) for row in table if row["status"] != "finished"]:
        raise UserError(
            f"{len(lost)} of {len(table)} members have failed ({', '.join(lost)}); "
            f"{workdir / 'members.csv'} says why, and has the others' scores"
        )
