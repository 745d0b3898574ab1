"""``import-ogbench``: a file of OGBench's becomes a local Minari dataset.

OGBench's files (github.com/seohongpark/ogbench, ``ogbench/utils.py``) hold trajectories one after
another. The last row of each, which ``terminals`` marks, has an observation but no transition; the
next observation is the following row's. ``terminals`` mean no termination: trajectories only stop.

The files hold no rewards, for their goals are up to the user. In AntMaze the goal is that of one of
OGBench's five tasks, and a step is rewarded as gymnasium_robotics' environment does it: 1 where it
ends within 0.45 m of the goal. For all else the user must say what to do.
"""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from iql_jax.data.episodes import BoolArray
from iql_jax.data.imports.ant_model import FILE_NAME
from iql_jax.data.imports.mazes import (
    GIANT,
    LARGE,
    MEDIUM,
    Cell,
    MazeFrame,
    ant_maze,
    check_positions,
)
from iql_jax.data.imports.rows import Rows, check_rows
from iql_jax.data.imports.target import Target, first_registered, maze_spec
from iql_jax.data.imports.writing import check_id, data_folder, write_dataset
from iql_jax.envs.maze_environments import REQUIREMENTS
from iql_jax.envs.mazes import GOAL_RADIUS, at_goal
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import is_damage

_HOME = "https://github.com/seohongpark/ogbench"
_REQUIRED = ("observations", "actions", "terminals")
_OPTIONAL = ("rewards", "masks")
_ANT_DIM, _ANT_ACTIONS = 29, 8
_TIME_LIMIT = 1000

_MAZES: dict[str, tuple[tuple[str, ...], tuple[tuple[Cell, Cell], ...], str]] = {
    "medium": (
        MEDIUM,
        (((1, 1), (6, 6)), ((6, 1), (1, 6)), ((5, 3), (4, 2)), ((6, 5), (6, 1)), ((2, 6), (1, 1))),
        "AntMaze_Medium-v5",
    ),
    "large": (
        LARGE,
        (
            ((1, 1), (7, 10)),
            ((5, 4), (7, 1)),
            ((7, 4), (1, 10)),
            ((3, 8), (5, 4)),
            ((1, 1), (5, 4)),
        ),
        "AntMaze_Large-v5",
    ),
    "giant": (
        GIANT,
        (
            ((1, 1), (10, 14)),
            ((1, 14), (10, 1)),
            ((8, 14), (1, 1)),
            ((8, 3), (5, 12)),
            ((5, 9), (3, 8)),
        ),
        "AntMaze_Large-v5",
    ),
}
"""The walls, the five tasks (start and goal; ``ogbench/locomaze/maze.py``), and the environment."""

_ANT_MAZE = re.compile(r"(?:^|-)(?<!visual-)antmaze-(medium|large|giant)-")
_TASK = re.compile(r"-task[-_]?(\w*)-v\d+$")


def import_ogbench(
    path: pathlib.Path,
    dataset_id: str,
    *,
    reward: str | None = None,
    force: bool = False,
    progress: bool = True,
    check: Callable[[], None] | None = None,
) -> pathlib.Path:
    """Import a file of OGBench's.

    Args:
        path: the .npz file.
        dataset_id: the id to store it under. Its words name the task, as OGBench's do:
            'ogbench/antmaze-medium-navigate-v0', or '...-singletask-task2-v0' for the second.
        reward: 'zero' stores rewards of 0; None takes the file's or the task's.
        force: whether to replace a dataset that has the id.
        progress: whether to show progress bars.
        check: called now and then while writing; what it raises ends the import.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if the file, the id or an option is wrong, there are no rewards, or the disk is
            full; nothing is written then.
    """
    check_id(dataset_id, force)
    arrays = _read(path, progress)
    notes = []
    target = Target()
    maze = _maze(dataset_id, arrays, path)
    if maze is None:
        notes.append(
            "no environment that is known here has these observations and dynamics (only OGBench's "
            "state-based AntMaze medium, large and giant have): only training is possible"
        )
    else:
        check_positions(maze[2], arrays["observations"][:, :2], str(path))
        target, more = _ant_target(dataset_id, maze)
        notes += more
    rows, note = _rows(arrays, path, maze, reward)
    check_rows(rows, str(path))
    notes.append(note)
    for note in notes:
        logger.info(f"{dataset_id}: {note}")
    metadata: dict[str, Any] = {
        "description": f"OGBench data, imported from {path.name}: {'; '.join(notes)}.",
        "author": {"Park et al. 2024 (OGBench)"},
        "code_permalink": _HOME,
        "ogbench": {"file": path.name, "rows": len(rows.kept)},
    }
    if target.desired_goal is not None:
        metadata["rewarded_goal"] = list(target.desired_goal)
    return write_dataset(dataset_id, rows, target, metadata, progress=progress, check=check)


