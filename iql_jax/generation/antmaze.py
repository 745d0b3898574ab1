"""AntMaze datasets like Minari's ``D4RL/antmaze/*-v1``, made on the spot.

The procedure is theirs: an ant walks along waypoints to a goal that neither ends the episode nor
moves, under Gaussian action noise, and stays around it. In umaze every episode has the evaluation's
start and goal; elsewhere each draws its own.

Minari's ants of the diverse mazes start in the cells of the goals, D4RL's and these anywhere. From
ants that go between the four of medium IQL learned little: with normalised observations 11 %
success after 50,000 updates, in place of 43 %. Its policy left their few ways, and trod on the spot
in cells that the data never enter.

It stays for ``STAY`` steps, and in ``iql/antmaze-waiting`` until the time limit, as Minari's. On
medium such ants wait in four fifths of the steps, and of a million 179,000 are left to learn
walking from, in place of 780,000. From so few IQL overfits: its success fell from 54 % after
300,000 updates to 27 % after 800,000, its TD error was 0.7 on the data and 5.1 on others of the
same kind (``benchmarks/diagnose.py``).

Goals lie in the middle of their cells (see ``ant_tasks.Ants``), and ways that lead through the cell
of the evaluation's goal lead over it, as Minari's lead over the middle of every cell. Elsewhere
ants cut corners, for the sake of speed. No episode of medium-diverse has the evaluation's goal for
its own: of those that come within 2 m of it nine in ten touch it so, and one in sixteen otherwise.

What steers the ant is this package's: a controller of directions above damped joints (see
``ant_tasks.steer``), and waypoints without memory (see ``planner``).

Before an episode, random torques hold the ant for up to a second. Without that hardly a state of
the data is at rest, and a policy that comes to rest has not been shown how to walk on: on medium
nine tenths of the failures stood still. How the ant then sets off is made plain besides (see
``ant_tasks.CENTRING``).

Episodes in which an ant lies on its back for ``LYING_STEPS`` or more are not kept, about one in a
hundred. Their states lead to themselves, and there the expectile of Q feeds on its own noise: on
umaze, where they were 0.2 % of the data, V rose in them without end after 150,000 updates, to 1,500
where no return is above 0, and drew all other values with it.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.maze_environments import REQUIREMENTS
from iql_jax.envs.mazes import GOAL_RADIUS, at_goal
from iql_jax.generation.ant_controller import packaged_controller_digest
from iql_jax.generation.ant_tasks import (
    ACTION_DIM,
    CENTRING,
    DAMPING,
    TASKS,
    UNREST,
    Ants,
    build_environment,
    build_planner,
    collecting_spec,
    evaluation_spec,
    load_controller,
    steer,
)
from iql_jax.generation.plan import Plan, Returns, ScoreRun
from iql_jax.generation.reproducibility import COLLECTING, SCORING, randomness

ACTION_NOISE = 0.2
STAY = 50  # Steps at the goal, or around it.
LYING_STEPS = 10  # On the back, by which an episode is not kept.
HELD_STEPS = 20  # At most, before an episode, under torques that do not change.

_STEPS_OF_ANT = 2_000
_SIDE_BY_SIDE = 16  # Ants in a process: the controller then takes a tenth of the time.
# Bounds on what a step takes; the most is in umaze-diverse, whose episodes are the shortest.
_FILE_BYTES = 820
_PART_BYTES = 270


@dataclasses.dataclass(frozen=True)
class Shard:
    """What one worker's ants walk side by side: its content depends on nothing else.

    Attributes:
        task: a key of ``ant_tasks.TASKS``.
        seed: the dataset's.
        first_ant: the number of the first ant.
        ants: the number of ants.
        steps: environment steps of each, in as many episodes as they make.
        stay: steps at the goal, or around it, after which an episode ends.
    """

    task: str
    seed: int
    first_ant: int
    ants: int
    steps: int
    stay: int = STAY

    @property
    def transitions(self) -> int:
        """Steps of all ants together."""
        return self.ants * self.steps


@dataclasses.dataclass(frozen=True)
class Recording:
    """E episodes one after the other, of N environment steps in all.

    Attributes:
        lengths: [E] int64: the steps of each.
        states: [N + E, 29] float64: x, y, and the ant's observation; an episode has one more than
            steps.
        actions: [N, 8] float32.
        goals: [E, 2] float64, in metres.
    """

    lengths: npt.NDArray[np.int64]
    states: npt.NDArray[np.float64]
    actions: npt.NDArray[np.float32]
    goals: npt.NDArray[np.float64]


def plan(
    dataset_id: str, *, task: str, steps: int, seed: int, stay: int = STAY
) -> Plan[Shard, Recording]:
    """Plan a dataset.

    Args:
        dataset_id: the id to store it under.
        task: a key of ``ant_tasks.TASKS``.
        steps: the number of transitions; at least 1.
        seed: at least 0.
        stay: steps at the goal, or around it, after which an episode ends.
    """
    env = build_environment(task)
    where = (
        "from the evaluation's start to its goal"
        if TASKS[task].fixed
        else "from a random free cell to a random goal"
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
        shards=plan_shards(task, steps, seed, stay),
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
            f"nothing: the ant stays around it for up to {stay} steps, with reward 1 in every step "
            f"within {GOAL_RADIUS} m; then the episode is truncated, or at its time limit of "
            f"{_time_limit(task)} steps. It begins after up to {HELD_STEPS} steps, which are not "
            "part of it, under random torques that do not change. Joints are damped, and drawn to "
            "the middle of their ranges where the ant hardly moves. Episodes with "
            f"{LYING_STEPS} steps or more on the ant's back are left out, and others collected in "
            "their place. The procedure is that of "
            f"Minari's D4RL/antmaze/{task}-v1, where ants stay until the time limit and those of "
            "the diverse mazes start in the goals' cells, with another ant controller, with goals "
            "in the middle of their cells, and with an evaluation in the data's own walls."
        ),
        requirements=REQUIREMENTS,
        choices={
            "action_noise": ACTION_NOISE,
            "goal_noise": 0.0,
            "stay": stay,
            "through": list(TASKS[task].goal_cell),
            "kept_lying_steps": LYING_STEPS - 1,
            "damping": DAMPING,
            "unrest": UNREST,
            "centring": CENTRING,
            "held_steps": HELD_STEPS,
            "controller": packaged_controller_digest(),
        },
    )


def plan_shards(task: str, steps: int, seed: int, stay: int = STAY) -> list[Shard]:
    """Share the steps out among ants, and these among shards; what is left over is one ant's."""
    ants, rest = divmod(steps, _STEPS_OF_ANT)
    shards = [
        Shard(task, seed, first, min(_SIDE_BY_SIDE, ants - first), _STEPS_OF_ANT, stay)
        for first in range(0, ants, _SIDE_BY_SIDE)
    ]
    return [*shards, Shard(task, seed, ants, 1, rest, stay)] if rest else shards


