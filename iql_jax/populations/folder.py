"""The folder of a population: its members' folders, and which of them are trained together."""

import dataclasses
import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from iql_jax.outputs.folder import LockedFolder, write_json
from iql_jax.populations.sweep import Member, populations
from iql_jax.training.config import Config
from iql_jax.utils.errors import UserError

FAILURE = "failure.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Members that are trained together.

    Attributes:
        members: All of one structure.
        workdir: The folder that has theirs.
        number: Its place in the plan.
    """

    members: Sequence[Member]
    workdir: Path
    number: int

    @property
    def folder(self) -> Path:
        """Where the population's own checkpoints are."""
        return self.workdir / "populations" / str(self.number)

    @property
    def folders(self) -> list[Path]:
        """The members' folders."""
        return [self.workdir / member.name for member in self.members]

    @property
    def begun(self) -> list[Path]:
        """The folders of all members that were begun, those of other populations too."""
        return _begun(self.workdir)

    def is_settled(self) -> bool:
        """Whether every member has come to its end, or has failed."""
        return all(
            (folder / "summary.json").exists() or (folder / FAILURE).exists()
            for folder in self.folders
        )


def _begun(workdir: Path) -> list[Path]:
    return sorted(path.parent for path in workdir.glob("*/config.json"))


class PopulationFolder(LockedFolder):
    """The folder of a population, locked for this process while the context is open."""

    RECORD = "population.json"

    def check_record(self) -> None:
        """Refuse a record that is not ours."""
        self._recorded()

    def plan(
        self,
        members: Sequence[Member],
        limit: int,
        layout: Callable[[Config], Hashable] | None = None,
    ) -> list[Population]:
        """Decide which members train together.

        A plan that was written stays, since checkpoints hold all members of a population at once.
        Members that it does not have yet make populations of their own.

        Args:
            members: All members.
            limit: See ``sweep.populations``.
            layout: Likewise.

        Raises:
            UserError: If the folder has members that are not among these, or populations above the
                limit that are not finished.
        """
        planned = self._recorded()
        known = {name for names in planned for name in names}
        if lost := sorted(known - {member.name for member in members}):
            raise UserError(
                f"--workdir {self.path} contains members that this command does not "
                f"({', '.join(lost)}); name another folder, or keep them in the sweep"
            )
        for population in self.read_plan(members):
            size = len(population.members)
            if 0 < limit < size and not population.is_settled():
                raise UserError(
                    f"--workdir {self.path} trains {size} members together, and "
                    f"--config.population_size={limit} needs a new folder"
                )
        new = [member for member in members if member.name not in known]
        planned += [[m.name for m in group] for group in populations(new, limit, layout)]
        if new:
            write_json(self.path / self.RECORD, {"populations": planned})
        return self.read_plan(members)

    def read_plan(self, members: Sequence[Member]) -> list[Population]:
        """The populations as they were planned."""
        by_name = {member.name: member for member in members}
        return [
            Population([by_name[name] for name in names], self.path, number)
            for number, names in enumerate(self._recorded())
        ]

    def _recorded(self) -> list[list[str]]:
        path = self.path / self.RECORD
        if not path.exists():
            return []
        try:
            record: Any = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON: {error}") from error
        if not isinstance(record, dict) or "populations" not in record:
            raise UserError(f"{path} is not the record of a population; name another folder")
        return list(record["populations"])
