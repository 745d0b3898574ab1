"""D4RL's kitchen: today's FrankaKitchen with D4RL's observations and tasks.

From github.com/Farama-Foundation/D4RL, ``d4rl/kitchen/kitchen_envs.py``. The environment already
rewards each task once, in any order, when its objects are within 0.3 of their goal, and ends the
episode when all are done; only its observations differ.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import (
    OBS_ELEMENT_GOALS,
    OBS_ELEMENT_INDICES,
    KitchenEnv,
)

from iql_jax.utils.arrays import Float64


class D4RLKitchen(gym.ObservationWrapper):
    """FrankaKitchen that is observed as positions of 9 joints and 21 of objects, and 30 of goals.

    Goals of objects that belong to no task are 0.
    """

    metadata = KitchenEnv.metadata  # gymnasium.make reads it from the class.

    def __init__(self, tasks_to_complete: list[str], **kwargs: Any) -> None:
        super().__init__(KitchenEnv(tasks_to_complete=tasks_to_complete, **kwargs))
        self._goals = np.zeros(30)
        for task in tasks_to_complete:
            self._goals[OBS_ELEMENT_INDICES[task]] = OBS_ELEMENT_GOALS[task]
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (60,), np.float64)

    def observation(self, observation: dict[str, Any]) -> Float64:
        """Leaves out velocities: 'observation' is joints, their velocities, objects, theirs."""
        numbers = observation["observation"]
        return np.concatenate([numbers[:9], numbers[18:39], self._goals])