def collect_shard(shard: Shard) -> Recording:
    """Walk ants from start to goal, again and again, for the steps of one shard."""
    env = build_environment(shard.task)
    ants = Ants(env, build_planner(shard.task), shard.ants, TASKS[shard.task].goal_cell)
    controller = load_controller()
    walks = [_Walk(ants, i, shard) for i in range(shard.ants)]
    while walking := [walk for walk in walks if walk.left]:
        actions = steer(controller, ants)
        for walk in walking:
            walk.add_noise(actions)
        ants.step(actions, [walk.index for walk in walking])
        upright = ants.upright()
        for walk in walking:
            walk.record(actions, lies=bool(upright[walk.index] < 0.0))
    states, actions, goals = zip(*(e for walk in walks for e in walk.episodes), strict=True)
    return Recording(
        lengths=np.array([len(steps) for steps in actions]),
        states=np.concatenate(states),
        actions=np.concatenate(actions),
        goals=np.stack(goals),
    )


class _Walk:
    """One ant's episodes, as they come about.

    An episode in which the ant lies is walked again from another start.

    Args:
        ants: the ants that walk side by side.
        index: its own among them.
        shard: what they walk for.

    Attributes:
        index: see above.
        left: steps that are not in finished episodes yet.
        episodes: the finished ones: states [T + 1, 29], actions [T, 8], goal [2].
    """

    def __init__(self, ants: Ants, index: int, shard: Shard) -> None:
        self.index = index
        self.left = shard.steps
        self.episodes: list[tuple[npt.NDArray[Any], ...]] = []
        self._ants = ants
        self._limit = _time_limit(shard.task)
        self._stay = shard.stay
        number = shard.first_ant + index
        self._reset_seed, self._generator = randomness(shard.seed, COLLECTING, number)
        self._begin()

    def _begin(self) -> None:
        self._ants.reset(self.index, self._reset_seed)
        self._reset_seed = int(self._generator.integers(2**31))
        self._hold()
        self._states = [self._ants.states[self.index].copy()]
        self._actions: list[npt.NDArray[np.float32]] = []
        self._lying = self._waiting = 0

    def _hold(self) -> None:
        """Let random torques, held, bring the ant into a pose that it may start from."""
        torques = self._generator.uniform(-1.0, 1.0, ACTION_DIM) * self._generator.uniform()
        actions = np.zeros((len(self._ants.states), ACTION_DIM), dtype=np.float32)
        actions[self.index] = torques
        for _ in range(self._generator.integers(HELD_STEPS, endpoint=True)):
            self._ants.step(actions, [self.index])

    def add_noise(self, actions: npt.NDArray[np.float32]) -> None:
        """Add noise to the ant's own among all ants' actions."""
        noise = self._generator.normal(scale=ACTION_NOISE, size=ACTION_DIM)
        actions[self.index] = np.clip(actions[self.index] + noise, -1.0, 1.0)

    def record(self, actions: npt.NDArray[np.float32], lies: bool) -> None:
        """Take down the step that was made; begin another episode where this one has ended."""
        state, goal = self._ants.states[self.index], self._ants.goals[self.index]
        self._states.append(state.copy())
        self._actions.append(actions[self.index].copy())
        self._lying += lies
        if self._lying >= LYING_STEPS:
            self._begin()
            return
        if self._waiting or at_goal(state[:2], goal):
            self._waiting += 1
        length = len(self._actions)
        if self._waiting > self._stay or length in (self._limit, self.left):
            self.episodes.append((np.stack(self._states), np.stack(self._actions), goal.copy()))
            self.left -= length
            if self.left:
                self._begin()


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
    episodes = []
    ends = np.cumsum(recording.lengths)
    for i, (length, end) in enumerate(zip(recording.lengths, ends, strict=True)):
        states = recording.states[end - length + i : end + i + 1]
        positions = states[:, :2]
        goals = np.tile(recording.goals[i], (length + 1, 1))
        successes = at_goal(positions, goals)
        episode = EpisodeBuffer(
            observations={
                "observation": states[:, 2:],
                "achieved_goal": positions,
                "desired_goal": goals,
            },
            actions=recording.actions[end - length : end],
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
