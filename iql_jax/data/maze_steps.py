"""The transitions of a maze dataset: goal, success, rewards, masks.

Minari's maze data were collected as continuing tasks with goals of their own, and their rewards
refer to those; D4RL's and OGBench's files were relabeled to the one goal of the evaluation. The
config chooses:

- ``maze_goal='auto'``: 'stored' for files, 'eval' for Minari's datasets.

- ``maze_goal='eval'``, D4RL's semantics: rewards are recomputed for the evaluation goal at every
  step, wherever in an episode; the policy does not see a goal.
- ``maze_goal='episode'``: rewards as stored; the goal they refer to is part of the observation.
- ``maze_goal='stored'``: rewards and ends as stored; the policy does not see the goal.

What follows an arrival may be left out, to the end of the episode:

- ``maze_drop='nothing'``: all steps are kept, as D4RL does.
- ``maze_drop='waiting'``: the rest goes once the agent waits at its own goal.
- ``maze_drop='after_success'``: the rest goes as well once it has come to the goal that rewards
  refer to.

The goal that a step's reward refers to is stored with the step's *next* observation: the
environments compute both at once, and change goals afterwards. Taking it from there also avoids
the wrong goals in the first observations of Minari's PointMaze episodes (issue 265 of
github.com/Farama-Foundation/Minari).
"""

import dataclasses
from typing import Literal

import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.data.config import DataConfig
from iql_jax.data.episodes import Episodes, Source, Steps
from iql_jax.data.maze_task import MAZE_ENTRIES, MazeKind, MazeSetup, maze_kind, set_up_maze
from iql_jax.envs.mazes import at_goal
from iql_jax.utils.arrays import Bool, Float32, Int64
from iql_jax.utils.errors import UserError

_LAYOUT: dict[MazeKind, tuple[str, ...]] = {
    "point": ("observation",),  # x, y, vx, vy.
    "ant": ("achieved_goal", "observation"),  # x, y; then the ant without its position.
}
"""The entries that make up an observation: the position comes first in both."""

_FLATTENED = (8, 31, 109, 115)
"""Numbers of a ball's and of ants' observations, with both goals, in one array."""


def maze_steps(source: Source, config: DataConfig) -> Steps:
    """Settles which maze a dataset is evaluated on, what its steps mean, and which are kept.

    Raises:
        UserError: as ``set_up_maze``, or if the data are not laid out as a maze's observations.
    """
    evaluation = source.evaluation
    assert evaluation is not None
    episodes = _whole_entries(source.episodes, evaluation)
    check_entries(episodes, evaluation)
    if config.maze_goal == "auto":
        goal: Literal["eval", "stored"] = "eval" if source.rewarded_goal is None else "stored"
        config = dataclasses.replace(config, maze_goal=goal)
    if config.maze_goal == "stored":
        config = dataclasses.replace(config, maze_terminate_at_success=False)
    setup = set_up_maze(
        evaluation,
        source.collection or evaluation,
        positions=episodes.observations["achieved_goal"],
        observation_dim=episodes.observations["observation"].shape[1],
        goal=config.maze_goal,
        walls=config.maze_walls,
        rewarded_goal=source.rewarded_goal,
        radius=source.goal_radius,
    )
    # Files name the one goal that their rewards refer to, and nobody waits there.
    return maze_transitions(episodes, setup, config, own_goals=source.rewarded_goal is None)


def _whole_entries(episodes: Episodes, spec: EnvSpec) -> Episodes:
    """Returns episodes with all entries of a maze's observations, where wrappers took some away.

    A ball's position is a part of 'observation'; a goal that is not stored is NaN.
    """
    entries = dict(episodes.observations)
    if not episodes.is_dict and entries["observation"].shape[1] in _FLATTENED:
        parts = np.split(entries["observation"], [2, 4], axis=1)
        entries = dict(zip(sorted(MAZE_ENTRIES), parts, strict=True))
    if maze_kind(spec) == "point" and "observation" in entries:
        entries.setdefault("achieved_goal", entries["observation"][:, :2])
    if "achieved_goal" in entries:
        entries.setdefault("desired_goal", np.full_like(entries["achieved_goal"], np.nan))
    return dataclasses.replace(episodes, observations=entries)


def check_entries(episodes: Episodes, spec: EnvSpec) -> None:
    """Refuses data that are not laid out as the maze environments' observations."""
    if missing := MAZE_ENTRIES - set(episodes.observations):
        raise UserError(f"observations of {spec.id} lack {', '.join(sorted(missing))}")
    observation, achieved = (episodes.observations[key] for key in ("observation", "achieved_goal"))
    if maze_kind(spec) == "point" and not np.array_equal(observation[:, :2], achieved):
        raise UserError(f"'observation' of {spec.id} must begin with the position (achieved_goal)")


