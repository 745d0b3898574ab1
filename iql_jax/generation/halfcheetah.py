"""A HalfCheetah dataset of many gaits, good and bad, made on the spot.

Nobody here has learned to run. Each joint's torque is a sine of the time, all of one frequency,
plus an offset: a central pattern generator without feedback. One such gait, found by a random
search for distance, runs at 4 m/s, and falls one time in ten. Each episode has a gait of its own
around it, drawn anew: slower or faster, weaker or stronger, the joints more or less out of step. So
the episodes' returns reach from those that fall on their backs or walk backwards to the best
gait's, and an agent does better than the data's average only by telling the good ones apart: what
the transform 'return_range' and IQL's weights are for. No comparison is possible with D4RL's or
Minari's halfcheetah data, which learned policies made.
"""

import dataclasses
import functools
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer

from iql_jax.generation.plan import Plan, Returns, ScoreRun
from iql_jax.generation.reproducibility import COLLECTING, SCORING, randomness

ENV_ID = "HalfCheetah-v5"
EPISODE_STEPS = 1000
STEP_SECONDS = 0.05
ACTION_NOISE = 0.1

# Around the best gait, of which the frequency and the strength are 1 times themselves.
FREQUENCY_FACTORS = (0.9, 1.1)
STRENGTH_FACTORS = (0.5, 1.1)
PHASE_NOISE = 0.3  # Radians, of each joint.

_SHARD_EPISODES = 10
_FILE_BYTES = 220
_PART_BYTES = 190

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Gait:
    """A sine for each joint: back thigh, shin and foot, then the front's.

    Attributes:
        frequency: hertz.
        amplitudes: [6], in units of the largest torque; what is more is cut off.
        phases: [6], radians.
        offsets: [6], as the amplitudes.
    """

    frequency: float
    amplitudes: FloatArray
    phases: FloatArray
    offsets: FloatArray

    def actions(self, steps: int) -> FloatArray:
        """The actions of the first steps, [steps, 6], not clipped."""
        seconds = STEP_SECONDS * np.arange(steps)[:, None]
        angles = 2 * np.pi * self.frequency * seconds + self.phases
        return self.amplitudes * np.sin(angles) + self.offsets


BEST_GAIT = Gait(
    frequency=4.2,
    amplitudes=np.array([0.9, 1.4, 0.6, 0.8, 1.2, 1.0]),
    phases=np.array([-2.9, -0.8, -2.6, -0.2, 0.1, -1.8]),
    offsets=np.array([-0.3, 0.2, 0.5, -0.3, 0.1, 0.3]),
)


@dataclasses.dataclass(frozen=True)
class Shard:
    """Episodes that one worker collects: their content depends on nothing else.

    Attributes:
        seed: the dataset's.
        first_episode: the number of the first episode.
        lengths: the steps of each episode.
    """

    seed: int
    first_episode: int
    lengths: tuple[int, ...]

    @property
    def transitions(self) -> int:
        """Steps of all episodes together."""
        return sum(self.lengths)


@dataclasses.dataclass(frozen=True)
class Recording:
    """E episodes of N steps in all, one after another.

    Attributes:
        observations: [N + E, 17] float64; an episode has one more than steps.
        actions: [N, 6] float32.
        rewards: [N] float64.
        lengths: [E] int64.
    """

    observations: FloatArray
    actions: npt.NDArray[np.float32]
    rewards: FloatArray
    lengths: npt.NDArray[np.int64]


def plan(dataset_id: str, *, steps: int, seed: int) -> Plan[Shard, Recording]:
    """Plan a dataset.

    Args:
        dataset_id: the id to store it under.
        steps: the number of transitions; at least 1.
        seed: at least 0.
    """
    env = build_environment()
    return Plan(
        dataset_id=dataset_id,
        task="gaits",
        steps=steps,
        seed=seed,
        env_spec=environment_spec(),
        eval_env_spec=environment_spec(),
        observation_space=env.observation_space,
        action_space=env.action_space,
        shards=plan_shards(steps, seed),
        collect_shard=collect_shard,
        recording=Recording,
        episodes=cut_episodes,
        score_run=score_run,
        episodes_per_score_run=10,
        file_bytes=_FILE_BYTES,
        part_bytes=_PART_BYTES,
        steps_worth_processes=20_000,
        algorithm="sines of the time, of random frequency, strength and phases",
        description=(
            f"Gaits of {ENV_ID} without feedback: each joint's torque is a sine of the time plus "
            f"an offset. Each episode of {EPISODE_STEPS} steps has its own, drawn around one that "
            f"runs: its frequency times {_range(FREQUENCY_FACTORS)}, its strength times "
            f"{_range(STRENGTH_FACTORS)}, Gaussian noise of {PHASE_NOISE} rad on the phases and, "
            f"at each step, of {ACTION_NOISE} on the actions. A reference score of 100 is the "
            "return of the one that runs, without noise; 0 that of uniformly random actions."
        ),
        requirements=("gymnasium>=1.0", "mujoco>=3.0"),
        choices={
            "action_noise": ACTION_NOISE,
            "frequency_factors": list(FREQUENCY_FACTORS),
            "strength_factors": list(STRENGTH_FACTORS),
            "phase_noise": PHASE_NOISE,
        },
    )


