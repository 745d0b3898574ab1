"""Reading files in D4RL's format: the transitions of D4RL's ``qlearning_dataset``, to the bit.

That function (github.com/Farama-Foundation/D4RL, ``d4rl/__init__.py``), which IQL's official code
trains on, decides so:

- The next observation is the following row's, after a terminal too (where the mask makes it
  irrelevant). The file's last row is therefore never a transition.
- A row at a time limit is left out, whether it is a terminal as well or not: the following row
  belongs to another episode.
- Files with ``timeouts`` mark time limits. Without, steps are counted: from 0 at the file's first
  row and after a time limit, but from 1 after a terminal, so that an episode that follows a
  terminal is cut one row early.
- The option ``terminate_on_end`` is off, as in IQL.

Three things differ, and are counted in a note: a next observation that the file stores is taken; a
transition across a reset that nothing marks is left out, in a maze where the position jumps, and
where D4RL counts time limits after a terminal, at the episode's true end; and where a maze's
terminals are followed by such jumps, as in antmaze-umaze-diverse, the next observation, which is
lost, is put at the evaluation's goal.

Episodes end as IQL's official code cuts them: after terminals, and where an observation does not
follow from the one before (see ``file_rows``). In most mazes a terminal only ends the bootstrap,
for the agent walks on.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from iql_jax.data.ant_model import ant_model
from iql_jax.data.config import DataConfig
from iql_jax.data.d4rl_tasks import KITCHEN_ROWS, TASKS, D4RLTask, find_task
from iql_jax.data.episodes import Episodes, Source
from iql_jax.data.file_arrays import Arrays, check_widths, read_arrays, take_arrays
from iql_jax.data.file_rows import FileRows, file_episodes
from iql_jax.data.maze_frames import MazeFrame, maze_spec
from iql_jax.data.rewarded_goal import rewarded_goal
from iql_jax.data.scores import D4RL_REFERENCES, named_entry
from iql_jax.envs.mazes import GOAL_RADIUS
from iql_jax.envs.specs import register_robotics, registered_spec
from iql_jax.utils.arrays import Bool
from iql_jax.utils.errors import UserError

_REQUIRED = ("observations", "actions", "rewards", "terminals")
_OPTIONAL = ("timeouts", "next_observations")
_JUMP = 0.5  # Cells: farther than this no step of an ant or a ball goes.


def read_d4rl(path: pathlib.Path, config: DataConfig) -> Source:
    """Reads an HDF5 file, as ``config.task`` and ``terminals_are_time_limits`` say.

    Raises:
        UserError: if the file is damaged, or not of the task that is named.
    """
    arrays = read_arrays(path, _REQUIRED, _OPTIONAL)
    return _source(arrays, config, str(path), path.stem)


def read_memory(data: Mapping[str, npt.ArrayLike], config: DataConfig) -> Source:
    """Takes a caller's arrays, by the names that D4RL's files have, as such a file's.

    In place of 'terminals' there may be 'masks', 0 where the episode terminated.

    Raises:
        UserError: if one is missing, unknown, or of another shape or type.
    """
    stored = {key: np.asarray(array) for key, array in data.items()}
    if "masks" in stored:
        stored["terminals"] = stored.pop("masks") == 0
    if unknown := sorted(stored.keys() - {*_REQUIRED, *_OPTIONAL}):
        raise UserError(f"data has {unknown[0]!r}; it takes {', '.join(_REQUIRED + _OPTIONAL)}")
    return _source(take_arrays(stored, _REQUIRED, _OPTIONAL, "data"), config, "data", "")


def _source(arrays: Arrays, config: DataConfig, place: str, stem: str) -> Source:
    """Makes arrays in D4RL's format episodes; without ``config.task``, ``stem`` may be a task's."""
    name, task = _task(stem, config.task)
    if task is not None:
        check_widths(arrays, (task.observation_dim, task.action_dim), f"D4RL's {name}", place)
        _check_rows(len(arrays["terminals"]), name, place)
    maze = None if task is None or task.maze is None else task.maze()
    notes = []
    if config.terminals_are_time_limits:
        ends = arrays.pop("terminals") | arrays.get("timeouts", False)
        arrays |= {"terminals": np.zeros_like(ends), "timeouts": ends}
        notes.append("what it marks as terminals are taken for time limits")
    limit = None if task is None else task.time_limit
    rows, more = _rows(arrays, limit, maze)
    goal, goal_notes = (None, []) if maze is None else _rewarded_goal(rows, maze)
    episodes = file_episodes(rows, place, maze, goal)
    notes += [*more, *_endings(episodes, rows, limit), *goal_notes]
    about = {"file": pathlib.Path(place).name, "rows": len(rows.kept), "task": name or None}
    if task is None:
        reason = f"{about['file']} names no task of D4RL's; config.task can, as 'hopper-medium-v2'"
        return Source(place, episodes, None, reason, about=about, notes=tuple(notes))
    evaluation, note = _evaluation(task, maze, rows)
    return Source(
        name=place,
        episodes=episodes,
        evaluation=evaluation,
        no_environment=note,
        references=named_entry(D4RL_REFERENCES, name),
        rewarded_goal=goal,
        goal_radius=GOAL_RADIUS if maze is None else maze.radius,
        model_xml=ant_model() if maze is not None and maze.is_ant else None,
        about=about,
        notes=tuple(notes if evaluation is None else [note, *notes]),
    )


def _task(stem: str, wanted: str) -> tuple[str, D4RLTask | None]:
    """Finds D4RL's name and task for data; none for data that do not name one."""
    found = None if wanted == "none" else find_task(wanted or stem)
    if found is None and wanted not in ("", "none"):
        known = ", ".join(TASKS)
        raise UserError(
            f"config.task is {wanted!r}, no task of D4RL's; they begin with {known}; 'none' trains "
            "without an environment"
        )
    return found or ("", None)


