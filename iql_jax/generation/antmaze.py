"""AntMaze datasets like Minari's ``D4RL/antmaze/*-v1``.

The procedure is theirs: an ant walks along waypoints to a goal that neither ends the episode nor
moves, under Gaussian action noise, and stays around it. In umaze every episode has the evaluation's
start and goal; elsewhere each draws its own. The data differ in where ants start, how long they
stay, where goals lie and which episodes are kept; ``docs/antmaze.md`` says how, and why.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.maze_environments import REQUIREMENTS, bare_environment, registered_spec
from iql_jax.envs.mazes import GOAL_RADIUS, MazeMap, at_goal
from iql_jax.generation.ant_controller import ACTION_DIM, packaged_controller_digest
from iql_jax.generation.ants import CENTRING, DAMPING, UNREST, Ants, load_controller, steer
from iql_jax.generation.planner import MazePlanner
from iql_jax.generation.procedure import Procedure, randomness
from iql_jax.utils.arrays import Float32, Float64

SCALING = 4.0
ACTION_NOISE = 0.2
STAY = 50  # Steps at the goal, or around it.
LYING_STEPS = 10  # On the back, from which an episode is not kept.
HELD_STEPS = 20  # At most, before an episode, under torques that do not change.

_STEPS_OF_ANT = 2_000
_SIDE_BY_SIDE = 16  # Ants in a process: the controller then takes a tenth of the time.


@dataclasses.dataclass(frozen=True)
class AntMaze:
    """One of the AntMaze tasks.

    Attributes:
        env_id: the Gymnasium id of the environment. Its map marks the cells from which goals are
            drawn; where it marks none, these are all free cells.
        start_cell: row and column where every episode of the evaluation starts, as in Minari.
        goal_cell: row and column of the evaluation's only goal, as in Minari.
        reference_returns: mean returns of 100 episodes in the evaluation environment, of random
            actions and of the collecting policy without noise (``scripts/reference_returns.py``);
            they count the steps at the goal.
        fixed: whether the evaluation's start and goal are those of the collection too.
    """

    env_id: str
    start_cell: tuple[int, int]
    goal_cell: tuple[int, int]
    reference_returns: tuple[float, float]
    fixed: bool = False


_UMAZE, _MEDIUM, _LARGE = (0.0, 498.41), (0.0, 667.51), (0.0, 541.81)

TASKS = {
    "umaze": AntMaze("AntMaze_UMaze-v4", (3, 1), (1, 1), _UMAZE, fixed=True),
    "umaze-diverse": AntMaze("AntMaze_UMaze-v4", (3, 1), (1, 1), _UMAZE),
    "medium-play": AntMaze("AntMaze_Medium-v4", (1, 1), (6, 6), _MEDIUM),
    "medium-diverse": AntMaze("AntMaze_Medium_Diverse_GR-v4", (1, 1), (6, 6), _MEDIUM),
    "large-play": AntMaze("AntMaze_Large-v4", (1, 1), (7, 9), _LARGE),
    "large-diverse": AntMaze("AntMaze_Large_Diverse_GR-v4", (1, 1), (7, 9), _LARGE),
}


@dataclasses.dataclass(frozen=True)
class Shard:
    """Ants that walk side by side; their steps depend on nothing else.

    Attributes:
        task: a key of ``TASKS``.
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
    stay: int


