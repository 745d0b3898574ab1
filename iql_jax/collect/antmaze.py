"""AntMaze datasets like Minari's ``D4RL/antmaze/*-v1``, made on the spot.

The procedure is theirs: an ant walks along waypoints to a goal that neither ends the episode nor
moves, under Gaussian action noise, and stays around it until the time limit truncates the episode.
In umaze every episode has the evaluation's start and goal; elsewhere each draws its own.

Goals lie in the middle of their cells (see ``ant_tasks.Ants``). What steers the ant is this
package's: a controller of directions above damped joints (see ``ant_tasks.steer``), and waypoints
without memory (see ``planner``).

Episodes in which an ant lies on its back are not kept, about one in a hundred. Their states lead to
themselves, and there the expectile of Q feeds on its own noise: on umaze, where they were 0.2 % of
the data, V rose in them without end after 150,000 updates, to 1,500 where no return is above 0, and
drew all other values with it.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from minari.data_collector import EpisodeBuffer

from iql_jax.collect.ant_controller import PACKAGED_CONTROLLER, rotation_matrices
from iql_jax.collect.ant_tasks import (
    ACTION_DIM,
    DAMPING,
    STATE_DIM,
    TASKS,
    Ants,
    build_environment,
    build_planner,
    collecting_spec,
    evaluation_spec,
    load_controller,
    steer,
)
from iql_jax.collect.plan import Plan, Returns, ScoreRun
from iql_jax.collect.reproducibility import COLLECTING, SCORING, randomness
from iql_jax.maze import GOAL_RADIUS

ACTION_NOISE = 0.2
LYING_STEPS = 10  # On the back, by which an episode is not kept.

_SIDE_BY_SIDE = 16  # Ants in a process: the controller then takes a tenth of the time.
# Bounds on what a step takes; the most is in umaze, whose episodes are the shortest.
_FILE_BYTES = 660
_PART_BYTES = 270


@dataclasses.dataclass(frozen=True)
class Shard:
    """Episodes that one worker collects side by side: their content depends on nothing else.

    Attributes:
        task: a key of ``ant_tasks.TASKS``.
        seed: the dataset's.
        first_episode: the number of the first episode.
        episodes: the number of episodes.
        steps: environment steps of each, at most the time limit.
    """

    task: str
    seed: int
    first_episode: int
    episodes: int
    steps: int

    @property
    def transitions(self) -> int:
        """Steps of all episodes together."""
        return self.episodes * self.steps


@dataclasses.dataclass(frozen=True)
class Recording:
    """What became of B episodes of T environment steps.

    Attributes:
        states: [T + 1, B, 29] float64: x, y, and the ant's observation.
        actions: [T, B, 8] float32.
        goals: [B, 2] float64, in metres.
    """

    states: npt.NDArray[np.float64]
    actions: npt.NDArray[np.float32]
    goals: npt.NDArray[np.float64]


def plan(dataset_id: str, *, task: str, steps: int, seed: int) -> Plan[Shard, Recording]:
    """Plan a dataset.

    Args:
        dataset_id: the id to store it under.
        task: a key of ``ant_tasks.TASKS``.
        steps: the number of transitions; at least 1.
        seed: at least 0.
    """
    env = build_environment(task)
    where = (
        "from the evaluation's start to its goal"
        if TASKS[task].fixed
        else "from a random start to a random goal"
    )
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
        episodes_per_score_run=_SIDE_BY_SIDE,
        file_bytes=_FILE_BYTES,
        part_bytes=_PART_BYTES,
        steps_worth_processes=10_000,
        algorithm="waypoints on shortest paths, SAC ant controller",
        description=(
            f"An ant walks {where} in {TASKS[task].env_id}, along waypoints on a shortest path, "
            f"with Gaussian action noise of standard deviation {ACTION_NOISE}. The goal ends "
            f"nothing: the ant stays around it, with reward 1 in every step within {GOAL_RADIUS} "
            f"m, until the episode is truncated after {_time_limit(task)} steps. The procedure is "
            f"that of Minari's D4RL/antmaze/{task}-v1, with another ant controller, with goals in "
            "the middle of their cells, and with an evaluation in the data's own walls."
        ),
        choices={
            "action_noise": ACTION_NOISE,
            "goal_noise": 0.0,
            "kept_lying_steps": LYING_STEPS - 1,
            "damping": DAMPING,
            "controller": hashlib.sha256(PACKAGED_CONTROLLER.read_bytes()).hexdigest()[:16],
        },
    )


def plan_shards(task: str, steps: int, seed: int) -> list[Shard]:
    """Cut the steps into episodes, and these into shards.

    What is left over after the last whole episode becomes a shard of one shorter episode.
    """
    limit = _time_limit(task)
    episodes, rest = divmod(steps, limit)
    shards = [
        Shard(task, seed, first, min(_SIDE_BY_SIDE, episodes - first), limit)
        for first in range(0, episodes, _SIDE_BY_SIDE)
    ]
    return [*shards, Shard(task, seed, episodes, 1, rest)] if rest else shards


def collect_shard(shard: Shard) -> Recording:
    """Walk ants from start to goal for the steps of one shard.

    An episode in which the ant lies is walked again from another start, until it does not.
    """
    numbers = range(shard.first_episode, shard.first_episode + shard.episodes)
    draws = [randomness(shard.seed, COLLECTING, number) for number in numbers]
    generators = [generator for _, generator in draws]
    recording = _walk(shard, [reset_seed for reset_seed, _ in draws], generators)
    while (again := np.flatnonzero(_lies(recording.states))).size:
        drawn = [generators[i] for i in again]
        anew = _walk(shard, [int(generator.integers(2**31)) for generator in drawn], drawn)
        recording.states[:, again] = anew.states
        recording.actions[:, again] = anew.actions
        recording.goals[again] = anew.goals
    return recording


def _walk(
    shard: Shard, reset_seeds: Sequence[int], generators: Sequence[np.random.Generator]
) -> Recording:
    """Walk B ants side by side, each with its own reset and noise."""
    env = build_environment(shard.task)
    ants = Ants(env, build_planner(shard.task), len(generators))
    controller = load_controller()
    noise = np.empty((shard.steps, len(generators), ACTION_DIM))
    states = np.empty((shard.steps + 1, len(generators), STATE_DIM))
    actions = np.empty((shard.steps, len(generators), ACTION_DIM), dtype=np.float32)
    for i, (reset_seed, generator) in enumerate(zip(reset_seeds, generators, strict=True)):
        ants.reset(i, reset_seed)
        noise[:, i] = generator.normal(scale=ACTION_NOISE, size=(shard.steps, ACTION_DIM))
    states[0] = ants.states
    for t in range(shard.steps):
        actions[t] = np.clip(steer(controller, ants) + noise[t], -1.0, 1.0)
        ants.step(actions[t])
        states[t + 1] = ants.states
    return Recording(states, actions, ants.goals)


def _lies(states: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether the ants [B] of states [T + 1, B, 29] are on their backs for half a second in all."""
    rotations = rotation_matrices(states[..., 3:7].reshape(-1, 4))
    upright = rotations[:, 2, 2].reshape(states.shape[:2])
    return np.asarray((upright < 0.0).sum(axis=0) >= LYING_STEPS)


