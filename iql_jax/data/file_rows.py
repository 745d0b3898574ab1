"""Rows of steps, as the files of D4RL and OGBench hold them, and how they become episodes."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.data.episodes import Episodes
from iql_jax.data.maze_frames import MazeFrame
from iql_jax.envs.mazes import NOT_THIS_MAZE
from iql_jax.utils.arrays import Bool, Float32
from iql_jax.utils.errors import UserError

_GAP = 0.2
"""A stored next observation is another episode's if in half of the numbers it differs from the
following row's observation by more than this share of their standard deviation.

At resets half of the numbers differ by 0.5 and more. Elsewhere some files differ a little, or much
in few numbers (the other of two equal quaternions).
"""


@dataclasses.dataclass(frozen=True, eq=False)
class FileRows:
    """N steps one after another, in float32 or float64."""

    observations: npt.NDArray[Any]  # [N, d]
    actions: npt.NDArray[Any]  # [N, a]
    rewards: npt.NDArray[Any]
    terminals: Bool  # Where the mask is 0.
    kept: Bool  # The rows that are transitions. The others lend their observation alone.
    ends: Bool  # The rows after which an episode ends, whatever follows.
    following: npt.NDArray[Any] | None = None  # Next observations, where the file stores them.

    def gaps(self) -> Bool:
        """Returns where a row's stored next observation is not the following row's, [N]."""
        found = np.zeros(len(self.observations), np.bool_)
        if self.following is not None:
            spread = self.observations.std(axis=0, dtype=np.float64).astype(np.float32)
            used = spread > 0
            differences = np.abs(self.following[:-1] - self.observations[1:])[:, used]
            wide = (differences > _GAP * spread[used]).sum(axis=1)
            found[:-1] = wide > used.sum() / 2
        return found


def file_episodes(rows: FileRows, name: str, maze: MazeFrame | None, goal: Any = None) -> Episodes:
    """Cuts rows into episodes, and brings a maze's positions into gymnasium_robotics' frame.

    An episode is a run of transitions that ends where ``ends`` says so, before a row that is no
    transition, and where the stored next observation is not the following row's. In a maze, an
    observation begins with a position, and ``goal`` is the one that rewards refer to.

    Raises:
        UserError: if there is no transition, a number is not finite, or it is another maze.
    """
    kept = np.flatnonzero(rows.kept)
    if not len(kept):
        raise UserError(f"{name} holds no transition: each of its rows ends an episode")
    goes_on = rows.kept & ~(rows.ends | rows.gaps())
    starts = np.flatnonzero((kept == 0) | ~goes_on[kept - 1])
    next_rows = kept + 1
    observations = rows.observations
    if rows.following is not None:
        observations = np.concatenate([observations, rows.following])
        next_rows = kept + len(rows.observations)
    episodes = Episodes(
        observations={"observation": _as_float32(observations)}
        if maze is None
        else _maze_entries(observations, maze, goal, name),
        rows=kept,
        next_rows=next_rows,
        actions=_as_float32(rows.actions[kept]),
        rewards=_as_float32(rows.rewards[kept]),
        terminations=rows.terminals[kept],
        lengths=np.diff(starts, append=len(kept)),
        is_dict=maze is not None,
    )
    _check_finite(episodes, name)
    return episodes


def _maze_entries(
    observations: npt.NDArray[Any], maze: MazeFrame, goal: Any, name: str
) -> dict[str, Float32]:
    """Lays observations out as gymnasium_robotics' maze environments do."""
    # In float64, so that the sum is rounded once.
    positions = _as_float32(observations[:, :2].astype(np.float64) + maze.shift)
    finite = positions[np.isfinite(positions).all(axis=1)]
    share = maze.map.share_in_walls(finite) if len(finite) else 0.0
    if share > NOT_THIS_MAZE:
        raise UserError(
            f"{100 * share:.0f} % of the positions in {name} lie in walls of the maze that the "
            "task's name says: it is another maze's file; config.task names the task"
        )
    rest = _as_float32(observations[:, 2:])
    return {
        "observation": rest if maze.is_ant else np.concatenate([positions, rest], axis=1),
        "achieved_goal": positions,
        "desired_goal": np.broadcast_to(np.asarray(goal, np.float32), positions.shape),
    }


def _as_float32(array: npt.NDArray[Any]) -> Float32:
    with np.errstate(over="ignore"):  # An overflow is inf, which is reported as such.
        return array.astype(np.float32, copy=False)


def _check_finite(episodes: Episodes, name: str) -> None:
    entries = [np.isfinite(entry).all(axis=1) for entry in episodes.observations.values()]
    finite = np.logical_and.reduce(entries)
    for field, fits in {
        "observations": finite[episodes.rows] & finite[episodes.next_rows],
        "actions": np.isfinite(episodes.actions).all(axis=1),
        "rewards": np.isfinite(episodes.rewards),
    }.items():
        if not fits.all():
            row = int(episodes.rows[np.argmin(fits)])
            raise UserError(
                f"{name} holds {field} in or after row {row} that are no finite float32 numbers: "
                "get the file again"
            )
