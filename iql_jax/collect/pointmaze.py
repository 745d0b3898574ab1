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
from typing import Any

import numpy as np
import numpy.typing as npt
from minari.data_collector import EpisodeBuffer
from tqdm import tqdm

from iql_jax import __version__
from iql_jax.collect.point_tasks import (
    TASKS,
    PointController,
    build_environment,
    build_planner,
    clip,
    collecting_spec,
    evaluation_spec,
)
from iql_jax.collect.reproducibility import package_versions, randomness
from iql_jax.collect.storage import add_episodes, new_dataset
from iql_jax.collect.workers import run_in_order
from iql_jax.maze import GOAL_RADIUS
from iql_jax.processes import available_cores

ACTION_NOISE = 0.5

_MAX_SHARDS = 100
_MIN_SHARD_STEPS = 500
_STEPS_WORTH_PROCESSES = 20_000
_BYTES_PER_STEP = 700  # In the file; the most is in umaze, whose episodes are the shortest.
_STREAM_COLLECT, _STREAM_SCORE = 0, 1


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a dataset that one worker collects: its content depends on nothing else."""

    task: str
    seed: int
    index: int
    steps: int


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


@dataclasses.dataclass(frozen=True)
class ScoreRun:
    """One episode in the evaluation environment, for the reference scores."""

    task: str
    seed: int
    index: int
    planned: bool  # By the planner without noise; otherwise by uniformly random actions.


def collect(
    dataset_id: str,
    *,
    task: str,
    steps: int,
    seed: int,
    progress: bool = True,
    workers: int | None = None,
    score_episodes: int = 100,
) -> None:
    """Collect a dataset and store it in Minari's local folder, in place of one of the same id.

    The content is a function of the task, the number of steps, the seed and the number of episodes
    for the reference scores, whatever the number of processes.

    Args:
        dataset_id: the id to store it under.
        task: a key of ``point_tasks.TASKS``.
        steps: the number of transitions; at least 1.
        seed: at least 0.
        progress: whether to show progress bars.
        workers: the number of processes; None takes all cores where that is worth their start.
        score_episodes: episodes to average over for each reference score, as Minari computes them.

    Raises:
        UserError: if the disk is full or the folder cannot be written.
    """
    if workers is None:
        workers = available_cores() if steps >= _STEPS_WORTH_PROCESSES else 1
    env = build_environment(task)
    with new_dataset(
        dataset_id,
        env_spec=collecting_spec(task),
        observation_space=env.observation_space,
        action_space=env.action_space,
        expected_bytes=steps * _BYTES_PER_STEP,
    ) as storage:
        shards = plan_shards(task, steps, seed)
        with tqdm(total=steps, unit="step", desc=dataset_id, disable=not progress) as bar:
            for recording in run_in_order(collect_shard, shards, workers):
                add_episodes(storage, _episodes(recording))
                bar.update(len(recording.rewards))
        worst, best = reference_scores(
            task, seed=seed, episodes=score_episodes, workers=workers, progress=progress
        )
        metadata = _metadata(dataset_id, task, steps, seed)
        scores = {"ref_min_score": worst, "ref_max_score": best}
        storage.update_metadata(metadata | scores | {"num_episodes_average_score": score_episodes})


def plan_shards(task: str, steps: int, seed: int) -> list[Shard]:
    """Cut the steps into shards of nearly equal size; their number depends on the steps alone."""
    count = max(1, min(_MAX_SHARDS, steps // _MIN_SHARD_STEPS))
    bounds = [steps * i // count for i in range(count + 1)]
    return [Shard(task, seed, i, bounds[i + 1] - bounds[i]) for i in range(count)]


def collect_shard(shard: Shard) -> Recording:
    """Drive the ball from goal to goal for the steps of one shard."""
    env = build_environment(shard.task)
    controller = PointController(build_planner(shard.task))
    reset_seed, generator = randomness(shard.seed, _STREAM_COLLECT, shard.index)
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


def reference_scores(
    task: str, *, seed: int, episodes: int, workers: int, progress: bool
) -> tuple[float, float]:
    """Average the returns of a random policy and of the planner in the evaluation environment.

    Minari defines the reference scores so. The task goes on at the goal until the time limit, so a
    return counts the steps spent there.

    Returns:
        The average return of the random policy and that of the planner.
    """
    runs = [ScoreRun(task, seed, i, planned) for planned in (False, True) for i in range(episodes)]
    returns = list(
        tqdm(
            run_in_order(score_run, runs, workers),
            total=len(runs),
            unit="episode",
            desc="reference scores",
            disable=not progress,
        )
    )
    return float(np.mean(returns[:episodes])), float(np.mean(returns[episodes:]))


def score_run(run: ScoreRun) -> float:
    """Return the sum of the rewards of one evaluation episode."""
    env = build_environment(run.task, evaluation=True)
    limit = evaluation_spec(run.task).max_episode_steps
    assert limit is not None
    controller = PointController(build_planner(run.task))
    reset_seed, generator = randomness(run.seed, _STREAM_SCORE, run.index)
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


def _episodes(recording: Recording) -> list[EpisodeBuffer]:
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


def _metadata(dataset_id: str, task: str, steps: int, seed: int) -> dict[str, Any]:
    versions = package_versions()
    return {
        "dataset_id": dataset_id,
        "eval_env_spec": evaluation_spec(task).to_json(),
        "algorithm_name": "waypoints on shortest paths, PD controller",
        "author": {"iql_jax"},
        "code_permalink": f"iql_jax {__version__}: iql_jax/collect/pointmaze.py",
        "description": (
            f"A ball is driven from one random goal to the next in {TASKS[task].env_id}, by a PD "
            "controller that follows waypoints on a shortest path, with Gaussian action noise of "
            f"standard deviation {ACTION_NOISE}. An episode ends, truncated, at the step that "
            f"comes within {GOAL_RADIUS} m of its goal. The procedure is that of Minari's "
            f"D4RL/pointmaze/{task}-v2, except that each episode holds one goal from its first "
            f"observation on. Made by: python -m iql_jax.data make {dataset_id} "
            f"--steps {steps} --seed {seed}"
        ),
        "minari_version": versions["minari"],
        "requirements": ["gymnasium-robotics>=1.3", "mujoco>=3.0"],
        "collection": {
            "steps": steps,
            "seed": seed,
            "action_noise": ACTION_NOISE,
            "versions": versions,
        },
    }
