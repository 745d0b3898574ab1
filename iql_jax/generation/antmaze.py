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

from iql_jax.envs.mazes import at_goal
from iql_jax.generation.ant_controller import ACTION_DIM, AntController, packaged_controller_digest
from iql_jax.generation.ants import Ants, steer
from iql_jax.generation.maze_tasks import MazeTask
from iql_jax.generation.procedure import Procedure, Shard, maze_episode, randomness
from iql_jax.utils.arrays import Float32

SCALING = 4.0
ACTION_NOISE = 0.2
STAY = 50  # Steps at the goal, or around it.
LYING_STEPS = 10  # On the back, from which an episode is not kept.
HELD_STEPS = 20  # At most, before an episode, under torques that do not change.

_STEPS_OF_ANT = 2_000
_SIDE_BY_SIDE = 16  # Ants in a process: the controller then takes a tenth of the time.

_UMAZE = MazeTask("AntMaze_UMaze-v4", SCALING, (1, 1), (0.0, 498.41), (3, 1))
_MEDIUM = MazeTask("AntMaze_Medium-v4", SCALING, (6, 6), (0.0, 667.51), (1, 1))
_LARGE = MazeTask("AntMaze_Large-v4", SCALING, (7, 9), (0.0, 541.81), (1, 1))
TASKS = {
    "umaze": dataclasses.replace(_UMAZE, fixed=True),
    "umaze-diverse": _UMAZE,
    "medium-play": _MEDIUM,
    "medium-diverse": dataclasses.replace(_MEDIUM, env_id="AntMaze_Medium_Diverse_GR-v4"),
    "large-play": _LARGE,
    "large-diverse": dataclasses.replace(_LARGE, env_id="AntMaze_Large_Diverse_GR-v4"),
}


def procedure(task: str, steps: int, seed: int, stay: int = STAY) -> Procedure:
    """Returns how the data of a task, a key of ``TASKS``, are generated.

    An episode ends after ``stay`` steps at the goal, or around it.
    """
    maze = TASKS[task]
    ants, rest = divmod(steps, _STEPS_OF_ANT)
    shards = [
        Shard(maze, seed, first, min(_SIDE_BY_SIDE, ants - first), _STEPS_OF_ANT, stay)
        for first in range(0, ants, _SIDE_BY_SIDE)
    ]
    if rest:
        shards.append(Shard(maze, seed, ants, 1, rest, stay))
    return Procedure(
        task=maze,
        shards=shards,
        collect=collect,
        metadata={
            "algorithm_name": "waypoints on shortest paths, SAC ant controller",
            "description": "An ant walks from a start to a goal, and stays around it for up to "
            f"{stay} steps, after the procedure of Minari's D4RL/antmaze/{task}-v1.",
        },
        choices={"stay": stay, "controller": packaged_controller_digest()},
    )


def collect(shard: Shard, check: Callable[[], None]) -> list[EpisodeBuffer]:
    """Walks ants from start to goal, again and again, for the steps of one shard."""
    ants, controller = Ants(shard.task, shard.count), AntController.load()
    walks = [_Walk(ants, i, shard) for i in range(shard.count)]
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
    """The episodes of the ant with an index; one in which it lies is walked again, elsewhere."""

    def __init__(self, ants: Ants, index: int, shard: Shard) -> None:
        self.index = index
        self.left = shard.steps  # Those that are not in finished episodes yet.
        self.episodes: list[EpisodeBuffer] = []  # The finished ones.
        self._ants = ants
        self._limit = shard.task.time_limit
        self._stay = shard.stay
        self._next_seed, self._generator = randomness(shard.seed, shard.first + index)
        self._start()

    def _start(self) -> None:
        """Starts an episode, from a pose into which random torques, held, bring the ant."""
        self._seed = self._next_seed
        self._ants.reset(self.index, self._seed)
        self._next_seed = int(self._generator.integers(2**31))
        torques = self._generator.uniform(-1.0, 1.0, ACTION_DIM) * self._generator.uniform()
        actions = np.zeros((len(self._ants.states), ACTION_DIM), dtype=np.float32)
        actions[self.index] = torques
        for _ in range(self._generator.integers(HELD_STEPS, endpoint=True)):
            self._ants.step(actions, [self.index])
        self._states = [self._ants.states[self.index].copy()]
        self._actions: list[Float32] = []
        self._lying = self._waiting = 0

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
            states, made = np.stack(self._states), np.stack(self._actions)
            episode = maze_episode(states[:, 2:], states[:, :2], made, goal, self._seed)
            self.episodes.append(episode)
            self.left -= length
            if self.left:
                self._start()
