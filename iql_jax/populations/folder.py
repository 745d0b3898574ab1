"""The folder of a population: its members' folders, and which of them are trained together."""

import dataclasses
import functools
import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from iql_jax.data.load import layout
from iql_jax.outputs.folder import LockedFolder, begun_on, write_json
from iql_jax.populations.mapped import maps_in_turn
from iql_jax.populations.sweep import Member, populations
from iql_jax.training.config import Config
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError

FAILURE = "failure.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Members that are trained together.

    Attributes:
        members: All of one structure.
        workdir: The folder that has theirs.
        number: Which of the populations of this folder; no other ever had it.
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
        return all(_is_settled(folder) for folder in self.folders)


def _layouts(begun: Sequence[Path]) -> Callable[[Config], Hashable]:
    """The layout of each config's data, looked up once for members that share them.

    New members share the data of those that were begun, in these folders.
    """
    cached = functools.cache(layout)
    return lambda config: cached(
        config.dataset, config.maze_goal, config.progress, begun_on(config.dataset, begun)
    )


def _is_settled(folder: Path) -> bool:
    return (folder / "summary.json").exists() or (folder / FAILURE).exists()


def _begun(workdir: Path) -> list[Path]:
    """The folders of all members of a sweep that were begun."""
    return sorted(path.parent for path in workdir.glob("*/config.json"))


class PopulationFolder(LockedFolder):
    """The folder of a population, locked for this process while the context is open."""

    RECORD = "population.json"

    def check_record(self) -> None:
        """Refuse a record that is not ours."""
        self._recorded()

    def refusal(self, holds: set[str]) -> str:
        """What is said of a folder that holds other files than ours."""
        kind = "a single run" if "config.json" in holds else "files but no population"
        return f"--workdir {self.path} holds {kind}; name a new or empty folder"

    def plan(
        self, members: Sequence[Member], limit: int, in_turn: bool | None = None
    ) -> list[Population]:
        """Which members to train together.

        Populations that have checkpoints stay what they are, for these hold all their members at
        once; members that have come since make new ones.

        Args:
            members: All members.
            limit: See ``sweep.populations``.
            in_turn: Whether members are updated one after the other where they are trained; by
                default as this process does it.

        Raises:
            UserError: If the folder has members that are not among these.
        """
        # Others are planned anew. Their places in the list stay empty if they have checkpoints:
        # they are of members whose folders are gone, and of no others.
        planned = [
            names if self._stays(number, names, limit) else []
            for number, names in enumerate(self._recorded())
        ]
        while planned and not planned[-1] and not self._checkpoints(len(planned) - 1).exists():
            planned.pop()
        known = {name for names in planned for name in names}
        by_name = {member.name: member for member in members}
        lost = sorted(known - set(by_name))
        if lost:
            raise UserError(
                f"--workdir {self.path} contains members that this command does not "
                f"({', '.join(lost)}); name another folder, or keep them in the sweep"
            )
        # One after the other, members gain nothing from a program that holds the data of all.
        if in_turn is None:
            in_turn = maps_in_turn()
        together = None if in_turn else _layouts(_begun(self.path))
        new = populations(
            [member for member in members if member.name not in known], limit, together
        )
        planned += [[member.name for member in group] for group in new]
        write_json(self.path / self.RECORD, {"populations": planned})
        return self.read_plan(members)

    def read_plan(self, members: Sequence[Member]) -> list[Population]:
        """The populations as they were planned."""
        by_name = {member.name: member for member in members}
        return [
            Population([by_name[name] for name in names], self.path, number)
            for number, names in enumerate(self._recorded())
            if names
        ]

    def _checkpoints(self, number: int) -> Path:
        return Population([], self.path, number).folder

    def _stays(self, number: int, names: Sequence[str], limit: int) -> bool:
        """Whether a recorded population remains what it is."""
        folders = [self.path / name for name in names]
        if not any((folder / "config.json").exists() for folder in folders):
            return False
        if not limit or len(names) <= limit or any(map(_is_settled, folders)):
            return True
        # It is larger than is wanted now: memory may have run out. Without a checkpoint its members
        # begin anew whatever is planned.
        saved = (self._checkpoints(number) / "checkpoints").glob("*")
        if not any(path.name.isdigit() for path in saved):  # Half a checkpoint has another name.
            return False
        logger.info(
            f"{self.path}: {len(names)} members go on together, more than the "
            f"{limit} of population_size, for their checkpoints hold all of them"
        )
        return True

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
