"""The transitions of a run's environments on disk, from which its replay buffer is rebuilt.

Just before each checkpoint, the transitions since the one before are written as one NumPy file.
Rewards are the environment's own, before any transform.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import UserError, is_disk_full
from iql_jax.utils.files import atomic_path, reading

Arrays = Mapping[str, Float32]  # Of each field, [n, ...].

FIELDS = ("observations", "actions", "rewards", "masks", "next_observations")

_NAME = re.compile(r"(\d{9})-(\d{9})\.npz")
_BLOCK = 1_000  # Appended pieces that are joined: small arrays take ten times their numbers.


class TransitionLog:
    """Transitions in the order in which they were made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks: list[Arrays] = []
        self._pieces: list[Arrays] = []  # Later than the blocks.
        self._saved = 0

    def append(self, transitions: Arrays) -> None:
        """Adds transitions; the next ``save`` writes them."""
        self._pieces.append(transitions)
        if len(self._pieces) == _BLOCK:
            self._blocks.append(_join(self._pieces))
            self._pieces = []

    def save(self) -> int:
        """Writes what was added since the last time; returns how many are saved in all."""
        if not (pending := [*self._blocks, *self._pieces]):
            return self._saved
        transitions = _join(pending)
        end = self._saved + len(transitions["rewards"])
        path = self._folder / f"{self._saved:09d}-{end:09d}.npz"
        try:
            self._folder.mkdir(exist_ok=True)
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **transitions)
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                f"no space left to save transitions in {self._folder}; free some space and run the "
                "same command again to resume from the last checkpoint"
            ) from error
        self._saved, self._blocks, self._pieces = end, [], []
        return end

    def restore(self, saved: int) -> None:
        """Goes back to when ``save`` returned ``saved``: files of later transitions are deleted."""
        for end, path in self._files():
            if end > saved:
                path.unlink()
        for path in self._folder.glob(".*.partial.npz"):
            path.unlink()
        self._saved, self._blocks, self._pieces = saved, [], []

    def read(self) -> Iterator[dict[str, Float32]]:
        """Yields all saved transitions, file by file; a file may be damaged: a UserError."""
        read = 0
        for end, path in self._files():
            with (
                reading(path, "it is damaged; start the run again in another folder"),
                path.open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                transitions = {field: arrays[field] for field in FIELDS}
            read += len(transitions["rewards"])
            if read != end:
                break
            yield transitions
        if read != self._saved:
            raise UserError(
                f"{self._folder} holds {read:,} of the {self._saved:,} transitions that the run's "
                "environments had made: a file is missing; start the run again in another folder"
            )

    def _files(self) -> list[tuple[int, Path]]:
        """Returns each file with the number of transitions up to its end, in order."""
        if not self._folder.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self._folder.iterdir()]
        return sorted((int(match[2]), path) for match, path in matches if match is not None)


def _join(pieces: Sequence[Arrays]) -> dict[str, Float32]:
    return {field: np.concatenate([piece[field] for piece in pieces]) for field in FIELDS}