def _read(path: pathlib.Path, progress: bool) -> dict[str, npt.NDArray[Any]]:
    """Read and check the arrays that are used."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        # Opened here, for np.load leaves a damaged file open.
        with open(path, "rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{path} holds a single array: it is no .npz file")
            missing = [key for key in _REQUIRED if key not in archive]
            if missing:
                raise UserError(
                    f"{path} is no file of OGBench: it lacks {', '.join(missing)}, it has "
                    f"{', '.join(sorted(archive)) or 'nothing'}"
                )
            keys = [key for key in (*_REQUIRED, *_OPTIONAL) if key in archive]
            bar = tqdm(keys, f"reading {path.name}", unit="array", disable=not progress)
            arrays = {key: archive[key] for key in bar}
    except Exception as error:
        if isinstance(error, UserError) or not is_damage(error):
            raise
        raise UserError(
            f"{path} cannot be read as .npz ({error}): it is of another format or damaged"
        ) from error
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    for key, array in arrays.items():
        dimensions = 2 if key in ("observations", "actions") else 1
        if array.ndim != dimensions or array.dtype.kind not in "fiub" or len(array) != rows:
            raise UserError(
                f"{key!r} in {path} have shape {list(array.shape)} and type {array.dtype}; "
                f"{'vectors' if dimensions == 2 else 'numbers'} for {rows} rows are expected"
            )
    for key in ("observations", "actions"):
        if arrays[key].dtype not in (np.float32, np.float64):
            raise UserError(
                f"{key!r} in {path} are {arrays[key].dtype}, not floating-point numbers"
            )
    if not rows:
        raise UserError(f"{path} holds no rows")
    return arrays


def _maze(
    dataset_id: str, arrays: dict[str, npt.NDArray[Any]], path: pathlib.Path
) -> tuple[str, int, MazeFrame] | None:
    """The maze, the number of the task and the frame that an id names; None for other data."""
    name = dataset_id.lower().replace("/", "-")
    found = _ANT_MAZE.search(name)
    if found is None:
        return None
    for key, expected in (("observations", _ANT_DIM), ("actions", _ANT_ACTIONS)):
        if arrays[key].shape[1] != expected:
            raise UserError(
                f"the {key} in {path} have {arrays[key].shape[1]} numbers, but those of OGBench's "
                f"antmaze have {expected}: --id names another task"
            )
    drawing, tasks, _ = _MAZES[found[1]]
    task = _TASK.search(name)
    choices = {str(i): i for i in range(1, len(tasks) + 1)}
    if task is not None and task[1] not in choices:
        raise UserError(
            f"--id {dataset_id}: OGBench has no task {task[1]!r} of antmaze; there are "
            f"{', '.join(f'task{i}' for i in choices)}"
        )
    number = 1 if task is None else choices[task[1]]
    start, goal = tasks[number - 1]
    return found[1], number, ant_maze(drawing, start, goal, origin=(1, 1))


def _ant_target(dataset_id: str, maze: tuple[str, int, MazeFrame]) -> tuple[Target, list[str]]:
    size, number, frame = maze
    env_id = _MAZES[size][2]
    if first_registered((env_id,)) is None:
        return Target(), [
            f"no environment: {env_id} is not installed, so only training is possible"
        ]
    spec = maze_spec(
        env_id,
        frame,
        _TIME_LIMIT,
        include_cfrc_ext_in_observation=False,
        xml_file=str(data_folder(dataset_id) / FILE_NAME),
    )
    x, y = frame.shift
    target = Target(
        spec=spec,
        layout="ant",
        maze=frame,
        desired_goal=frame.goal,
        requirements=REQUIREMENTS,
    )
    return target, [
        f"to be evaluated on OGBench's task {number} of 5 ('-singletask-taskK' in --id chooses; "
        f"OGBench's own choice is 1), in {env_id} with OGBench's {size} maze and ant (ant.xml "
        f"beside the data); success is within {GOAL_RADIUS} m of the goal (OGBench: 0.5 m)",
        f"positions are shifted by ({x:g}, {y:g}) m, into the frame of {env_id}",
    ]


def _rows(
    arrays: dict[str, npt.NDArray[Any]],
    path: pathlib.Path,
    maze: tuple[str, int, MazeFrame] | None,
    reward: str | None,
) -> tuple[Rows, str]:
    """The transitions, and where their rewards come from."""
    stops: BoolArray = arrays["terminals"] != 0
    observations = arrays["observations"]
    kept = ~stops
    kept[-1] = False
    terminals = np.zeros_like(kept)
    if reward == "zero":
        rewards = np.zeros(len(kept), dtype=np.float32)
        note = (
            "all rewards are 0 (--reward zero), which is enough for cloning (temperature 0) alone"
        )
    elif "rewards" in arrays:
        rewards = arrays["rewards"]
        if rewards.dtype not in (np.float32, np.float64):
            rewards = rewards.astype(np.float32)
        note = "rewards are the file's, and nothing terminates"
        if "masks" in arrays:
            terminals = kept & (arrays["masks"] == 0)
            note = "rewards and masks are the file's"
    elif maze is not None:
        rewards = _sparse_rewards(observations, maze[2])
        note = (
            f"the file has no rewards: {int(rewards[kept].sum()):,} steps that end at the task's "
            "goal have 1, the others 0, and nothing terminates"
        )
    else:
        raise UserError(
            f"{path} has no rewards: add an array 'rewards' to it (and 'masks', 0 where the task "
            "ends), or give --reward zero to clone its behaviour"
        )
    # A mask of 0 ends the bootstrap, not the episode, which goes on behind the reached goal.
    no_ends = np.zeros_like(kept)
    return Rows(observations, arrays["actions"], rewards, terminals, kept, no_ends), note


def _sparse_rewards(observations: npt.NDArray[Any], frame: MazeFrame) -> npt.NDArray[np.float32]:
    """1 for rows whose next position lies within the goal's radius, [N]."""
    position = observations[1:, :2].astype(np.float64) + frame.shift
    reached = at_goal(position, np.array(frame.goal))
    return np.concatenate([reached, [False]]).astype(np.float32)
