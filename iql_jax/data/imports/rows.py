"""What every format comes down to: rows of steps, of which some are transitions."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.data.episodes import BoolArray, IntArray
from iql_jax.utils.errors import UserError

JUMP = 1e-6
"""How far a stored next observation may lie from the following row, as in IQL's official code.

Its ``dataset_utils.py`` (github.com/ikostrikov/implicit_q_learning) begins a new episode where the
Euclidean distance is larger.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """N steps one after another, as the files of D4RL and OGBench hold them.

    Attributes:
        observations: [N, d] float32 or float64.
        actions: [N, a] float32 or float64.
        rewards: [N] float32 or float64.
        terminals: [N] bool, where the mask is 0; only those of transitions count.
        kept: [N] bool: which rows are transitions. The others lend their observation alone.
        ends: [N] bool: the rows after which an episode ends, whatever follows.
        successors: [N, d], each row's next observation where the file stores it; None where it is
            the next row's observation.
    """

    observations: npt.NDArray[Any]
    actions: npt.NDArray[Any]
    rewards: npt.NDArray[Any]
    terminals: BoolArray
    kept: BoolArray
    ends: BoolArray
    successors: npt.NDArray[Any] | None = None

    @property
    def num_transitions(self) -> int:
        """How many rows are transitions."""
        return int(self.kept.sum())

    def bounds(self) -> tuple[IntArray, IntArray]:
        """Cut the transitions into episodes.

        An episode is a run of transitions that ends where ``ends`` says so, before a row that is no
        transition, and where the stored next observation is not the next row's.

        Returns:
            The first row and the last row of each episode's transitions, both [E].
        """
        goes_on = self.kept[:-1] & self.kept[1:] & ~self.ends[:-1]
        if self.successors is not None:
            goes_on &= ~self._jumps()
        first = self.kept & ~np.concatenate([[False], goes_on])
        last = self.kept & ~np.concatenate([goes_on, [False]])
        return np.flatnonzero(first), np.flatnonzero(last)

    def episode_observations(self, first: int, last: int) -> npt.NDArray[Any]:
        """The observations of the transitions ``first`` to ``last``, [last - first + 2, d]."""
        if self.successors is None:
            return self.observations[first : last + 2]
        return np.concatenate(
            [self.observations[first : last + 1], self.successors[last : last + 1]]
        )

    def next_observations(self, rows: IntArray) -> npt.NDArray[Any]:
        """The next observations of some transitions, [len(rows), d]."""
        if self.successors is None:
            return self.observations[rows + 1]
        return self.successors[rows]

    def _jumps(self) -> BoolArray:
        """Where the stored next observation is not the next row's observation, [N - 1]."""
        assert self.successors is not None
        found = np.empty(len(self.observations) - 1, dtype=np.bool_)
        for start in range(0, len(found), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(found)))
            following = self.observations[block.start + 1 : block.stop + 1]
            found[block] = np.linalg.norm(following - self.successors[block], axis=1) > JUMP
        return found


_BLOCK = 65_536


def check_rows(rows: Rows, file_name: str) -> None:
    """Refuse rows from which nothing can be learned, or that no later step accepts.

    Raises:
        UserError: if there is no transition, or a number is not finite; names the first such row.
    """
    if not rows.num_transitions:
        raise UserError(f"{file_name} holds no transition: each of its rows ends an episode")
    fields = {"observations": rows.observations, "actions": rows.actions}
    fields["rewards"] = rows.rewards[:, None]
    if rows.successors is not None:
        fields["next_observations"] = rows.successors
    for field, array in fields.items():
        used = rows.kept
        if field == "observations":  # A row that is no transition may still follow one.
            used = used | np.concatenate([[False], used[:-1]])
        with np.errstate(over="ignore"):
            wrong = used & ~np.isfinite(array.astype(np.float32, copy=False)).all(axis=1)
        if wrong.any():
            raise UserError(
                f"{file_name} holds {field} in row {int(np.argmax(wrong))} that are no finite "
                "float32 numbers: get the file again"
            )
