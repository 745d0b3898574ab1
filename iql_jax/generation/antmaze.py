"""AntMaze datasets like Minari's ``D4RL/antmaze/*-v1``.

The procedure is theirs: an ant walks along waypoints to a goal that neither ends the episode nor
moves, under Gaussian action noise, and stays around it. In umaze every episode has the evaluation's
start and goal; elsewhere each draws its own. The data differ in where ants start, how long they
stay, where goals lie and which episodes are kept; ``docs/antmaze.md`` says how, and why.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.mazes import GOAL_RADIUS, at_goal
from iql_jax.generation.ant_controller import ACTION_DIM, packaged_controller_digest
from iql_jax.generation.ants import CENTRING, DAMPING, UNREST, Ants, load_controller, steer
from iql_jax.generation.maze_tasks import MazeTask, build_environment, build_planner
from iql_jax.generation.procedure import Procedure, randomness
from iql_jax.utils.arrays import Float32, Float64

SCALING = 4.0
ACTION_NOISE = 0.2
STAY = 50  # Steps at the goal, or around it.
LYING_STEPS = 10  # On the back, from which an episode is not kept.
HELD_STEPS = 20  # At most, before an episode, under torques that do not change.

_STEPS_OF_ANT = 2_000
_SIDE_BY_SIDE = 16  # Ants in a process: the controller then takes a tenth of the time.


def _task(
    env_id: str, goal_cell: tuple[int, int], planned: float, start_cell: tuple[int, int] = (1, 1)
) -> MazeTask:
    return MazeTask(
        env_id=env_id,
        scaling=SCALING,
        goal_cell=goal_cell,
        reference_returns=(0.0, planned),
        start_cell=start_cell,
    )


_UMAZE = _task("AntMaze_UMaze-v4", (1, 1), 498.41, start_cell=(3, 1))

TASKS = {
    "umaze": dataclasses.replace(_UMAZE, fixed=True),
    "umaze-diverse": _UMAZE,
    "medium-play": _task("AntMaze_Medium-v4", (6, 6), 667.51),
    "medium-diverse": _task("AntMaze_Medium_Diverse_GR-v4", (6, 6), 667.51),
    "large-play": _task("AntMaze_Large-v4", (7, 9), 541.81),
    "large-diverse": _task("AntMaze_Large_Diverse_GR-v4", (7, 9), 541.81),
}


@dataclasses.dataclass(frozen=True)
class Shard:
    """Ants that walk side by side; their steps depend on nothing else.

    Attributes:
        task: what they walk through.
        seed: the dataset's.
        first_ant: the number of the first ant.
        ants: the number of ants.
        steps: environment steps of each, in as many episodes as they make.
        stay: steps at the goal, or around it, after which an episode ends.
    """

    task: MazeTask
    seed: int
    first_ant: int
    ants: int
    steps: int
    stay: int


def procedure(task: str, steps: int, seed: int, stay: int = STAY) -> Procedure:
    """Returns how the data of a task are generated.

    Args:
        task: a key of ``TASKS``.
        steps: the number of transitions.
        seed: of all randomness.
        stay: steps at the goal, or around it, after which an episode ends.
    """
    maze = TASKS[task]
    env = build_environment(maze)
    where = (
        "from the evaluation's start to its goal"
        if maze.fixed
        else "from a random free cell to a random goal"
    )
    return Procedure(
        env_spec=maze.collecting_spec(),
        observation_space=env.observation_space,
        action_space=env.action_space,
        shards=_shards(maze, steps, seed, stay),
        collect=collect,
        metadata=maze.metadata()
        | {
            "algorithm_name": "waypoints on shortest paths, SAC ant controller",
            "description": (
                f"An ant walks {where} in {maze.env_id}, along waypoints on a shortest path, with "
                f"Gaussian action noise of standard deviation {ACTION_NOISE}. The goal ends "
                f"nothing: the ant stays around it for up to {stay} steps, with reward 1 in every "
                f"step within {GOAL_RADIUS} m; then the episode is truncated, or at its time limit "
                f"of {maze.time_limit} steps. It starts after up to {HELD_STEPS} steps, which are "
                "not part of it, under random torques that do not change. Joints are damped, and "
                "drawn to the middle of their ranges where the ant hardly moves. Episodes with "
                f"{LYING_STEPS} steps or more on the ant's back are left out, and others collected "
                f"in their place. The procedure is that of Minari's D4RL/antmaze/{task}-v1, where "
                "ants stay until the time limit and those of the diverse mazes start in the goals' "
                "cells, with another ant controller, with goals in the middle of their cells, and "
                "with an evaluation in the data's own walls."
            ),
        },
        choices={
            "action_noise": ACTION_NOISE,
            "goal_noise": 0.0,
            "stay": stay,
            "through": list(maze.goal_cell),
            "kept_lying_steps": LYING_STEPS - 1,
            "damping": DAMPING,
            "unrest": UNREST,
            "centring": CENTRING,
            "held_steps": HELD_STEPS,
            "controller": packaged_controller_digest(),
        },
    )


def _shards(task: MazeTask, steps: int, seed: int, stay: int) -> list[Shard]:
    """Shares the steps out among ants, and these among shards; what is left over is one ant's."""
    ants, rest = divmod(steps, _STEPS_OF_ANT)
    shards = [
        Shard(task, seed, first, min(_SIDE_BY_SIDE, ants - first), _STEPS_OF_ANT, stay)
        for first in range(0, ants, _SIDE_BY_SIDE)
    ]
    return [*shards, Shard(task, seed, ants, 1, rest, stay)] if rest else shards


