"""``import-d4rl``: a file of D4RL's becomes a local Minari dataset.

What becomes a transition is ``d4rl_view``'s matter, cut into episodes by ``rows``, as IQL's
official code cuts them: after terminals, and where an observation does not follow from the one
before; but in mazes a terminal ends the bootstrap alone, for the agent walks on. An episode's last
observation is the stored next observation where there is one, and else the following row's, in
which an episode cut at a time limit has its true end.

Rewards, actions and observations are stored as the file has them, but for positions in mazes, which
are shifted (``mazes``). ``infos/*`` are left out: no transition depends on them.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from iql_jax.data.imports import d4rl_view
from iql_jax.data.imports.ant_model import FILE_NAME
from iql_jax.data.imports.d4rl_file import D4RLFile, read_d4rl_file
from iql_jax.data.imports.d4rl_tasks import D4RLTask, find_task
from iql_jax.data.imports.mazes import MazeFrame, check_positions, rewarded_point
from iql_jax.data.imports.rows import Rows, check_rows
from iql_jax.data.imports.target import Target, first_registered, maze_spec
from iql_jax.data.imports.writing import check_id, data_folder, write_dataset
from iql_jax.data.scores import d4rl_reference
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError

_HOME = "https://github.com/Farama-Foundation/D4RL"


def import_d4rl(
    path: pathlib.Path,
    dataset_id: str,
    *,
    force: bool = False,
    keep_timeouts: bool = False,
    time_limit: int | None = None,
    progress: bool = True,
    check: Callable[[], None] | None = None,
) -> pathlib.Path:
    """Import a file of D4RL's.

    Args:
        path: the HDF5 file.
        dataset_id: the id to store it under; its words name the task ('d4rl/hopper/medium-v2').
        force: whether to replace a dataset that has the id.
        keep_timeouts: whether to keep the transitions at time limits, which D4RL leaves out; the
            file must store next observations.
        time_limit: steps an episode, for files without 'timeouts', of which the transitions at time
            limits are not kept; None takes D4RL's.
        progress: whether to show progress bars.
        check: called now and then while writing; what it raises ends the import.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if the file, the id or an option is wrong, or the disk is full; nothing is
            written then.
    """
    check_id(dataset_id, force)
    found = find_task(dataset_id)
    file = read_d4rl_file(path, progress)
    if time_limit is not None and (time_limit < 1 or file.timeouts is not None):
        raise UserError(
            f"--time-limit {time_limit}: it is for files without 'timeouts', and at least 1"
        )
    if time_limit is not None and keep_timeouts:
        raise UserError(
            f"--time-limit {time_limit} says which transitions are left out, and --keep-timeouts "
            "that none is: give one of them"
        )
    if found is not None:
        _check_dimensions(file, *found, path)
    whose = "D4RL's" if time_limit is None else "--time-limit"
    if time_limit is None and found is not None:
        time_limit = found[1].time_limit
    in_maze = found is not None and found[1].maze is not None
    rows, notes = _rows(file, path, keep_timeouts, time_limit, whose, in_maze)
    check_rows(rows, str(path))
    if found is None:
        name = "a dataset in D4RL's format"
        target = Target()
        notes.append(
            f"{dataset_id} names no task of D4RL's: no environment and no reference scores, so "
            "only training is possible"
        )
    else:
        name = f"D4RL's {found[0]}"
        target, more = _target(dataset_id, *found, rows)
        if target.maze is not None:
            check_positions(target.maze, rows.observations[:, :2], str(path))
        notes += more
    for note in notes:
        logger.info(f"{dataset_id}: {note}")
    details: dict[str, Any] = {"name": found and found[0], "file": path.name}
    details |= {"rows": len(rows.kept), "metadata": file.metadata}
    metadata: dict[str, Any] = {
        "description": f"{name}, imported from {path.name}: {'; '.join(notes)}.",
        "d4rl": details,
    }
    if target.desired_goal is not None:
        metadata["rewarded_goal"] = list(target.desired_goal)
    if found is not None:
        metadata |= {"author": {"Fu et al. 2020 (D4RL)"}, "code_permalink": _HOME}
    if "algorithm" in file.metadata:
        metadata["algorithm_name"] = str(file.metadata["algorithm"])
    return write_dataset(dataset_id, rows, target, metadata, progress=progress, check=check)


def _check_dimensions(file: D4RLFile, name: str, task: D4RLTask, path: pathlib.Path) -> None:
    for what, found, expected in (
        ("observations", file.observations.shape[1], task.observation_dim),
        ("actions", file.actions.shape[1], task.action_dim),
    ):
        if found != expected:
            raise UserError(
                f"the {what} in {path} have {found} numbers, but those of D4RL's {name} have "
                f"{expected}: --id names another task"
            )


def _rows(
    file: D4RLFile,
    path: pathlib.Path,
    keep_timeouts: bool,
    time_limit: int | None,
    whose: str,
    in_maze: bool,
) -> tuple[Rows, list[str]]:
    """The transitions of a file, and the notes on them, which say ``whose`` time limit it was."""
    total = len(file.terminals)
    notes = []
    # In a maze a terminal is a step that ends at the goal, and the agent walks on.
    ends = np.zeros_like(file.terminals) if in_maze else file.terminals.copy()
    if keep_timeouts:
        if file.next_observations is None:
            raise UserError(
                f"--keep-timeouts needs next observations, and {path} does not store them"
            )
        kept = np.ones(total, dtype=np.bool_)
        if file.timeouts is not None:
            ends |= file.timeouts
        notes.append(f"all {total:,} rows are kept, those too that D4RL's qlearning_dataset drops")
    else:
        if file.timeouts is None:
            if time_limit is None:
                raise UserError(
                    f"{path} marks no time limits ('timeouts'), and --id names no task whose limit "
                    "is known: give --time-limit STEPS"
                )
            notes.append(f"time limits are counted, {time_limit} steps ({whose})")
        kept = d4rl_view.kept_rows(file.terminals, file.timeouts, time_limit)
        notes.append(
            f"{int(kept.sum()):,} of {total:,} rows are kept, those of D4RL's qlearning_dataset, "
            "which drops the last of each episode at a time limit"
        )
    stored = "stored" if file.next_observations is not None else "the following row's"
    notes.append(f"next observations are {stored}")
    rows = Rows(
        observations=file.observations,
        actions=file.actions,
        rewards=file.rewards,
        terminals=file.terminals,
        kept=kept,
        ends=ends,
        successors=file.next_observations,
    )
    return rows, notes


def _target(dataset_id: str, name: str, task: D4RLTask, rows: Rows) -> tuple[Target, list[str]]:
    """The environment and the layout for one of D4RL's tasks, and what to say of them."""
    references = d4rl_reference(name)
    spec = first_registered(task.env_ids)
    if spec is None:
        note = task.note
        if task.env_ids:
            note = (
                f"no environment: {task.env_ids[0]} is not installed, so only training is possible"
            )
        return Target(references=references), [note]
    plain = Target(spec=spec, references=references, requirements=task.requirements)
    is_nearest = spec.id == task.env_ids[0] or not task.second_note
    notes = [f"to be evaluated in {spec.id}", task.note if is_nearest else task.second_note]
    if task.maze is None:
        kwargs = dict(task.kwargs)
        if "use_contact_forces" in kwargs and not rows.observations[:, 27:].any():
            # Under MuJoCo 2.0 gym's ant had none (github.com/openai/gym, issue 1541).
            kwargs["contact_force_range"] = [0.0, 0.0]
            notes.append("its contact forces are all zero, so they are in the evaluation as well")
        spec = dataclasses.replace(spec, max_episode_steps=task.time_limit)
        spec = dataclasses.replace(spec, kwargs={**spec.kwargs, **kwargs})
        return dataclasses.replace(plain, spec=spec), notes
    maze = task.maze()
    kwargs = dict(task.kwargs)
    if task.is_ant_maze:
        kwargs["xml_file"] = str(data_folder(dataset_id) / FILE_NAME)
    goal, goal_notes = _rewarded_goal(maze, rows)
    x, y = maze.shift
    notes.append(f"positions are shifted by ({x:g}, {y:g}) m, into the frame of {spec.id}")
    target = dataclasses.replace(
        plain,
        spec=maze_spec(spec.id, maze, task.time_limit, **kwargs),
        layout="ant" if task.is_ant_maze else "point",
        maze=maze,
        desired_goal=goal,
    )
    return target, [*notes, *goal_notes]


