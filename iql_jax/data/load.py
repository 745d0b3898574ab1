"""A dataset as the algorithm takes it: transitions, and the record of how they came about."""

import dataclasses
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.collect.catalog import EMBEDDED
from iql_jax.config import Config
from iql_jax.console import say
from iql_jax.data import cache, maze_data
from iql_jax.data.actions import LearnableActions, learnable_actions, next_actions
from iql_jax.data.episodes import BoolArray, FlatEpisodes, FloatArray, IntArray, read_metadata
from iql_jax.data.maze_task import maze_kind, set_up_maze
from iql_jax.data.requirements import unmet_requirements
from iql_jax.data.resolve import resolve
from iql_jax.data.rewards import REWARD_TRANSFORMS, RewardTransform
from iql_jax.data.scores import ScoreRule, score_caveats, score_rule
from iql_jax.data.top_episodes import episode_returns, top_episodes, transitions_of
from iql_jax.environment_specs import check_namespace, parse_spec
from iql_jax.environments import EnvironmentRecipe, MazeTask
from iql_jax.types import Transitions

_STD_OFFSET = 1e-3
"""Added to each standard deviation, so that constant components stay finite (as TD3+BC does)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset ready for training.

    Attributes:
        transitions: NumPy arrays, float32 and C-contiguous.
        record: what was loaded, and every choice made on the way; JSON-able.
        recipe: how to build the evaluation environment; None where the dataset names none.
        reward_transform: what the rewards went through; apply it to new rewards as well.
        score_rule: how evaluation episodes are scored.
        terminates: whether a termination in the environment ends the bootstrap, as in the data.
        discrete_actions: whether the actions are choices, as one-hot vectors.
    """

    transitions: Transitions
    record: dict[str, Any]
    recipe: EnvironmentRecipe | None
    reward_transform: RewardTransform
    score_rule: ScoreRule
    terminates: bool
    discrete_actions: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class _Steps:
    """Transitions with their meaning settled; actions, rewards and observations still raw."""

    observations: FloatArray  # [n, observation_dim]
    next_observations: FloatArray  # [n, observation_dim]
    actions: FloatArray  # [n, action_dim]
    rewards: FloatArray  # [n]
    masks: FloatArray  # [n]
    lengths: IntArray  # [E]
    observation_keys: tuple[str, ...]  # Of a Dict observation; empty for a Box.
    notes: tuple[str, ...]
    at_goal: BoolArray | None = None  # [n], in a maze: whether the transition ends at the goal.
    maze: MazeTask | None = None
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)  # Of the environment.
    choices: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class _Normalization:
    """Observations minus ``mean``, divided by ``std``; both [observation_dim]."""

    mean: FloatArray
    std: FloatArray

    def __call__(self, observations: FloatArray) -> FloatArray:
        return (observations - self.mean) / self.std

    def as_json(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}


