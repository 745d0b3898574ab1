"""PointMaze datasets like Minari's ``D4RL/pointmaze/*-v2``, made on the spot.

The procedure is theirs: a ball is driven to one random goal after another in a task that never
ends, by a PD controller that follows waypoints, under Gaussian action noise; an episode ends, by
truncation, at the step that reaches the goal. Two things differ. The environment returns the
observation of that step with the old goal and draws the new one only afterwards; Minari starts the
next episode with this very observation, so there its first goal is wrong. Here an episode holds one
goal, from its first observation to its last. And the waypoints come from a controller without
memory (see ``planner``).
"""

import dataclasses

import numpy as np
import numpy.typing as npt
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.maze_environments import REQUIREMENTS
from iql_jax.envs.mazes import GOAL_RADIUS
from iql_jax.generation.plan import Plan, Returns, ScoreRun
from iql_jax.generation.point_tasks import (
    TASKS,
    PointController,
    build_environment,
    build_planner,
    clip,
    collecting_spec,
    evaluation_spec,
)
from iql_jax.generation.reproducibility import COLLECTING, SCORING, randomness

ACTION_NOISE = 0.5

_MAX_SHARDS = 100
_MIN_SHARD_STEPS = 500
# Bounds on what a step takes; the most is in umaze, whose episodes are the shortest.
_FILE_BYTES = 700
_PART_BYTES = 60


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a dataset that one worker collects: its content depends on nothing else."""

    task: str
    seed: int
    index: int
    steps: int

    @property
    def transitions(self) -> int:
        """The steps."""
        return self.steps


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a worker saw in one shard of N environment steps, cut into E episodes.

    Attributes:
        states: [N + 1, 4] float64 x, y in metres and their velocities in metres a second.
        actions: [N, 2] float32.
        rewards: [N] float64.
        successes: [N + 1] bool, whether the state lies at the goal that was current then.
        goals: [E, 2] float64.
        lengths: [E] int64; they add up to N.
    """

    states: npt.NDArray[np.float64]
    actions: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float64]
    successes: npt.NDArray[np.bool_]
    goals: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]


def plan(dataset_id: str, *, task: str, steps: int, seed: int) -> Plan[Shard, Recording]:
    """Plan a dataset.

    Args:
        dataset_id: the id to store it under.
        task: a key of ``point_tasks.TASKS``.
        steps: the number of transitions; at least 1.
        seed: at least 0.
    """
    env = build_environment(task)
    return Plan(
        dataset_id=dataset_id,
        task=task,
        steps=steps,
        seed=seed,
        env_spec=collecting_spec(task),
        eval_env_spec=evaluation_spec(task),
        observation_space=env.observation_space,
        action_space=env.action_space,
        shards=plan_shards(task, steps, seed),
        collect_shard=collect_shard,
        recording=Recording,
        episodes=cut_episodes,
        score_run=score_run,
        episodes_per_score_run=10,
        file_bytes=_FILE_BYTES,
        part_bytes=_PART_BYTES,
        steps_worth_processes=20_000,
        algorithm="waypoints on shortest paths, PD controller",
        description=(
            f"A ball is driven from one random goal to the next in {TASKS[task].env_id}, by a PD "
            "controller that follows waypoints on a shortest path, with Gaussian action noise of "
            f"standard deviation {ACTION_NOISE}. An episode ends, truncated, at the step that "
            f"comes within {GOAL_RADIUS} m of its goal. The procedure is that of Minari's "
            f"D4RL/pointmaze/{task}-v2, except that each episode holds one goal from its first "
            "observation on."
        ),
        requirements=REQUIREMENTS,
        choices={"action_noise": ACTION_NOISE},
    )


