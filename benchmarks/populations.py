"""A task's seeds as one population: what a benchmark gives to another engine than this process."""

import dataclasses
from collections.abc import Sequence

import numpy as np

import runs as bench


@dataclasses.dataclass(frozen=True, eq=False)
class Population(bench.Run):
    """Runs that differ in their seeds alone, trained by one command.

    Attributes:
        seeds: how many, from the settings' seed on.
        options: further words of the command, such as ``--engine=ray``.
    """

    seeds: int = 1
    options: Sequence[str] = ()

    def members(self) -> list[bench.Run]:
        """The runs, in the folders that the population gives them."""
        first = self.settings["seed"]
        return [
            bench.Run(
                folder=self.folder / f"seed_{seed}",
                config=self.config,
                settings={**self.settings, "seed": seed},
            )
            for seed in range(first, first + self.seeds)
        ]

    def command(self) -> list[str]:
        """What starts it, or goes on with it."""
        return [*super().command(), f"--config.num_seeds={self.seeds}", *self.options]

    def is_finished(self) -> bool:
        """Whether every member is."""
        return all(member.is_finished() for member in self.members())

    def share_done(self) -> float:
        """The mean of the members'."""
        return float(np.mean([member.share_done() for member in self.members()]))
