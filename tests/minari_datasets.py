"""Small Minari datasets whose every number says where it belongs."""

import dataclasses
import json
import warnings
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

from iql_jax.data.config import DataConfig
from iql_jax.data.load import load_dataset

BOX = "test/box-v0"

UMAZE = [
    [1, 1, 1, 1, 1],
    [1, 0, 0, 0, 1],
    [1, 1, 1, 0, 1],
    [1, 0, 0, 0, 1],
    [1, 1, 1, 1, 1],
]


def code(field, episode, steps, width):
    """Numbers that name their field, episode, step and component; exact in float32."""
    steps = np.arange(steps)[:, None]
    return 1e6 * field + 1e4 * episode + 10.0 * steps + np.arange(width)


def box(width):
    return gym.spaces.Box(-np.inf, np.inf, (width,), np.float64)


def unit_box(width):
    return gym.spaces.Box(-1.0, 1.0, (width,), np.float32)


def episode_buffer(episode, steps, observations, action_dim=2, rewards=None, terminated=False):
    """An episode that ends by termination or else by truncation, with coded actions in [0, 1]."""
    ends = np.zeros(steps, bool)
    ends[-1] = True
    if rewards is None:
        rewards = 100.0 * episode + np.arange(steps)
    return EpisodeBuffer(
        id=episode,
        observations=observations,
        actions=(code(0, episode, steps, action_dim) / 1e5).astype(np.float32),
        rewards=np.asarray(rewards, np.float64),
        terminations=ends & terminated,
        truncations=ends & (not terminated),
    )


GOAL_SPACE = gym.spaces.Dict(observation=box(4), achieved_goal=box(2), desired_goal=box(2))


def point_episode(episode, xs, goal, rewards=None):
    """An episode of a ball at (x, 0) for each x, on its way to (goal, 0)."""
    position = np.stack([xs, np.zeros(len(xs))], axis=1)
    observations = {
        "observation": np.concatenate([position, code(1, episode, len(xs), 2)], axis=1),
        "achieved_goal": position,
        "desired_goal": np.tile([goal, 0.0], (len(xs), 1)),
    }
    return episode_buffer(episode, len(xs) - 1, observations, rewards=rewards)


def coded_episodes(lengths=(3, 1, 5), width=4, terminated=(1,)):
    """Episodes with Box observations; those in ``terminated`` end by termination."""
    return [
        episode_buffer(e, steps, code(1, e, steps + 1, width), terminated=e in terminated)
        for e, steps in enumerate(lengths)
    ]


def write_dataset(dataset_id, episodes, observation_space, action_space=None, **metadata):
    """Write a dataset into Minari's folder, add to its metadata; returns its folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari asks for an author, a description and so on.
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            episodes,
            observation_space=observation_space,
            action_space=action_space or unit_box(2),
        )
    folder = Path(dataset.spec.data_path).parent
    change_metadata(folder, **metadata)
    return folder


def change_metadata(folder, **metadata):
    """Set entries of a dataset's metadata; None removes one."""
    file = folder / "data" / "metadata.json"
    content = json.loads(file.read_text()) | metadata
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def spec_json(
    entry_point="gymnasium.envs.mujoco.hopper_v5:HopperEnv", id="Hopper-v5", steps=1000, **kwargs
):
    """The text of an EnvSpec, as gymnasium writes it."""
    return json.dumps(
        {
            "id": id,
            "entry_point": entry_point,
            "reward_threshold": None,
            "nondeterministic": False,
            "max_episode_steps": steps,
            "order_enforce": True,
            "disable_env_checker": False,
            "kwargs": kwargs,
            "additional_wrappers": [],
            "vector_entry_point": None,
        }
    )


POINT_MAZE = "gymnasium_robotics.envs.maze.point_maze:PointMazeEnv"
ANT_MAZE = "gymnasium_robotics.envs.maze.ant_maze_v4:AntMazeEnv"
ANT_MAZE_V5 = "gymnasium_robotics.envs.maze.ant_maze_v5:AntMazeEnv"


def maze_spec(maze_map, entry_point=POINT_MAZE, **kwargs):
    """The text of a maze environment's EnvSpec."""
    return spec_json(entry_point, "Maze-v3", 300, maze_map=maze_map, **kwargs)


def write_box():
    """BOX: three episodes of 3, 1 and 5 transitions; the one in the middle terminates."""
    return write_dataset(BOX, coded_episodes(), box(4), env_spec=spec_json())


def write_cart_pole(dataset_id="test/cart-v0"):
    """Three episodes of 3, 1 and 5 transitions with CartPole's discrete actions: 0, 1, 0, 1, ..."""
    episodes = [
        dataclasses.replace(episode, actions=np.arange(len(episode)) % 2)
        for episode in coded_episodes(terminated=(0, 1, 2))
    ]
    spec = spec_json("gymnasium.envs.classic_control.cartpole:CartPoleEnv", "CartPole-v1", 500)
    write_dataset(dataset_id, episodes, box(4), gym.spaces.Discrete(2), env_spec=spec)
    return dataset_id


def load(dataset=BOX, next_actions=False, trusted=False, **choices):
    """Load a dataset or a file with these keys of DataConfig."""
    config = DataConfig(dataset=str(dataset), **choices)
    more = {"next_actions": next_actions, "trusted": trusted, "progress": False}
    return load_dataset(config, str(dataset), **more)
