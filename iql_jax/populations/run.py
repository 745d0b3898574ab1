"""Trains all members of a command, and writes one table of them."""

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from iql_jax.data.load import layout
from iql_jax.generation.provide import Provided
from iql_jax.outputs.folder import RunFolder
from iql_jax.outputs.logs import Row
from iql_jax.populations import report
from iql_jax.populations.folder import Population, PopulationFolder
from iql_jax.populations.mapped import maps_in_turn
from iql_jax.populations.processes import in_processes
from iql_jax.populations.session import train_population
from iql_jax.populations.sweep import Member
from iql_jax.training.config import Config, complete
from iql_jax.training.run import find_data
from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import cores

Engine = Callable[[Sequence[Population]], Iterator[Population]]
"""Trains populations, and yields each when it is finished."""


def local_engine() -> Engine:
    """Returns what trains populations on this machine."""
    alone = jax.process_count() == 1
    return in_processes if maps_in_turn() and alone and len(cores()) > 1 else in_this_process


def in_this_process(populations: Sequence[Population]) -> Iterator[Population]:
    """Trains one population after the other."""
    for population in populations:
        train_population(population)
        yield population


def train_sweep(
    members: Sequence[Member],
    workdir: Path,
    limit: int = 0,
    engine: Engine = in_this_process,
    alone: bool = False,
) -> list[Row]:
    """Trains every member, or resumes, and returns the rows of ``members.csv``.

    New members may join those that ``workdir`` has; at most ``limit`` (0: all, or one if ``alone``)
    are trained together.
    """
    folder = PopulationFolder(workdir)
    write_report = report.write if hosts.is_writer() else report.rows
    with contextlib.ExitStack() as context:
        found: dict[str, dict[str, Any]] = {}
        with hosts.all_or_none():
            if hosts.is_writer():
                found = _prepare(members, context.enter_context(folder), limit, alone)
        found = hosts.exchange(found)[0]
        sources = {dataset: Provided(**fields) for dataset, fields in found.items()}
        planned = folder.read_plan(members, sources)
        for _ in engine([population for population in planned if not population.is_settled()]):
            write_report(workdir, members)
        return write_report(workdir, members)


def _prepare(
    members: Sequence[Member], folder: PopulationFolder, limit: int, alone: bool
) -> dict[str, dict[str, Any]]:
    """Checks and plans all before anything is trained; returns each ``Provided``, JSON-able."""
    everyone = Population(members, folder.path, 0, {})
    for member, run in zip(members, everyone.folders, strict=True):
        RunFolder(run).check_settings(member.config.to_dict(), complete)
    sources = {}
    if not everyone.is_settled():
        for config in {member.config.dataset: member.config for member in members}.values():
            sources[config.dataset] = dataclasses.asdict(find_data(config, everyone.folders))

    def shapes(config: Config) -> Hashable:
        return layout(config, sources[config.dataset]["source"])

    # Without sources all are finished: nothing is trained, whatever the plan.
    folder.plan(members, limit, shapes if sources else None, alone)
    return sources


def check_finished(table: Sequence[Row], workdir: Path) -> None:
    """Says that all members are finished, or raises a UserError that names those that are not."""
    if lost := [str(row["member"]) for row in table if row["status"] != "finished"]:
        raise UserError(
            f"{len(lost)} of {len(table)} members have failed ({', '.join(lost)}); "
            f"{workdir / 'members.csv'} says why, and has the others' scores"
        )
    logger.info(f"{len(table)} members are finished; {workdir / 'members.csv'} has their scores")
