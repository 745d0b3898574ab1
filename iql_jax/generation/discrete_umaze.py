"""The dataset of the discrete u-maze: one optimal trajectory and 99 of random actions.

The mixture is the paper's. Of the random trajectories, few come near the goal.
"""

import contextlib

import numpy as np
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.discrete_umaze import (
    GOAL_REWARD,
    MOVES,
    START,
    STATES,
    TIME_LIMIT,
    DiscreteUMaze,
    environment_spec,
    model,
)
from iql_jax.envs.finite_mdp import FloatArray, greedy
from iql_jax.generation.reproducibility import COLLECTING, provenance, randomness
from iql_jax.generation.storage import BYTES_PER_ARRAY, add_episodes, is_complete, new_dataset
from iql_jax.generation.workspace import open_workspace

OPTIMAL_EPISODES = 1
RANDOM_EPISODES = 99

_DISCOUNT = 0.99  # Of the optimal trajectory.


def make(dataset_id: str, *, seed: int, force: bool) -> None:
    """Make the dataset in Minari's local folder, unless it is there, or in its place.

    Args:
        dataset_id: the id to store it under.
        seed: all randomness follows from it.
        force: whether one of the same id is replaced.

    Raises:
        UserError: as ``collecting.collect``.
    """
    episodes = trajectories(seed)
    steps = sum(len(episode.rewards) for episode in episodes)
    env = DiscreteUMaze()
    with contextlib.ExitStack() as stack:
        workspace = stack.enter_context(open_workspace(dataset_id, "whole"))
        if is_complete(dataset_id) and not force:  # Another process has just made it.
            return
        storage = stack.enter_context(
            new_dataset(
                dataset_id,
                workspace.folder,
                env_spec=environment_spec(),
                observation_space=env.observation_space,
                action_space=env.action_space,
                expected_bytes=8 * steps * len(STATES) + 8 * len(episodes) * BYTES_PER_ARRAY,
            )
        )
        add_episodes(storage, episodes)
        storage.update_metadata(
            {
                "algorithm_name": "an optimal policy, and random actions",
                "description": (
                    f"{OPTIMAL_EPISODES} trajectory of an optimal policy, the first, and "
                    f"{RANDOM_EPISODES} of uniformly random actions, in a discrete u-maze where a "
                    "quarter of all actions is replaced by random ones. Made by: python -m "
                    f"iql_jax.data make {dataset_id} --seed {seed}"
                ),
                **provenance(__name__, seed=seed),
                **reference_scores(),
            }
        )


def trajectories(seed: int) -> list[EpisodeBuffer]:
    """The episodes: the optimal ones first."""
    env = DiscreteUMaze()
    best, uniform = policies()
    chosen = [best] * OPTIMAL_EPISODES + [uniform] * RANDOM_EPISODES
    return [_episode(env, policy, seed, index) for index, policy in enumerate(chosen)]


def policies() -> tuple[FloatArray, FloatArray]:
    """An optimal policy and the uniform one, [S, A]."""
    best = greedy(model().optimal_q(_DISCOUNT))
    return best, np.full_like(best, 1 / len(MOVES))


def reference_scores() -> dict[str, float]:
    """The exact mean returns of the two policies, under the names that Minari's metadata have."""
    best, uniform = (
        GOAL_REWARD * model().success_probability(policy, START, TIME_LIMIT)
        for policy in policies()
    )
    return {"ref_min_score": uniform, "ref_max_score": best}


def _episode(env: DiscreteUMaze, policy: FloatArray, seed: int, index: int) -> EpisodeBuffer:
    """One episode, to the goal or the time limit."""
    reset_seed, generator = randomness(seed, COLLECTING, index)
    observation, _ = env.reset(seed=reset_seed)
    observations, rewards = [observation], []
    actions: list[np.int64] = []
    terminated = False
    while not terminated and len(actions) < TIME_LIMIT:
        probabilities = policy[int(observation.argmax())]
        actions.append(np.int64(generator.choice(len(MOVES), p=probabilities)))
        observation, reward, terminated, _, _ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    last = np.arange(len(actions)) == len(actions) - 1
    return EpisodeBuffer(
        id=index,
        observations=np.stack(observations),
        actions=np.array(actions, np.int64),
        rewards=np.array(rewards),
        terminations=last & terminated,
        truncations=last & (not terminated),
    )