def _check_rows(rows: int, name: str, place: str) -> None:
    """Refuses a kitchen file that has not the rows of the one that it is taken for."""
    published = named_entry(KITCHEN_ROWS, name)
    if published is not None and rows != published:
        raise UserError(
            f"{place} has {rows:,} rows, and D4RL's {name} has {published:,}; config.task says "
            "which it is ('kitchen-complete', '-partial', '-mixed'), or 'kitchen' for your own"
        )


def _rows(arrays: Arrays, limit: int | None, maze: MazeFrame | None) -> tuple[FileRows, list[str]]:
    """Decides which rows are transitions, and says so."""
    observations, terminals = arrays["observations"], arrays["terminals"]
    following, timeouts = arrays.get("next_observations"), arrays.get("timeouts")
    resets = np.zeros_like(terminals)
    ends = terminals if maze is None else resets
    how = "marked"
    if timeouts is None and limit is None:
        timeouts, how = resets, "neither marked nor known"
    elif timeouts is None:
        assert limit is not None
        how = f"not marked, and counted: {limit} steps"
        timeouts = count_timeouts(terminals, limit)
        if following is None:
            resets = count_timeouts(terminals, limit, 0) & ~timeouts
    if maze is not None and following is None:
        moved = np.linalg.norm(np.diff(observations[:, :2], axis=0), axis=1)
        jumps = np.append(moved > _JUMP * maze.map.scaling, False)
        if 2 * (terminals & jumps).sum() > terminals.sum():
            ends = terminals
        resets = (resets | jumps) & ~ends
    kept = ~timeouts
    kept[-1] = False
    at_limits = int(timeouts[:-1].sum())
    notes = [
        f"{int(kept.sum()):,} of {len(kept):,} rows are transitions to D4RL's qlearning_dataset: "
        f"not the {at_limits:,} at time limits (which are {how}), nor the file's last row",
        "next observations are "
        + ("the following row's" if following is None else "those that the file stores"),
    ]
    if crossing := int((kept & resets).sum()):
        notes.append(
            f"{crossing:,} more are left out, for they lead across resets that nothing marks"
        )
    if maze is not None and ends.any():
        notes.append(
            f"{int(ends.sum()):,} terminals are followed by resets that nothing marks: episodes "
            "end there, and their last observation, which is lost, is put at the evaluation's goal"
        )
        following = np.roll(observations, -1, axis=0)
        following[ends] = observations[ends]
        following[ends, :2] = np.subtract(maze.goal, maze.shift)
    rows = FileRows(
        observations=observations,
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminals=terminals,
        kept=kept & ~resets,
        ends=ends,
        following=following,
    )
    return rows, notes


