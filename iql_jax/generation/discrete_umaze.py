"""The dataset of the discrete u-maze: one optimal trajectory and 99 of random actions.

The mixture is the paper's. Of the random trajectories, few come near the goal.
"""

from collections.abc import Callable

import numpy as np
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.discrete_umaze import (
    GOAL_REWARD,
    MOVES,
    START,
    TIME_LIMIT,
    DiscreteUMaze,
    environment_spec,
    model,
)
from iql_jax.envs.finite_mdp import greedy
from iql_jax.generation.procedure import Procedure, randomness
from iql_jax.utils.arrays import Float64

OPTIMAL_EPISODES = 1
RANDOM_EPISODES = 99

_DISCOUNT = 0.99  # Of the optimal trajectory.


def procedure(seed: int) -> Procedure:
    """Returns how the data are generated; all randomness follows from the seed."""
    env = DiscreteUMaze()
    return Procedure(
        env_spec=environment_spec(),
        observation_space=env.observation_space,
        action_space=env.action_space,
        shards=[seed],
        collect=collect,
        metadata={
            "algorithm_name": "an optimal policy, and random actions",
            "description": (
                f"{OPTIMAL_EPISODES} trajectory of an optimal policy, the first, and "
                f"{RANDOM_EPISODES} of uniformly random actions, in a discrete u-maze where a "
                "quarter of all actions is replaced by random ones."
            ),
            **reference_scores(),
        },
    )


def collect(seed: int, check: Callable[[], None]) -> list[EpisodeBuffer]:
    """Returns the episodes, the optimal ones first."""
    env = DiscreteUMaze()
    best, uniform = policies()
    chosen = [best] * OPTIMAL_EPISODES + [uniform] * RANDOM_EPISODES
    return [_episode(env, policy, seed, index) for index, policy in enumerate(chosen)]


def policies() -> tuple[Float64, Float64]:
    """Returns an optimal policy and the uniform one, [S, A]."""
    best = greedy(model().optimal_q(_DISCOUNT))
    return best, np.full_like(best, 1 / len(MOVES))


def reference_scores() -> dict[str, float]:
    """Returns the exact mean returns of the two policies, as Minari's metadata name them."""
    best, uniform = (
        GOAL_REWARD * model().success_probability(policy, START, TIME_LIMIT)
        for policy in policies()
    )
    return {"ref_min_score": uniform, "ref_max_score": best}


def _episode(env: DiscreteUMaze, policy: Float64, seed: int, index: int) -> EpisodeBuffer:
    """Plays an episode, to the goal or the time limit."""
    reset_seed, generator = randomness(seed, index)
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
        seed=reset_seed,
        observations=np.stack(observations),
        actions=np.array(actions, np.int64),
        rewards=np.array(rewards),
        terminations=last & terminated,
        truncations=last & (not terminated),
    )