def procedure(task: str, steps: int, seed: int, stay: int = STAY) -> Procedure:
    """Returns how the data of a task are generated.

    Args:
        task: a key of ``TASKS``.
        steps: the number of transitions.
        seed: of all randomness.
        stay: steps at the goal, or around it, after which an episode ends.
    """
    env = build_environment(task)
    where = (
        "from the evaluation's start to its goal"
        if TASKS[task].fixed
        else "from a random free cell to a random goal"
    )
    low, high = TASKS[task].reference_returns
    return Procedure(
        env_spec=collecting_spec(task),
        observation_space=env.observation_space,
        action_space=env.action_space,
        shards=_shards(task, steps, seed, stay),
        collect=collect,
        metadata={
            "eval_env_spec": evaluation_spec(task).to_json(),
            "algorithm_name": "waypoints on shortest paths, SAC ant controller",
            "description": (
                f"An ant walks {where} in {TASKS[task].env_id}, along waypoints on a shortest "
                f"path, with Gaussian action noise of standard deviation {ACTION_NOISE}. The goal "
                f"ends nothing: the ant stays around it for up to {stay} steps, with reward 1 in "
                f"every step within {GOAL_RADIUS} m; then the episode is truncated, or at its time "
                f"limit of {time_limit(task)} steps. It starts after up to {HELD_STEPS} steps, "
                "which are not part of it, under random torques that do not change. Joints are "
                "damped, and drawn to the middle of their ranges where the ant hardly moves. "
                f"Episodes with {LYING_STEPS} steps or more on the ant's back are left out, and "
                "others collected in their place. The procedure is that of Minari's "
                f"D4RL/antmaze/{task}-v1, where ants stay until the time limit and those of the "
                "diverse mazes start in the goals' cells, with another ant controller, with goals "
                "in the middle of their cells, and with an evaluation in the data's own walls."
            ),
            "requirements": list(REQUIREMENTS),
            "ref_min_score": low,
            "ref_max_score": high,
            "num_episodes_average_score": 100,
        },
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


def _shards(task: str, steps: int, seed: int, stay: int) -> list[Shard]:
    """Shares the steps out among ants, and these among shards; what is left over is one ant's."""
    ants, rest = divmod(steps, _STEPS_OF_ANT)
    shards = [
        Shard(task, seed, first, min(_SIDE_BY_SIDE, ants - first), _STEPS_OF_ANT, stay)
        for first in range(0, ants, _SIDE_BY_SIDE)
    ]
    return [*shards, Shard(task, seed, ants, 1, rest, stay)] if rest else shards


def collect(shard: Shard, check: Callable[[], None]) -> list[EpisodeBuffer]:
    """Walks ants from start to goal, again and again, for the steps of one shard."""
    env = build_environment(shard.task)
    ants = Ants(env, build_planner(shard.task), shard.ants, TASKS[shard.task].goal_cell)
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
        self._limit = time_limit(shard.task)
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


def collecting_spec(task: str) -> EnvSpec:
    """Describes the collecting environment: its goals neither end nor move.

    Ants start in any free cell without a goal's mark, also in the diverse mazes.
    """
    spec = registered_spec(TASKS[task].env_id)
    if TASKS[task].fixed:
        spec.kwargs["maze_map"] = _evaluation_map(task)
    else:
        # "c" marks a start and a goal, "g" a goal; where no start is marked, it may be anywhere.
        spec.kwargs["maze_map"] = [
            ["g" if cell == "c" else cell for cell in row] for row in spec.kwargs["maze_map"]
        ]
    spec.kwargs |= {"continuing_task": True, "reset_target": False}
    return spec


def evaluation_spec(task: str) -> EnvSpec:
    """Describes the evaluation environment: the same walls, with one start and one goal.

    For umaze, Minari's metadata have the mirror image of the walls here, where no policy that was
    learned from the data can succeed.
    """
    spec = registered_spec(TASKS[task].env_id)
    spec.kwargs |= {
        "maze_map": _evaluation_map(task),
        "continuing_task": True,
        "reset_target": False,
    }
    return spec


def _evaluation_map(task: str) -> list[list[int | str]]:
    maze = _registered_map(task)
    cells: list[list[int | str]] = [[int(wall) for wall in row] for row in maze.walls]
    for mark, (row, column) in (("r", TASKS[task].start_cell), ("g", TASKS[task].goal_cell)):
        cells[row][column] = mark
    return cells


def _registered_map(task: str) -> MazeMap:
    return MazeMap.from_lists(registered_spec(TASKS[task].env_id).kwargs["maze_map"], SCALING)


def time_limit(task: str) -> int:
    """Returns the steps of an episode."""
    limit = collecting_spec(task).max_episode_steps
    assert limit is not None
    return limit


@functools.lru_cache(maxsize=4)
def build_environment(task: str, evaluation: bool = False) -> Any:
    """Builds an environment without wrappers."""
    return bare_environment(evaluation_spec(task) if evaluation else collecting_spec(task))


@functools.lru_cache(maxsize=4)
def build_planner(task: str) -> MazePlanner:
    """Returns the planner of a task's maze."""
    return MazePlanner(_registered_map(task))