def count_timeouts(terminals: Bool, limit: int, after_terminal: int = 1) -> Bool:
    """Finds the rows at time limits by counting steps; see the module's docstring.

    ``after_terminal`` is the step of the row after a terminal: 1 to D4RL, 0 in truth.
    """
    timeouts = np.zeros(len(terminals), dtype=np.bool_)
    step = 0
    for row, terminal in enumerate(terminals.tolist()):
        if step == limit - 1:
            timeouts[row] = True
            step = 0
        else:
            step = after_terminal if terminal else step + 1
    return timeouts


def _endings(episodes: Episodes, rows: FileRows, limit: int | None) -> list[str]:
    """Counts where episodes end, and notes where terminals look like time limits."""
    lengths = episodes.lengths
    last = episodes.rows[np.cumsum(lengths) - 1]
    terminal = rows.ends[last]
    gaps = int((rows.gaps()[last] & ~terminal).sum())
    notes = [
        f"{len(lengths):,} episodes of {lengths.min():,} to {lengths.max():,} steps: "
        f"{int(terminal.sum()):,} end at terminals, {gaps:,} where the next observation is not the "
        f"following row's, {len(lengths) - int(terminal.sum()) - gaps:,} before a row left out"
    ]
    # A row left out, such as the file's last, may be the terminal itself.
    following = np.minimum(last + 1, len(rows.kept) - 1)
    left_out = ~rows.kept[following]
    whole = (lengths + left_out)[terminal | (rows.ends[following] & left_out)]
    common = limit or (int(whole[0]) if len(whole) > 1 else 0)
    if terminal.any() and 2 * (at_limit := int((whole == common).sum())) > len(whole) > 1:
        notes.append(
            f"{at_limit:,} of {len(whole):,} terminals end episodes of exactly {common:,} steps, "
            "as a time limit does: config.terminals_are_time_limits=True lets values behind them "
            "count"
        )
    return notes


def _rewarded_goal(rows: FileRows, maze: MazeFrame) -> tuple[tuple[float, float], list[str]]:
    """Finds the goal that the file's rewards refer to, in the evaluation's frame."""
    how = (
        "rewards and ends are the file's, and policies are evaluated at the goal that they refer "
        "to; config.maze_goal='eval' recomputes both for the middle of the goal's cell"
    )
    if maze.rewarded is not None:
        return maze.rewarded, [how]
    if rows.ends.any():
        return maze.goal, [f"the place of the goal is lost with the last observations; {how}"]
    kept = np.flatnonzero(rows.kept)
    after = rows.observations[kept + 1] if rows.following is None else rows.following[kept]
    positions = after[:, :2].astype(np.float64) + maze.shift
    found = rewarded_goal(positions, rows.rewards[kept] > 0, maze.radius)
    if found is None:
        return maze.goal, [f"the file's rewards do not tell the goal they refer to; {how}"]
    goal, error = found
    return goal, [
        f"rewards refer to a goal at ({goal[0]:.2f}, {goal[1]:.2f}), known to {error:.2f} m; the "
        f"evaluation's is at ({maze.goal[0]:g}, {maze.goal[1]:g}); {how}"
    ]


def _evaluation(
    task: D4RLTask, maze: MazeFrame | None, rows: FileRows
) -> tuple[EnvSpec | None, str]:
    """Returns the nearest environment of today, and in what it differs; or why there is none."""
    register_robotics()
    installed = [env_id for env_id in task.env_ids if env_id in gym.registry]
    if not installed:
        return None, task.note
    spec = registered_spec(installed[0])
    note = f"to be evaluated in {spec.id}: {task.note}"
    if maze is not None:
        return maze_spec(spec, maze, task.time_limit, **task.kwargs), note
    kwargs = {**spec.kwargs, **task.kwargs}
    if "use_contact_forces" in kwargs and not rows.observations[:, 27:].any():
        # Under MuJoCo 2.0 gym's ant had none (github.com/openai/gym, issue 1541).
        kwargs["contact_force_range"] = [0.0, 0.0]
        note += "; its contact forces are all zero, so they are in the evaluation as well"
    return dataclasses.replace(spec, max_episode_steps=task.time_limit, kwargs=kwargs), note