def maze_transitions(
    episodes: Episodes, setup: MazeSetup, config: DataConfig, *, own_goals: bool = True
) -> Steps:
    """Settles what the steps mean and which are kept; see the module's docstring.

    ``own_goals``: the goals in the data are those that the agent went to.
    """
    step_goals = episodes.observations["desired_goal"][episodes.next_rows]
    achieved = episodes.observations["achieved_goal"][episodes.next_rows]
    has_goals = not np.isnan(step_goals).any()
    if config.maze_goal == "episode" and not has_goals:
        raise UserError("the data do not hold their episodes' goals: set config.maze_goal='stored'")
    rewards, ends, notes = episodes.rewards, episodes.terminations, list(setup.notes)
    if config.maze_goal == "eval":
        target = np.asarray(setup.task.goal, dtype=np.float32)
        success = at_goal(achieved, target, setup.task.radius)
        rewards = success.astype(np.float32)
        if setup.dense:
            rewards = np.exp(-np.linalg.norm(achieved - target, axis=-1))
        if ends.any():
            notes.append(f"{int(ends.sum()):,} terminations at other goals are not ends here")
        ends = np.zeros_like(ends)
    elif has_goals or setup.dense:
        success = at_goal(achieved, step_goals, setup.task.radius)
    else:
        success = rewards > 0
    if config.maze_terminate_at_success:
        ends = ends | success
    notes.append(_arrivals_note(success, episodes, setup))
    waits = np.zeros_like(success)
    if own_goals and has_goals:
        waits = _starts_to_wait(achieved, step_goals)
    elif config.maze_drop == "waiting":
        notes.append("it does not tell where agents wait: maze_drop='waiting' leaves nothing out")
    keep = _kept(config.maze_drop, success, waits, episodes)
    kept = np.flatnonzero(keep)
    keys = _LAYOUT[setup.kind]
    rows = np.concatenate([episodes.observations[key] for key in keys], axis=1)
    seen = step_goals[kept] if config.maze_goal == "episode" else None
    return Steps(
        observations=_take(rows, episodes.rows[kept], seen),
        next_observations=_take(rows, episodes.next_rows[kept], seen),
        actions=episodes.actions[kept],
        rewards=rewards[kept].astype(np.float32),
        masks=(~ends[kept]).astype(np.float32),
        lengths=np.add.reduceat(keep, episodes.first_steps(), dtype=np.int64),
        observation_keys=(*keys, "desired_goal") if config.maze_goal == "episode" else keys,
        at_goal=success[kept],
        notes=tuple(notes),
        maze=setup.task,
        kwargs=setup.kwargs,
        choices={
            "maze_goal": config.maze_goal,
            "maze_terminate_at_success": config.maze_terminate_at_success,
            "maze_drop": config.maze_drop,
            "maze_walls": config.maze_walls,
            "maze_map": [list(row) for row in setup.task.map.cells],
            "positions_in_walls": setup.in_walls,
            "evaluation_goal": setup.task.goal and list(setup.task.goal),
            "goal_radius": setup.task.radius,
            "maze_reward": "dense" if setup.dense else "sparse",
        },
    )


def _arrivals_note(success: Bool, episodes: Episodes, setup: MazeSetup) -> str:
    """Counts the steps that end at the goal, and the episodes that have such."""
    if not success.any():
        nothing = "" if setup.dense else ": there is nothing to learn from"
        return f"no transition of the data ends at the goal{nothing}"
    arrived = int(np.logical_or.reduceat(success, episodes.first_steps()).sum())
    return (
        f"{int(success.sum()):,} steps, of {arrived:,} of {len(episodes.lengths):,} episodes, end "
        "at the goal"
    )


def _kept(drop: str, success: Bool, waits: Bool, episodes: Episodes) -> Bool:
    """Returns which steps ``drop`` leaves: those before which their episode has no last one."""
    if drop == "nothing":
        return np.ones_like(success)
    last = waits | success if drop == "after_success" else waits
    before: Int64 = np.cumsum(last) - last
    return before == np.repeat(before[episodes.first_steps()], episodes.lengths)


def _starts_to_wait(achieved: Float32, step_goals: Float32) -> Bool:
    """Returns where a step ends at the episode's own goal and the goal stays where it is.

    What follows only shows how to stand still. Minari's ants do so for most of their steps, while
    the points of its PointMaze get a new goal at once.
    """
    stays = np.zeros(len(step_goals), np.bool_)
    stays[:-1] = (step_goals[1:] == step_goals[:-1]).all(axis=1)
    return at_goal(achieved, step_goals) & stays


def _take(rows: Float32, index: Int64, goals: Float32 | None) -> Float32:
    """Returns rows by index, the goals appended: [n, d] or [n, d + 2], C-contiguous."""
    taken = np.take(rows, index, axis=0)
    return taken if goals is None else np.concatenate([taken, goals], axis=1)
