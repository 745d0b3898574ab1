"""Populations from a command to one table: ``train_offline.py`` with several members."""

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

from iql_jax.data.load import layout
from iql_jax.generation.provide import provide
from iql_jax.outputs.folder import RunFolder, started_with
from iql_jax.outputs.logs import Row
from iql_jax.populations import report
from iql_jax.populations.folder import Population, PopulationFolder
from iql_jax.populations.mapped import maps_in_turn
from iql_jax.populations.sweep import Member
from iql_jax.populations.train import train_population
from iql_jax.training.config import Config, complete
from iql_jax.utils import hosts
from iql_jax.utils.errors import UserError

Engine = Callable[[Sequence[Population]], Iterator[Population]]
"""Trains populations; yields each when it is finished."""


def in_this_process(populations: Sequence[Population]) -> Iterator[Population]:
    """Train one population after the other."""
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
    """Train every member; a folder with some of this done is resumed.

    Args:
        members: See ``sweep.members_of``. New ones may join those that the folder has.
        workdir: Gets the members' folders and the report of all of them.
        limit: How many members are trained together at most; 0 for no limit.
        engine: Where the populations are trained.
        in_turn: Whether members are updated one after the other there; by default as here.

    Returns:
        The rows of ``members.csv``.

    Raises:
        UserError: On anything that the user can fix, such as a folder whose runs have other
            settings.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    for member in members:  # Of a finished one, too, which no run would open again.
        RunFolder(workdir / member.name).check_settings(member.config.to_dict(), complete)
    if in_turn is None:
        in_turn = maps_in_turn()
    folder = PopulationFolder(workdir)
    write_report = report.write if hosts.is_writer() else report.rows
    with contextlib.ExitStack() as stack:
        with hosts.writer_first():
            if hosts.is_writer():
                stack.enter_context(folder)
                # One after the other, members gain nothing from a program with the data of all.
                together = None if in_turn else functools.partial(_layout, workdir)
                folder.plan(members, limit, together)
            planned = folder.read_plan(members)
            unsettled = [population for population in planned if not population.is_settled()]
        for _ in engine(unsettled):
            write_report(workdir, members)
        return write_report(workdir, members)


def _layout(workdir: Path, config: Config) -> Hashable:
    """Equal for configs whose transitions have the same shapes."""
    return layout(config, _source(workdir, config.dataset, config.progress))


@functools.cache
def _source(workdir: Path, dataset: str, progress: bool) -> str:
    """The dataset that stands for this one, found or generated once for all members."""
    begun = sorted(path.parent for path in workdir.glob("*/config.json"))
    return provide(dataset, progress=progress, started_with=started_with(dataset, begun)).source


def check_finished(table: Sequence[Row], workdir: Path) -> None:
    """Refuse a table of ``members.csv`` in which any member has not come to its end.

    Raises:
        UserError: It names these members.
    """
    if lost := [str(row["member"]) for row in table if row["status"] != "finished"]:
        raise UserError(
            f"{len(lost)} of {len(table)} members have failed ({', '.join(lost)}); "
            f"{workdir / 'members.csv'} says why, and has the others' scores"
        )