def load_dataset(config: Config) -> Dataset:
    """Load the dataset that a config names, as the config wants it.

    Deterministic: the same files and the same config give the same bits.

    Args:
        config: reads dataset, objective, top_episodes, reward_transform, normalize_observations,
            maze_*, trust_environment, eval_episodes and progress.

    Raises:
        UserError: if the dataset cannot be found or read, or if a choice does not fit it.
    """
    resolved = resolve(config.dataset, config.progress)
    metadata = read_metadata(resolved.path)
    spec = _spec(metadata, "eval_env_spec", "env_spec")
    if spec is not None and config.eval_episodes > 0 and not config.trust_environment:
        check_namespace(spec)  # Before the data are read: it fails early or not at all.
    episodes, digest = cache.load_episodes(resolved.path, config.progress)
    kind = None if spec is None else maze_kind(spec)
    if spec is None or kind is None:
        steps = _plain_steps(episodes, spec)
    else:
        steps = _maze_steps(episodes, metadata, spec, config)
    steps = _keep_top(steps, config.top_episodes)
    actions = learnable_actions(steps.actions, metadata)
    transform = REWARD_TRANSFORMS[config.reward_transform](steps.rewards, steps.lengths)
    normalization = _normalization(steps.observations) if config.normalize_observations else None
    transitions = Transitions(
        observations=normalization(steps.observations) if normalization else steps.observations,
        actions=actions.values,
        rewards=transform(steps.rewards),
        masks=steps.masks,
        next_observations=(
            normalization(steps.next_observations) if normalization else steps.next_observations
        ),
        **_next_actions(config, actions.values, steps.lengths),
    )
    rule = score_rule(resolved.id, metadata, is_maze=kind is not None)
    notes = [
        *_size_notes(resolved.id, episodes),
        *steps.notes,
        *actions.notes,
        *unmet_requirements(metadata),
    ]
    if spec is not None:
        notes += score_caveats(rule, spec)
    if resolved.id != resolved.requested_id:
        notes.insert(0, f"it stands in for {resolved.requested_id}: like it in kind, other data")
    for note in notes:
        say(f"{resolved.id}: {note}")
    choices = {
        "observation_keys": list(steps.observation_keys),
        "reward_transform": {"name": config.reward_transform, **dataclasses.asdict(transform)},
        "normalization": None if normalization is None else normalization.as_json(),
        **actions.choices(),
        "score": dataclasses.asdict(rule),
        **steps.choices,
    }
    record = {
        "id": resolved.id,
        "requested_id": resolved.requested_id,
        "source": resolved.source,
        "fingerprint": digest,
        "transitions": transitions.size,
        "episodes": len(steps.lengths),
        "observation_dim": int(steps.observations.shape[1]),
        "action_dim": int(actions.values.shape[1]),
        "choices": choices,
        "notes": notes,
    }
    recipe = None
    if spec is not None:
        recipe = _recipe(config, metadata, steps, normalization, actions)
    # A maze's episodes end at success, and what that means is the config's choice.
    terminates = kind is None or config.maze_terminate_at_success
    discrete = actions.discrete is not None
    return Dataset(transitions, record, recipe, transform, rule, terminates, discrete)


def _next_actions(config: Config, actions: FloatArray, lengths: IntArray) -> dict[str, FloatArray]:
    """The fields of transitions that hold next actions, where the objective asks for them."""
    if config.objective not in ("sarsa", "expectile_sarsa"):
        return {}
    return next_actions(actions, lengths)


def _spec(metadata: dict[str, Any], *keys: str) -> EnvSpec | None:
    """The first environment specification that the metadata hold under these keys."""
    text = _first(metadata, keys)
    return None if text is None else parse_spec(text)