def collect(shard: Shard, check: Callable[[], None]) -> list[EpisodeBuffer]:
    """Walks ants from start to goal, again and again, for the steps of one shard."""
    env, planner = build_environment(shard.task), build_planner(shard.task)
    ants = Ants(env, planner, shard.ants, shard.task.goal_cell)
    controller = load_controller()
    walks = [_Walk(ants, i, shard) for i in range(shard.ants)]
    while walking := [walk for walk in walks if walk.left]:
        check()
        actions = steer(controller, ants)
        for walk in walking:
            walk.add_noise(actions)
        ants.step(actions, [walk.index for walk in walking])
        upright = ants.upright()
        for walk in walking:
            walk.record(actions, lies=bool(upright[walk.index] < 0.0))
    return [episode for walk in walks for episode in walk.episodes]


class _Walk:
    """One ant's episodes; one in which the ant lies is walked again from another start.

    Args:
        ants: the ants that walk side by side.
        index: its own among them.
        shard: what they walk for.

    Attributes:
        index: see above.
        left: steps that are not in finished episodes yet.
        episodes: the finished ones.
    """

    def __init__(self, ants: Ants, index: int, shard: Shard) -> None:
        self.index = index
        self.left = shard.steps
        self.episodes: list[EpisodeBuffer] = []
        self._ants = ants
        self._limit = shard.task.time_limit
        self._stay = shard.stay
        self._next_seed, self._generator = randomness(shard.seed, shard.first_ant + index)
        self._start()

    def _start(self) -> None:
        self._seed = self._next_seed
        self._ants.reset(self.index, self._seed)
        self._next_seed = int(self._generator.integers(2**31))
        self._hold()
        self._states = [self._ants.states[self.index].copy()]
        self._actions: list[Float32] = []
        self._lying = self._waiting = 0

    def _hold(self) -> None:
        """Lets random torques, held, bring the ant into a pose that it may start from."""
        torques = self._generator.uniform(-1.0, 1.0, ACTION_DIM) * self._generator.uniform()
        actions = np.zeros((len(self._ants.states), ACTION_DIM), dtype=np.float32)
        actions[self.index] = torques
        for _ in range(self._generator.integers(HELD_STEPS, endpoint=True)):
            self._ants.step(actions, [self.index])

    def add_noise(self, actions: Float32) -> None:
        """Adds noise to the ant's own among all ants' actions."""
        noise = self._generator.normal(scale=ACTION_NOISE, size=ACTION_DIM)
        actions[self.index] = np.clip(actions[self.index] + noise, -1.0, 1.0)

    def record(self, actions: Float32, lies: bool) -> None:
        """Records the step that was made; starts another episode where this one has ended."""
        state, goal = self._ants.states[self.index], self._ants.goals[self.index]
        self._states.append(state.copy())
        self._actions.append(actions[self.index].copy())
        self._lying += lies
        if self._lying >= LYING_STEPS:
            self._start()
            return
        if self._waiting or at_goal(state[:2], goal):
            self._waiting += 1
        length = len(self._actions)
        if self._waiting > self._stay or length in (self._limit, self.left):
            self.episodes.append(
                _episode(np.stack(self._states), np.stack(self._actions), goal, self._seed)
            )
            self.left -= length
            if self.left:
                self._start()


def _episode(states: Float64, actions: Float32, goal: Float64, seed: int) -> EpisodeBuffer:
    """Returns an episode in Minari's form: states [T + 1, 29], actions [T, 8], goal [2]."""
    positions, goals = states[:, :2], np.tile(goal, (len(states), 1))
    successes = at_goal(positions, goals)
    return EpisodeBuffer(
        seed=seed,
        observations={
            "observation": states[:, 2:],
            "achieved_goal": positions,
            "desired_goal": goals,
        },
        actions=actions,
        rewards=successes[1:].astype(np.float64),
        terminations=np.zeros(len(actions), dtype=np.bool_),
        truncations=np.arange(len(actions)) == len(actions) - 1,
        infos={
            "success": successes,
            "qpos": states[:, :15],
            "qvel": states[:, 15:],
            "goal": goals,
        },
    )
