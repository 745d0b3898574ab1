"""D4RL's AntMaze: today's maze with D4RL's start.

Today's ant starts at rest, up to 1 m from the middle of its cell. D4RL's starts there, but for
noise in every joint and velocity (github.com/Farama-Foundation/D4RL, ``d4rl/locomotion/ant.py``,
``AntEnv.reset_model``).
"""

from typing import Any

from gymnasium_robotics.envs.maze.ant_maze_v5 import AntMazeEnv


class D4RLAntMaze(AntMazeEnv):
    """AntMaze whose ant starts as D4RL's does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.position_noise_range = 0.0
        # In meters and radians; of velocities the deviation. The maze's constructor sets it to 0,
        # and takes no other value.
        self.ant_env._reset_noise_scale = 0.1
