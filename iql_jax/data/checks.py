"""What can be wrong with a dataset, looked for one thing at a time."""

import functools
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from iql_jax.data.environment_checks import check_environments, check_versions
from iql_jax.data.episodes import FlatEpisodes, FloatArray, IntArray, read_episodes
from iql_jax.data.findings import Finding, Level
from iql_jax.data.maze_task import choose_map, is_dense, known_maze, maze_map
from iql_jax.data.metadata import DiscreteActions, action_space, read_metadata
from iql_jax.data.rewards import episode_returns
from iql_jax.envs.mazes import MazeMap, at_goal
from iql_jax.utils.errors import UserError

_BOUND_TOLERANCE = 1e-5  # Of float32 actions at the bounds.
_SHOWN_VALUES = 8


def check_dataset(
    path: pathlib.Path, progress: bool = True, trusted: bool = False
) -> list[Finding]:
    """Check everything about a local dataset.

    Args:
        path: the dataset's folder, which holds ``data/``.
        progress: whether to show a progress bar while reading.
        trusted: whether environments from unknown namespaces may be imported.

    Raises:
        UserError: if the metadata cannot be read; whatever else is wrong is a finding.
    """
    metadata = read_metadata(path)
    try:
        episodes = read_episodes(path, progress)
    except UserError as error:
        findings = [Finding("defect", "structure", str(error))]
    else:
        findings = check_data(episodes, metadata)
    return [*findings, *check_environments(metadata, trusted), *check_versions(metadata)]


def check_data(episodes: FlatEpisodes, metadata: dict[str, Any]) -> list[Finding]:
    """Check what the episodes hold.

    Args:
        episodes: the data; reading them has found the lengths consistent and the values finite.
        metadata: the dataset's.
    """
    findings = [
        check_structure(episodes, metadata),
        check_actions(episodes, metadata),
        *check_endings(episodes, metadata),
    ]
    collection, evaluation = (_maze(metadata, key) for key in ("env_spec", "eval_env_spec"))
    spec = collection or evaluation
    if spec is None or not {"achieved_goal", "desired_goal"} <= set(episodes.observations):
        rewards = check_rewards(episodes, "cloning" if "ogbench" in metadata else None)
        return [*findings, rewards, check_jumps(episodes), check_references(metadata)]
    evaluation, maze = evaluation or spec, maze_map(spec)
    return [
        *findings,
        check_rewards(episodes, "rewards recomputed for a goal, the default"),
        check_maze_jumps(episodes, maze),
        check_goals(episodes),
        check_success(episodes),
        *check_evaluation(episodes, maze_map(evaluation), maze, dense=is_dense(evaluation)),
        check_references(metadata),
    ]


def check_structure(episodes: FlatEpisodes, metadata: dict[str, Any]) -> Finding:
    """Compare the number of transitions with the metadata's, and describe the episodes."""
    promised = metadata.get("total_steps", episodes.num_transitions)
    if promised != episodes.num_transitions:
        text = f"the metadata promise {promised} transitions, there are {episodes.num_transitions}"
        return Finding("defect", "structure", text)
    lengths = episodes.lengths
    entries = ", ".join(f"{key} [{a.shape[1]}]" for key, a in sorted(episodes.observations.items()))
    return Finding(
        "ok",
        "structure",
        f"{episodes.num_transitions:,} transitions in {episodes.num_episodes:,} episodes of "
        f"{lengths.min()} to {lengths.max()} steps (mean {lengths.mean():.1f}), each with one "
        f"observation more than steps; all values finite; observations: {entries}",
    )


def check_actions(episodes: FlatEpisodes, metadata: dict[str, Any]) -> Finding:
    """Compare the actions with the bounds of their space."""
    actions = episodes.actions
    space = action_space(metadata)
    if isinstance(space, DiscreteActions):
        return _check_discrete(actions, space)
    low, high = (np.float32(-1), np.float32(1)) if space is None else (space.low, space.high)
    span = f"[{actions.min():.4g}, {actions.max():.4g}]"
    outside = (actions < low - _BOUND_TOLERANCE) | (actions > high + _BOUND_TOLERANCE)
    if outside.any():
        share = 100 * outside.any(axis=1).mean()
        text = f"{share:.2g} % of the actions lie outside their space; they span {span}"
        return Finding("defect", "actions", text)
    at_bounds = 100 * ((actions <= low) | (actions >= high)).mean()
    text = f"[{actions.shape[1]}], in {span}, {at_bounds:.2g} % of the components at a bound"
    return Finding("ok", "actions", text)