def plan_shards(steps: int, seed: int) -> list[Shard]:
    """Whole episodes, and one of what is left, some to a shard."""
    whole, left = divmod(steps, EPISODE_STEPS)
    lengths = [EPISODE_STEPS] * whole + [left] * (left > 0)
    return [
        Shard(seed, first, tuple(lengths[first : first + _SHARD_EPISODES]))
        for first in range(0, len(lengths), _SHARD_EPISODES)
    ]


def draw_gait(generator: np.random.Generator) -> Gait:
    """A gait around the best one."""
    frequency = BEST_GAIT.frequency * generator.uniform(*FREQUENCY_FACTORS)
    strength = generator.uniform(*STRENGTH_FACTORS)
    phases = BEST_GAIT.phases + generator.normal(scale=PHASE_NOISE, size=len(BEST_GAIT.phases))
    return Gait(frequency, strength * BEST_GAIT.amplitudes, phases, strength * BEST_GAIT.offsets)


def collect_shard(shard: Shard) -> Recording:
    """Run one gait after another."""
    episodes = []
    for number, steps in enumerate(shard.lengths, start=shard.first_episode):
        reset_seed, generator = randomness(shard.seed, COLLECTING, number)
        planned = draw_gait(generator).actions(steps)
        noisy = planned + generator.normal(scale=ACTION_NOISE, size=planned.shape)
        episodes.append(_run(reset_seed, noisy))
    observations, actions, rewards = zip(*episodes, strict=True)
    return Recording(
        np.concatenate(observations),
        np.concatenate(actions),
        np.concatenate(rewards),
        np.array(shard.lengths, np.int64),
    )


def score_run(run: ScoreRun) -> Returns:
    """Episodes of the best gait without noise, or of random actions."""
    returns = []
    for episode in range(run.first_episode, run.first_episode + run.episodes):
        reset_seed, generator = randomness(run.seed, SCORING, episode)
        actions = BEST_GAIT.actions(EPISODE_STEPS)
        if not run.planned:
            actions = generator.uniform(-1.0, 1.0, size=actions.shape)
        returns.append(_run(reset_seed, actions)[2].sum())
    return Returns(np.array(returns))


def _run(
    reset_seed: int, actions: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.float32], FloatArray]:
    """One episode's observations [T + 1, 17], clipped actions [T, 6] and rewards [T]."""
    env = build_environment()
    clipped = np.clip(actions, -1.0, 1.0).astype(np.float32)
    observations, rewards = [env.reset(seed=reset_seed)[0]], []
    for action in clipped:
        observation, reward, _, _, _ = env.step(action)
        observations.append(observation)
        rewards.append(float(reward))
    return np.stack(observations), clipped, np.array(rewards)


def cut_episodes(recording: Recording) -> list[EpisodeBuffer]:
    """Cut a recording into Minari's episodes."""
    episodes = []
    ends = np.cumsum(recording.lengths).tolist()
    for number, (end, length) in enumerate(zip(ends, recording.lengths.tolist(), strict=True)):
        steps = slice(end - length, end)
        last = np.arange(length) == length - 1
        episode = EpisodeBuffer(
            observations=recording.observations[steps.start + number : end + number + 1],
            actions=recording.actions[steps],
            rewards=recording.rewards[steps],
            terminations=np.zeros(length, np.bool_),
            truncations=last,
        )
        episodes.append(episode)
    return episodes


def environment_spec() -> EnvSpec:
    """Describe the environment, for collection and evaluation alike."""
    return dataclasses.replace(gym.spec(ENV_ID), max_episode_steps=EPISODE_STEPS)


@functools.cache
def build_environment() -> Any:
    """Build the environment without wrappers."""
    return gym.make(environment_spec(), disable_env_checker=True).unwrapped


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]} to {bounds[1]}"
