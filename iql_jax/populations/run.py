"""Populations from a command to one table: ``train_offline.py`` with several members."""

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

from iql_jax.data.load import layout
from iql_jax.generation.provide import Provided
from iql_jax.outputs.folder import RunFolder
from iql_jax.outputs.logs import Row
from iql_jax.populations import report
from iql_jax.populations.folder import Population, PopulationFolder
from iql_jax.populations.mapped import maps_in_turn
from iql_jax.populations.sweep import Member
from iql_jax.populations.train import train_population
from iql_jax.training.config import Config, complete
from iql_jax.training.run import find_data
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
    folder = PopulationFolder(workdir)
    write_report = report.write if hosts.is_writer() else report.rows
    with contextlib.ExitStack() as context:
        sources: dict[str, Provided] = {}
        with hosts.all_or_none():
            if hosts.is_writer():
                sources = _prepare(members, context.enter_context(folder), limit, in_turn)
        found = hosts.exchange({k: dataclasses.asdict(source) for k, source in sources.items()})
        sources = {key: Provided(**fields) for key, fields in found[0].items()}
        planned = folder.read_plan(members, sources)
        for _ in engine([population for population in planned if not population.is_settled()]):
            write_report(workdir, members)
        return write_report(workdir, members)


def _prepare(
    members: Sequence[Member], folder: PopulationFolder, limit: int, in_turn: bool | None
) -> dict[str, Provided]:
    """Check and plan everything before anything is trained; returns where each dataset is."""
    runs = [folder.path / member.name for member in members]
    for run, member in zip(runs, members, strict=True):
        RunFolder(run).check_settings(member.config.to_dict(), complete)
    sources = {}
    if not Population(members, folder.path, 0, {}).is_settled():
        for config in {member.config.dataset: member.config for member in members}.values():
            sources[config.dataset] = find_data(config, runs)

    def shapes(config: Config) -> Hashable:
        return layout(config, sources[config.dataset].source)

    # One after the other, members gain nothing from a program that holds the data of all.
    folder.plan(
        members, limit, None if (maps_in_turn() if in_turn is None else in_turn) else shapes
    )
    return sources


def check_finished(table: Sequence[Row], workdir: Path) -> None:
    """Raise a UserError that names the members of ``members.csv`` that are not finished, if any."""
    if lost := [str(row["member"]) for row in table if row["status"] != "finished"]:
        raise UserError(
            f"{len(lost)} of {len(table)} members have failed ({', '.join(lost)}); "
            f"{workdir / 'members.csv'} says why, and has the others' scores"
        )