def score_run(run: ScoreRun) -> Returns:
    """Walk ants in the evaluation environment, side by side."""
    env = build_environment(run.task, evaluation=True)
    ants = Ants(env, build_planner(run.task), run.episodes)
    controller = load_controller()
    generators = []
    for i in range(run.episodes):
        reset_seed, generator = randomness(run.seed, SCORING, run.first_episode + i)
        ants.reset(i, reset_seed)
        generators.append(generator)
    returns = np.zeros(run.episodes)
    for _ in range(_time_limit(run.task)):
        if run.planned:
            actions = steer(controller, ants)
        else:
            drawn = [generator.uniform(-1.0, 1.0, ACTION_DIM) for generator in generators]
            actions = np.stack(drawn).astype(np.float32)
        ants.step(actions)
        returns += ants.at_goal()
    return Returns(returns)


def _time_limit(task: str) -> int:
    limit = collecting_spec(task).max_episode_steps
    assert limit is not None
    return limit


def cut_episodes(recording: Recording) -> list[EpisodeBuffer]:
    """Bring the episodes of a recording into Minari's form."""
    length = len(recording.actions)
    episodes = []
    for i, goal in enumerate(recording.goals):
        states = np.ascontiguousarray(recording.states[:, i])
        positions = states[:, :2]
        goals = np.tile(goal, (length + 1, 1))
        successes = np.linalg.norm(positions - goals, axis=-1) <= GOAL_RADIUS
        episode = EpisodeBuffer(
            observations={
                "observation": states[:, 2:],
                "achieved_goal": positions,
                "desired_goal": goals,
            },
            actions=recording.actions[:, i],
            rewards=successes[1:].astype(np.float64),
            terminations=np.zeros(length, dtype=np.bool_),
            truncations=np.arange(length) == length - 1,
            infos={
                "success": successes,
                "qpos": states[:, :15],
                "qvel": states[:, 15:],
                "goal": goals,
            },
        )
        episodes.append(episode)
    return episodes
