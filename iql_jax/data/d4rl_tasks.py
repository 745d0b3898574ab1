"""D4RL's tasks: dimensions, time limits, and the environments that are nearest today.

From github.com/Farama-Foundation/D4RL, ``d4rl/*/__init__.py`` and ``d4rl/infos.py``.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

from iql_jax.data.maze_frames import LARGE, MEDIUM, OPEN, UMAZE, MazeFrame, ant_maze, point_maze
from iql_jax.data.scores import named_entry


@dataclasses.dataclass(frozen=True)
class D4RLTask:
    """One of D4RL's tasks."""

    observation_dim: int
    action_dim: int
    time_limit: int  # D4RL's steps an episode.
    env_ids: tuple[str, ...]  # The environments that may stand in for D4RL's, the best first.
    note: str  # In what the evaluation differs from D4RL's, or why there is none.
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)  # Of the environment.
    maze: Callable[[], MazeFrame] | None = None  # Makes the maze, for AntMaze and Maze2D.


_CLOSE = "D4RL's scores are of MuJoCo 2.0: those here come close to them, but are not the same"
_PEN = (
    "an episode goes on after the pen is dropped, at 5 less a step, where D4RL's ends: scores of "
    "poor policies are lower than D4RL's"
)
_KITCHEN = "D4RL's observations, tasks and score, but today's MuJoCo"
_ANT_MAZE = (
    "D4RL's walls, ant, start, time limit and success within 0.5 m, but a goal in the middle of "
    "its cell (D4RL: up to 1.5 m from it in x and y)"
)
_POINT_MAZE = (
    "D4RL's walls and ball, but a goal in the middle of its cell (D4RL: 0.28 m from it), and "
    "success ends the episode: the score is the success rate, where D4RL's counts the steps at the "
    "goal"
)


def _adroit(
    name: str, observation_dim: int, action_dim: int, limit: int = 200, note: str = _CLOSE
) -> D4RLTask:
    env_ids = (f"AdroitHand{name}-v2", f"AdroitHand{name}-v1")
    return D4RLTask(observation_dim, action_dim, limit, env_ids, note)


def _ant_maze(drawing: tuple[str, ...], goal: tuple[int, int], limit: int) -> D4RLTask:
    maze = functools.partial(ant_maze, drawing, start=(1, 1), goal=goal)
    kwargs = {"include_cfrc_ext_in_observation": False}
    return D4RLTask(29, 8, limit, ("D4RLAntMaze-v0",), _ANT_MAZE, kwargs, maze)


def _kitchen(fourth: str) -> D4RLTask:
    kwargs = {"tasks_to_complete": ["microwave", "kettle", "light switch", fourth]}
    return D4RLTask(60, 9, 280, ("D4RLKitchen-v0",), _KITCHEN, kwargs)


def _maze2d() -> dict[str, D4RLTask]:
    sizes = {  # Environment, walls, goal, and the time limits of version 0 and of later ones.
        "open": ("Open", OPEN, (2, 3), 150, 150),
        "umaze": ("UMaze", UMAZE, (1, 1), 150, 300),
        "medium": ("Medium", MEDIUM, (6, 6), 250, 600),
        "large": ("Large", LARGE, (7, 9), 600, 800),
    }
    tasks = {}
    for size, (name, drawing, goal, first, later) in sizes.items():
        maze = functools.partial(point_maze, drawing, goal=goal)
        for middle, suffix in (("", ""), ("-dense", "Dense")):
            env_ids = (f"PointMaze_{name}{suffix}-v3",)
            for version, limit in (("-v0", first), ("", later)):
                task = D4RLTask(4, 2, limit, env_ids, _POINT_MAZE, maze=maze)
                tasks[f"maze2d-{size}{middle}{version}"] = task
    return tasks


TASKS: dict[str, D4RLTask] = {
    "hopper": D4RLTask(11, 3, 1000, ("Hopper-v4",), _CLOSE),
    "halfcheetah": D4RLTask(17, 6, 1000, ("HalfCheetah-v4",), _CLOSE),
    "walker2d": D4RLTask(17, 6, 1000, ("Walker2d-v4",), _CLOSE),
    "ant": D4RLTask(111, 8, 1000, ("Ant-v4",), _CLOSE, {"use_contact_forces": True}),
    "pen": _adroit("Pen", 45, 24, 100, _PEN),
    "hammer": _adroit("Hammer", 46, 26),
    "door": _adroit("Door", 39, 28),
    "relocate": _adroit("Relocate", 39, 30),
    "kitchen": _kitchen("slide cabinet"),
    "kitchen-mixed": _kitchen("bottom burner"),
    "antmaze-umaze": _ant_maze(UMAZE, (3, 1), 700),
    "antmaze-medium": _ant_maze(MEDIUM, (6, 6), 1000),
    "antmaze-large": _ant_maze(LARGE, (7, 9), 1000),
    **_maze2d(),
}
"""By the beginning of D4RL's names (``named_entry``)."""

KITCHEN_ROWS = {"kitchen-complete": 3_680, "kitchen-partial": 136_950, "kitchen-mixed": 136_950}
"""Rows of D4RL's files whose names are alike, one of them by a prefix of the other's."""

_FILE_NAMES = {
    r"ant_maze_u-maze_.*multistart_false_": "antmaze-umaze",
    r"ant_maze_u-maze_.*multistart_true_": "antmaze-umaze-diverse",
    r"ant_maze_big-maze_.*multigoal_false_": "antmaze-medium-play",
    r"ant_maze_big-maze_.*multigoal_true_": "antmaze-medium-diverse",
    r"ant_maze_hardest-maze_.*multigoal_false_": "antmaze-large-play",
    r"ant_maze_hardest-maze_.*multigoal_true_": "antmaze-large-diverse",
    r"mini_kitchen_microwave_kettle_light_slider": "kitchen-complete",
    r"kitchen_microwave_kettle_light_slider": "kitchen-partial",
    r"kitchen_microwave_kettle_bottomburner_light": "kitchen-mixed",
}
"""Beginnings of D4RL's own file names that do not say the task's."""


def find_task(name: str) -> tuple[str, D4RLTask] | None:
    """Finds D4RL's name of a task, as 'hopper-medium-v2', and the task; None for other names.

    ``name`` is a task's or a file's without its suffix, as 'hopper_medium-v2'.
    """
    name = name.lower()
    for pattern, task_name in _FILE_NAMES.items():
        if re.match(pattern, name):
            name = task_name
    words = "-".join(part for part in re.split(r"[^a-z0-9]+", name) if part)
    words = words.removeprefix("d4rl-")
    task = named_entry(TASKS, words)
    return None if task is None else (words, task)