def _rewarded_goal(maze: MazeFrame, rows: Rows) -> tuple[tuple[float, float], list[str]]:
    """The goal that the file's rewards refer to, in the evaluation's frame.

    AntMaze's was drawn when the rewards were computed and is nowhere stored; but the reward is 1
    for all steps that end within 0.5 m of it (``scripts/generation/relabel_antmaze_rewards.py``),
    and so their positions tell it.
    """
    how = (
        "config.maze_goal='eval' recomputes rewards and ends for the middle of the goal's cell; "
        "'stored', with maze_terminate_at_success=False, takes D4RL's as they are, and evaluates "
        "at the goal that they refer to"
    )
    if maze.rewarded is not None:
        return maze.rewarded, [how]
    steps = np.flatnonzero(rows.kept & (rows.rewards > 0))
    positions = rows.next_observations(steps)[:, :2].astype(np.float64) + maze.shift
    found = rewarded_point(positions, maze.radius)
    if found is None:
        return maze.goal, [f"the file's rewards do not tell the goal they refer to; {how}"]
    goal, error = found
    distance = float(np.hypot(goal[0] - maze.goal[0], goal[1] - maze.goal[1]))
    return goal, [
        f"the file's rewards refer to a goal at ({goal[0]:.2f}, {goal[1]:.2f}), known to "
        f"{error:.2f} m, {distance:.2f} m from the evaluation's at ({maze.goal[0]:g}, "
        f"{maze.goal[1]:g}); {how}"
    ]
