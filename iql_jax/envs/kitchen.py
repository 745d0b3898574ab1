"""D4RL's kitchen: today's FrankaKitchen with D4RL's observations and their noise.

From github.com/Farama-Foundation/D4RL, ``d4rl/kitchen/kitchen_envs.py``, and there
``adept_envs/franka/kitchen_multitask_v0.py`` and ``robot/franka_robot.py``. Today's environment
already rewards each task once, in any order, when its objects are within 0.3 of their goal, and
ends the episode when all are done. But it is observed with a tenth of D4RL's noise, by which the
robot is also steered, and with next to none of the objects'.
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

_NOISE_RATIO = 0.1
_OBJECT_NOISE = np.repeat(  # Amplitudes, by D4RL's robot/franka_config.xml.
    [0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [2, 6, 3, 3, 3, 3, 1]
)


class D4RLKitchen(gym.ObservationWrapper):
    """FrankaKitchen that is observed as positions of 9 joints and 21 of objects, and 30 of goals.

    Goals of objects that belong to no task are 0.
    """

    metadata = KitchenEnv.metadata  # gymnasium.make reads it from the class.

    def __init__(
        self, tasks_to_complete: list[str], noise_ratio: float = _NOISE_RATIO, **kwargs: Any
    ) -> None:
        self._noise_ratio = noise_ratio
        # Its own noise of objects has the amplitudes of their neighbors.
        noise = {"robot_noise_ratio": noise_ratio, "object_noise_ratio": 0.0}
        super().__init__(KitchenEnv(tasks_to_complete=tasks_to_complete, **noise, **kwargs))
        self._goals = np.zeros(30)
        for task in tasks_to_complete:
            self._goals[OBS_ELEMENT_INDICES[task]] = OBS_ELEMENT_GOALS[task]
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (60,), np.float64)

    def observation(self, observation: dict[str, Any]) -> Float64:
        """Leaves out velocities: 'observation' is joints, their velocities, objects, theirs."""
        numbers = observation["observation"]
        kitchen: Any = self.unwrapped
        noise = kitchen.robot_env.np_random.uniform(-1.0, 1.0, len(_OBJECT_NOISE))
        objects = numbers[18:39] + self._noise_ratio * _OBJECT_NOISE * noise
        return np.concatenate([numbers[:9], objects, self._goals])