def _check_discrete(actions: FloatArray, space: DiscreteActions) -> Finding:
    choices, counts = np.unique(actions.astype(np.int64), return_counts=True)
    shown = ", ".join(f"{c}: {n:,}" for c, n in zip(choices, counts, strict=True))
    last = space.start + space.n - 1
    if choices[0] < space.start or choices[-1] > last:
        text = f"some lie outside the integers from {space.start} to {last}; there are {shown}"
        return Finding("defect", "actions", text)
    return Finding("ok", "actions", f"integers from {space.start} to {last}; {shown}")


def check_endings(episodes: FlatEpisodes, metadata: dict[str, Any]) -> list[Finding]:
    """Count how episodes end, and look for ends in the middle, which are mistakes.

    But imported data may have terminations there, at steps that end at the goal: the bootstrap
    ends, and the episode goes on.
    """
    last = np.cumsum(episodes.lengths) - 1
    imported = "d4rl" in metadata or "ogbench" in metadata
    flags = {"terminations": episodes.terminations, "truncations": episodes.truncations}
    findings = []
    for name, flag in flags.items():
        inside = int(flag.sum() - flag[last].sum())
        if inside:
            text = f"{inside} {name} before the last step of an episode"
            level: Level = "note" if imported and name == "terminations" else "defect"
            findings.append(Finding(level, "endings", text))
    terminated, truncated = episodes.terminations[last], episodes.truncations[last]
    neither = int((~terminated & ~truncated).sum())
    text = f"{terminated.sum():,} episodes end by termination, {truncated.sum():,} by truncation"
    if neither:
        findings.append(Finding("note", "endings", f"{text}, {neither:,} without either"))
    else:
        findings.append(Finding("ok", "endings", text))
    return findings


def check_rewards(episodes: FlatEpisodes, use: str | None = None) -> Finding:
    """Describe the distribution of rewards and returns.

    Args:
        episodes: the data.
        use: what these data are good for without rewards that teach anything, if for anything.
    """
    returns = episode_returns(episodes.rewards, episodes.lengths)
    values, counts = np.unique(episodes.rewards, return_counts=True)
    # Where episodes terminate, a return counts their steps.
    if len(values) == 1 and (values[0] == 0 or not episodes.terminations.any()):
        text = f"every reward is {values[0]:g}: nothing to learn from"
        if use is None:
            return Finding("defect", "rewards", text)
        return Finding("note", "rewards", f"{text}; enough for {use}")
    if len(values) <= _SHOWN_VALUES:
        shown = ", ".join(f"{v:g}: {n:,}" for v, n in zip(values, counts, strict=True))
    else:
        deciles = np.quantile(episodes.rewards, np.linspace(0, 1, 11))
        shown = "deciles " + " ".join(f"{decile:.4g}" for decile in deciles)
    span = f"{returns.min():.4g} to {returns.max():.4g} (mean {returns.mean():.4g})"
    return Finding("ok", "rewards", f"{shown}; returns of episodes {span}")


def check_jumps(episodes: FlatEpisodes) -> Finding:
    """Look for steps that change the observation as much as a reset: episodes glued together.

    Only a hint, since hits and throws change velocities as suddenly.
    """
    rows = np.concatenate([array for _, array in sorted(episodes.observations.items())], axis=1)
    scale = rows.std(axis=0, dtype=np.float64).astype(np.float32) + 1e-6
    changes = np.sqrt(np.mean(((rows[1:] - rows[:-1]) / scale) ** 2, axis=1))
    within = episodes.step_index()
    resets = np.delete(changes, within)  # From each episode's last row to the next one's first.
    if not len(resets):
        return Finding("ok", "jumps", "not looked for in a single episode")
    bound = float(np.median(resets))
    count = int((changes[within] > bound).sum())
    if not count:
        return Finding("ok", "jumps", "no step changes the observation as much as a reset")
    if changes[within].max() > 10 * np.median(changes[within]):
        at = _place(episodes, int(np.argmax(changes[within])))
        text = f"{count} steps change the observation more than a reset does; most of all {at}"
        return Finding("note", "jumps", text)
    text = f"{count} steps change the observation more than a reset does, none much more than most"
    return Finding("ok", "jumps", text)


def check_maze_jumps(episodes: FlatEpisodes, maze: MazeMap) -> Finding:
    """Look for steps that move the agent further than it can: episodes glued together."""
    position = episodes.observations["achieved_goal"]
    row = episodes.step_index()
    distance = np.linalg.norm(position[row + 1] - position[row], axis=1)
    limit = 0.5 * maze.scaling
    count = int((distance > limit).sum())
    if count:
        at = _place(episodes, int(np.argmax(distance)))
        text = (
            f"{count} steps move further than {limit:g} m; the furthest {distance.max():.2f} m {at}"
        )
        return Finding("defect", "jumps", text)
    text = f"steps move {distance.mean():.3f} m on average, {distance.max():.3f} m at most"
    return Finding("ok", "jumps", text)