def plan_shards(task: str, steps: int, seed: int) -> list[Shard]:
    """Cut the steps into shards of nearly equal size; their number depends on the steps alone."""
    count = max(1, min(_MAX_SHARDS, steps // _MIN_SHARD_STEPS))
    bounds = [steps * i // count for i in range(count + 1)]
    return [Shard(task, seed, i, bounds[i + 1] - bounds[i]) for i in range(count)]


def collect_shard(shard: Shard) -> Recording:
    """Drive the ball from goal to goal for the steps of one shard."""
    env = build_environment(shard.task)
    controller = PointController(build_planner(shard.task))
    reset_seed, generator = randomness(shard.seed, COLLECTING, shard.index)
    noise = generator.normal(scale=ACTION_NOISE, size=(shard.steps, 2)).tolist()
    states = np.empty((shard.steps + 1, 4))
    actions = np.empty((shard.steps, 2), dtype=np.float32)
    rewards = np.empty(shard.steps)
    successes = np.empty(shard.steps + 1, dtype=np.bool_)

    observation, info = env.reset(seed=reset_seed)
    states[0], successes[0] = observation["observation"], info["success"]
    goals, ends = [env.goal.copy()], []
    controller.head_for(env.goal)
    for t in range(shard.steps):
        steer_x, steer_y = controller.action(states[t].tolist())
        noise_x, noise_y = noise[t]
        actions[t] = clip(steer_x + noise_x), clip(steer_y + noise_y)
        observation, rewards[t], _, _, info = env.step(actions[t])
        states[t + 1], successes[t + 1] = observation["observation"], info["success"]
        if info["success"]:
            ends.append(t + 1)
            goals.append(env.goal.copy())  # Drawn by that step; the observation has the old one.
            controller.head_for(env.goal)
    if not ends or ends[-1] != shard.steps:
        ends.append(shard.steps)
    lengths = np.diff(ends, prepend=0)
    return Recording(states, actions, rewards, successes, np.array(goals[: len(lengths)]), lengths)


def score_run(run: ScoreRun) -> Returns:
    """Drive the ball in the evaluation environment, one episode after another."""
    episodes = range(run.first_episode, run.first_episode + run.episodes)
    return Returns(np.array([_score_episode(run, episode) for episode in episodes]))


def _score_episode(run: ScoreRun, episode: int) -> float:
    env = build_environment(run.task, evaluation=True)
    limit = evaluation_spec(run.task).max_episode_steps
    assert limit is not None
    controller = PointController(build_planner(run.task))
    reset_seed, generator = randomness(run.seed, SCORING, episode)
    random_actions = generator.uniform(-1.0, 1.0, size=(limit, 2)).astype(np.float32)
    observation, _ = env.reset(seed=reset_seed)
    controller.head_for(env.goal)
    total = 0.0
    for t in range(limit):
        if run.planned:
            steer = controller.action(observation["observation"].tolist())
            action = np.array(steer, dtype=np.float32)
        else:
            action = random_actions[t]
        observation, reward, _, _, _ = env.step(action)
        total += float(reward)
    return total


def cut_episodes(recording: Recording) -> list[EpisodeBuffer]:
    """Cut a recording into Minari's episodes."""
    episodes = []
    ends = np.cumsum(recording.lengths)
    for goal, end, length in zip(
        recording.goals, ends.tolist(), recording.lengths.tolist(), strict=True
    ):
        start = end - length
        states = recording.states[start : end + 1]
        positions, velocities = states[:, :2], states[:, 2:]
        goals = np.tile(goal, (length + 1, 1))
        successes = recording.successes[start : end + 1].copy()
        if start > 0:  # That success belongs to the goal of the episode before.
            successes[0] = False
        episode = EpisodeBuffer(
            observations={
                "observation": states,
                "achieved_goal": positions,
                "desired_goal": goals,
            },
            actions=recording.actions[start:end],
            rewards=recording.rewards[start:end],
            terminations=np.zeros(length, dtype=np.bool_),
            truncations=np.arange(length) == length - 1,
            infos={"success": successes, "qpos": positions, "qvel": velocities, "goal": goals},
        )
        episodes.append(episode)
    return episodes