def _first(metadata: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((metadata[key] for key in keys if metadata.get(key)), None)


def _plain_steps(episodes: FlatEpisodes, spec: EnvSpec | None) -> _Steps:
    """Every transition as stored; the mask is 0 at terminations alone.

    Entries of a Dict observation are concatenated in their order, but for FrankaKitchen's: its
    goals are constant and its achieved goals a part of 'observation'.
    """
    keys = tuple(episodes.observations)
    if spec is not None and "franka_kitchen" in str(spec.entry_point):
        keys = ("observation",)
    rows = np.concatenate([episodes.observations[key] for key in keys], axis=1)
    notes = () if spec else ("it names no environment: nothing can be evaluated",)
    row = episodes.step_index()
    return _Steps(
        observations=np.take(rows, row, axis=0),
        next_observations=np.take(rows, row + 1, axis=0),
        actions=episodes.actions,
        rewards=episodes.rewards,
        masks=(~episodes.terminations).astype(np.float32),
        lengths=episodes.lengths,
        observation_keys=keys if episodes.is_dict else (),
        notes=notes,
    )


def _maze_steps(
    episodes: FlatEpisodes, metadata: dict[str, Any], evaluation: EnvSpec, config: Config
) -> _Steps:
    """Transitions of a maze dataset, with the config's semantics."""
    maze_data.check_maze_entries(episodes, evaluation)
    entries = episodes.observations
    setup = set_up_maze(
        evaluation,
        _spec(metadata, "env_spec") or evaluation,
        positions=entries["achieved_goal"],
        observation_dim=entries["observation"].shape[1],
        goal=config.maze_goal,
        walls=config.maze_walls,
        rewarded_goal=metadata.get("rewarded_goal"),
    )
    found = maze_data.maze_transitions(
        episodes,
        setup,
        goal=config.maze_goal,
        terminate_at_success=config.maze_terminate_at_success,
        drop_after_success=config.maze_drop_after_success,
    )
    choices = {
        "maze_goal": config.maze_goal,
        "maze_terminate_at_success": config.maze_terminate_at_success,
        "maze_drop_after_success": config.maze_drop_after_success,
        "maze_walls": config.maze_walls,
        "maze_map": [list(row) for row in setup.task.map.cells],
        "positions_in_walls": setup.in_walls,
        "evaluation_goal": setup.task.goal and list(setup.task.goal),
        "maze_reward": "dense" if setup.dense else "sparse",
    }
    return _Steps(
        observations=found.observations,
        next_observations=found.next_observations,
        actions=episodes.actions[found.kept],
        rewards=found.rewards,
        masks=found.masks,
        lengths=found.lengths,
        observation_keys=found.observation_keys,
        notes=(*setup.notes, *found.notes),
        at_goal=found.at_goal,
        maze=setup.task,
        kwargs=setup.kwargs,
        choices=choices,
    )


def _keep_top(steps: _Steps, share: float) -> _Steps:
    """The episodes of the highest return alone; what is kept goes on record."""
    returns = episode_returns(steps.rewards, steps.lengths)
    best = top_episodes(returns, share)
    lowest = float(returns[best].min())
    notes = steps.notes
    if len(best) < len(returns):
        row = transitions_of(best, steps.lengths)
        fields = ("observations", "next_observations", "actions", "rewards", "masks", "at_goal")
        arrays = {name: getattr(steps, name) for name in fields}
        kept = {name: array[row] for name, array in arrays.items() if array is not None}
        steps = dataclasses.replace(steps, lengths=steps.lengths[best], **kept)
        share_kept = f"{len(best):,} of {len(returns):,} episodes"
        notes = (*notes, f"the best {share_kept} are kept, with a return of {lowest:g} or more")
    record = {"share": share, "episodes": len(best), "lowest_return": lowest}
    choices: dict[str, Any] = {**steps.choices, "top_episodes": record}
    if steps.at_goal is not None:
        choices["transitions_at_goal"] = int(steps.at_goal.sum())
    return dataclasses.replace(steps, notes=notes, choices=choices)


def _normalization(observations: FloatArray) -> _Normalization:
    """Mean 0 and standard deviation 1 over the observations of all transitions."""
    mean = observations.mean(axis=0, dtype=np.float64)
    std = observations.std(axis=0, dtype=np.float64) + _STD_OFFSET
    return _Normalization(mean.astype(np.float32), std.astype(np.float32))


def _recipe(
    config: Config,
    metadata: dict[str, Any],
    steps: _Steps,
    normalization: _Normalization | None,
    actions: LearnableActions,
) -> EnvironmentRecipe:
    low, high = actions.bounds or (None, None)
    return EnvironmentRecipe(
        spec=str(_first(metadata, ("eval_env_spec", "env_spec"))),
        kwargs=steps.kwargs,
        observation_keys=steps.observation_keys,
        observation_mean=None if normalization is None else normalization.mean,
        observation_std=None if normalization is None else normalization.std,
        maze=steps.maze,
        trusted=config.trust_environment,
        observation_dim=int(steps.observations.shape[1]),
        action_dim=int(actions.values.shape[1]),
        action_low=low,
        action_high=high,
        discrete_start=None if actions.discrete is None else actions.discrete.start,
        requirements=tuple(metadata.get("requirements") or ()),
    )


def _size_notes(dataset_id: str, episodes: FlatEpisodes) -> list[str]:
    """An embedded dataset keeps its id when it is made smaller, for a test: no run may miss it."""
    full = EMBEDDED[dataset_id].steps if dataset_id in EMBEDDED else None
    if full in (None, episodes.num_transitions):
        return []
    return [f"made with {episodes.num_transitions:,} transitions instead of {full:,}"]
