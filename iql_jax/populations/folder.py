"""The folder of a population: its members' folders, and which of them are trained together."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iql_jax.generation.provide import Provided
from iql_jax.outputs.folder import LockedFolder, RunFolder, write_json
from iql_jax.populations.sweep import Layout, Member, populations
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import read_json

FAILURE = "failure.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Members of one structure that are trained together."""

    members: Sequence[Member]
    workdir: Path  # The folder that has theirs.
    number: int  # Its place in the plan.
    sources: Mapping[str, Provided]  # Where the data are that the members' configs name.

    @property
    def folder(self) -> Path:
        """The folder of the population's own checkpoints."""
        return self.workdir / "populations" / str(self.number)

    @property
    def folders(self) -> list[Path]:
        """The members' folders."""
        return [self.workdir / member.name for member in self.members]

    def is_settled(self) -> bool:
        """Returns whether every member is finished or has failed."""
        ends = ("summary.json", FAILURE)
        return all(any((folder / end).exists() for end in ends) for folder in self.folders)


class PopulationFolder(LockedFolder):
    """The folder of a population, locked for this process while the context is open."""

    RECORD = "population.json"

    def plan(
        self,
        members: Sequence[Member],
        limit: int,
        layout: Layout | None = None,
        alone: bool = False,
    ) -> None:
        """Decides which members train together (``alone``: none); see ``sweep.populations``.

        A plan that was written stays; members that are new to it make populations of their own.
        """
        planned = self.recorded()
        known = {name for names in planned for name in names}
        if lost := sorted(known - {member.name for member in members}):
            raise UserError(
                f"--workdir {self.path} contains members that this command does not "
                f"({', '.join(lost)}); name another folder, or keep them in the sweep"
            )
        for population in self.read_plan(members, {}):
            _check_resumable(population, limit)
        if new := [member for member in members if member.name not in known]:
            planned += [
                [m.name for m in group] for group in populations(new, limit or int(alone), layout)
            ]
            write_json(self.path / self.RECORD, {"populations": planned})

    def read_plan(
        self, members: Sequence[Member], sources: Mapping[str, Provided]
    ) -> list[Population]:
        """Returns the populations as they were planned."""
        by_name = {member.name: member for member in members}
        return [
            Population([by_name[name] for name in names], self.path, number, sources)
            for number, names in enumerate(self.recorded())
        ]

    def recorded(self) -> list[list[str]]:
        """Returns the members' names by population; raises UserError if it is no such record."""
        path = self.path / self.RECORD
        if not path.exists():
            return []
        planned: Any = read_json(path, "name another folder").get("populations")
        is_plan = isinstance(planned, list) and all(isinstance(g, list) and g for g in planned)
        names = [name for group in planned for name in group] if is_plan else [None]
        if len({name for name in names if isinstance(name, str)}) < len(names):
            raise UserError(f"{path} is not a population's; name another folder")
        return list(planned)


def read_failure(folder: Path) -> dict[str, Any] | None:
    """Returns the update at which a member failed, and the reason; None if it has not failed."""
    if not (folder / FAILURE).exists():
        return None
    advice = "delete it, and the member resumes"
    failure = read_json(folder / FAILURE, advice)
    if [type(failure.get(key)) for key in ("update", "reason")] != [int, str]:
        raise UserError(f"{folder / FAILURE} does not say when and why a member failed: {advice}")
    return failure


def _check_resumable(population: Population, limit: int) -> None:
    """Refuses to divide a population, and to resume it where folders of members are gone."""
    if 0 < limit < len(population.members) and not population.is_settled():
        raise UserError(
            f"--workdir {population.workdir} trains {len(population.members)} members together; "
            f"--config.population_size={limit} needs a new folder"
        )
    gone = [folder for folder in population.folders if not (folder / RunFolder.RECORD).exists()]
    if gone and (population.folder / "checkpoints").exists():
        raise UserError(
            f"{population.folder} holds checkpoints of {gone[0].name}, whose folder is gone; to "
            f"train anew, delete it and {', '.join(folder.name for folder in population.folders)}"
        )