def check_goals(episodes: FlatEpisodes) -> Finding:
    """Look for goals that change within an episode, above all after its first observation."""
    goals = episodes.observations["desired_goal"]
    row, first = episodes.step_index(), episodes.first_steps()
    changed = (goals[row + 1] != goals[row]).any(axis=1)
    at_first = int(changed[first].sum())
    if at_first:
        return Finding(
            "defect",
            "goals",
            f"{at_first:,} of {episodes.num_episodes:,} episodes store another goal with their "
            "first observation than with the second (known from D4RL/pointmaze/*-v2, Minari issue "
            "265); maze_goal='episode' takes the goal from each step's next observation instead",
        )
    if changed.any():
        text = f"{int(changed.sum()):,} steps change the goal within an episode"
        return Finding("note", "goals", text)
    distinct = len(np.unique(goals[row[first]], axis=0))
    return Finding("ok", "goals", f"one goal an episode throughout, {distinct:,} different ones")


def check_success(episodes: FlatEpisodes) -> Finding:
    """Look for arrivals at the goals that the data themselves name."""
    goals = episodes.observations["desired_goal"]
    arrived = _arrivals(episodes, goals[episodes.step_index() + 1])
    if not arrived.any():
        return Finding("defect", "success", "no episode ever reaches its goal")
    share = 100 * np.logical_or.reduceat(arrived, episodes.first_steps()).mean()
    text = f"{share:.1f} % of the episodes reach their goal, {int(arrived.sum()):,} steps end there"
    return Finding("ok", "success", text)


def check_evaluation(
    episodes: FlatEpisodes, evaluation: MazeMap, collection: MazeMap, *, dense: bool
) -> list[Finding]:
    """Look for positions in walls of the evaluation maze, and for arrivals at its goal.

    Where the data lie in its walls, the goal is that of the maze which loading takes instead.
    """
    goal = functools.partial(check_evaluation_goal, episodes, dense=dense)
    positions = episodes.observations["achieved_goal"]
    try:
        chosen, notes = choose_map(evaluation, collection, positions)
    except UserError as error:
        return [Finding("defect", "walls", str(error)), goal(evaluation)]
    level: Level = "note" if notes else "ok"
    if chosen is not evaluation:  # Known from Minari's antmaze umaze, whose walls are mirrored.
        level = "defect"
    text = "; ".join(notes) or "every position is free space in the evaluation maze"
    return [Finding(level, "walls", text), goal(chosen)]


def check_evaluation_goal(episodes: FlatEpisodes, evaluation: MazeMap, *, dense: bool) -> Finding:
    """Look for arrivals at the evaluation goal, which relabelled rewards refer to.

    Where rewards are ``dense``, the distance to it teaches as well.
    """
    goals = evaluation.cell_to_xy(evaluation.marked("g"))
    if len(goals) != 1:
        text = f"the evaluation maze marks {len(goals)} goals: maze_goal='eval' does not apply"
        return Finding("note", "evaluation goal", text)
    arrived = _arrivals(episodes, goals.astype(np.float32))
    at = f"({goals[0, 0]:g}, {goals[0, 1]:g})"
    if not arrived.any():
        text = f"no step ends at the evaluation goal {at}"
        if dense:
            return Finding("note", "evaluation goal", text)
        text += ": nothing to learn from with maze_goal='eval'"
        return Finding("defect", "evaluation goal", text)
    episodes_there = int(np.logical_or.reduceat(arrived, episodes.first_steps()).sum())
    text = f"{int(arrived.sum()):,} steps of {episodes_there:,} episodes end at {at}"
    return Finding("ok", "evaluation goal", text)


def check_references(metadata: dict[str, Any]) -> Finding:
    """Look for the reference scores that normalised scores need."""
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is None or high is None:
        return Finding("note", "references", "no reference scores in the metadata")
    if not high > low:
        text = f"the reference scores do not rise: {low} (random), {high} (expert)"
        return Finding("defect", "references", text)
    return Finding("ok", "references", f"random {low:g}, expert {high:g}")


def _arrivals(episodes: FlatEpisodes, goals: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which steps end within the goal's radius, [N]; goals are [N, 2] or [1, 2]."""
    position = episodes.observations["achieved_goal"][episodes.step_index() + 1]
    return at_goal(position, goals)


def _maze(metadata: dict[str, Any], key: str) -> EnvSpec | None:
    """A maze environment named in the metadata; None if it is none, or not readable."""
    try:
        spec = known_maze(metadata.get(key))
        if spec is not None:
            maze_map(spec)
    except UserError:  # The check of the environments reports it.
        return None
    return spec


def _place(episodes: FlatEpisodes, transition: int) -> str:
    first: IntArray = episodes.first_steps()
    episode = int(np.searchsorted(first, transition, side="right")) - 1
    return f"in episode {episode} at step {transition - first[episode]}"
