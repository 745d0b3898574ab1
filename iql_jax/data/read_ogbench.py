"""Reading OGBench's .npz files (github.com/seohongpark/ogbench, ``ogbench/utils.py``).

They hold trajectories one after another. The last row of each, which ``terminals`` marks, has an
observation but no transition; the next observation is the following row's. ``terminals`` mean no
termination: trajectories only stop.

The files hold no rewards, for their goals are up to the user. In AntMaze the goal is that of one of
OGBench's five tasks, and a step is rewarded as gymnasium_robotics' environment does it: 1 where it
ends within 0.5 m of the goal. For all other tasks rewards are 0, which is enough for cloning,
unless the user adds an array ``rewards`` (and ``masks``, 0 where the task ends).
"""

import pathlib
import re

import numpy as np

from iql_jax.data.ant_model import ant_model
from iql_jax.data.config import DataConfig
from iql_jax.data.episodes import Source
from iql_jax.data.file_arrays import Arrays, check_widths, read_arrays
from iql_jax.data.file_rows import FileRows, file_episodes
from iql_jax.data.maze_frames import GIANT, LARGE, MEDIUM, Cell, MazeFrame, ant_maze, maze_spec
from iql_jax.envs.mazes import at_goal
from iql_jax.envs.specs import registered_spec
from iql_jax.utils.errors import UserError

_ANT_DIM, _ANT_ACTIONS, _TIME_LIMIT = 29, 8, 1000

_MAZES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "medium": (MEDIUM, "1,1-6,6 6,1-1,6 5,3-4,2 6,5-6,1 2,6-1,1", "AntMaze_Medium-v5"),
    "large": (LARGE, "1,1-7,10 5,4-7,1 7,4-1,10 3,8-5,4 1,1-5,4", "AntMaze_Large-v5"),
    "giant": (GIANT, "1,1-10,14 1,14-10,1 8,14-1,1 8,3-5,12 5,9-3,8", "AntMaze_Large-v5"),
}
"""The walls, the five tasks (row,column of the start-and of the goal), and the environment.

From ``ogbench/locomaze/maze.py``.
"""

_ANT_MAZE = re.compile(r"(?:^|-)(?<!visual-)antmaze-(medium|large|giant)(?:-|$)")
_TASK = re.compile(r"-task[-_]?(\w*?)(?:-v\d+)?$")


def read_ogbench(path: pathlib.Path, config: DataConfig) -> Source:
    """Reads an .npz file, with the rewards of the task that ``config.task`` or its name says.

    'antmaze-medium-navigate-v0' is OGBench's first task, '...-singletask-task2-v0' the second.

    Raises:
        UserError: if the file is damaged, or not of the task that is named.
    """
    name = ("" if config.task == "none" else config.task or path.stem).lower()
    arrays = read_arrays(path, ("observations", "actions", "terminals"), ("rewards", "masks"))
    found = _ANT_MAZE.search(name)
    about = {"file": path.name, "rows": len(arrays["terminals"]), "task": name or None}
    if found is None and config.task not in ("", "none"):
        raise UserError(
            f"config.task is {config.task!r}, none of OGBench's state-based AntMazes, such as "
            "'antmaze-medium-task2'; 'none' trains without an environment"
        )
    if found is None:
        rows, note = _rows(arrays, None)
        reason = f"{path.name} names none of OGBench's state-based AntMazes; config.task can"
        episodes = file_episodes(rows, str(path), None)
        return Source(str(path), episodes, None, reason, about=about, notes=(note,))
    check_widths(arrays, (_ANT_DIM, _ANT_ACTIONS), "OGBench's antmaze", str(path))
    drawing, _, env_id = _MAZES[found[1]]
    tasks = maze_tasks(found[1])
    number = _task_number(name, len(tasks))
    maze = ant_maze(drawing, *tasks[number - 1])
    rows, note = _rows(arrays, maze)
    notes = (
        f"to be evaluated on OGBench's task {number} of {len(tasks)} (config.task="
        f"'antmaze-{found[1]}-task2' takes the second), in {env_id} with OGBench's maze and ant",
        note,
    )
    return Source(
        name=str(path),
        episodes=file_episodes(rows, str(path), maze, maze.goal),
        evaluation=maze_spec(
            registered_spec(env_id), maze, _TIME_LIMIT, include_cfrc_ext_in_observation=False
        ),
        rewarded_goal=maze.goal,
        goal_radius=maze.radius,
        model_xml=ant_model(),
        about=about,
        notes=notes,
    )


def maze_tasks(size: str) -> list[tuple[Cell, Cell]]:
    """Returns the start and the goal of each of a maze's tasks."""
    numbers = [[int(n) for n in re.findall(r"\d+", task)] for task in _MAZES[size][1].split()]
    return [((a, b), (c, d)) for a, b, c, d in numbers]


def _task_number(name: str, count: int) -> int:
    task = _TASK.search(name)
    if task is None:
        return 1
    if task[1] not in map(str, range(1, count + 1)):
        raise UserError(
            f"config.task {name!r}: OGBench has no task {task[1]!r} of antmaze; there are task1 to "
            f"task{count}"
        )
    return int(task[1])


def _rows(arrays: Arrays, maze: MazeFrame | None) -> tuple[FileRows, str]:
    """Takes the transitions, and says where their rewards come from."""
    kept = ~arrays["terminals"]
    kept[-1] = False
    observations = arrays["observations"]
    terminals = np.zeros_like(kept)
    if "rewards" in arrays:
        rewards = arrays["rewards"]
        note = "rewards are the file's"
        if "masks" in arrays:
            terminals = kept & (arrays["masks"] == 0)
            note = "rewards and masks are the file's"
        if maze is not None:
            note += "; config.maze_goal='eval' recomputes them"
    elif maze is not None:
        positions = observations[1:, :2].astype(np.float64) + maze.shift
        reached = np.append(at_goal(positions, np.array(maze.goal), maze.radius), False)
        rewards, terminals = reached.astype(np.float32), kept & reached
        note = (
            f"the file has no rewards: {int(terminals.sum()):,} steps that end at the task's goal "
            "have 1 and end the bootstrap, the others have 0"
        )
    else:
        rewards = np.zeros(len(kept), np.float32)
        note = (
            "the file has no rewards: they are 0, which is enough for cloning (temperature 0); "
            "to learn more, add an array 'rewards' (and 'masks', 0 where the task ends)"
        )
    # A mask of 0 ends the bootstrap, not the episode, which goes on behind the reached goal.
    ends = np.zeros_like(kept)
    return FileRows(observations, arrays["actions"], rewards, terminals, kept, ends), note
