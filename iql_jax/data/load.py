"""A dataset as the algorithm takes it: transitions, and the record of how they came about."""

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.algorithm.types import NEEDS_NEXT_ACTIONS, Transitions
from iql_jax.data import cache, maze_data
from iql_jax.data.actions import LearnableActions, learnable_actions, next_actions
from iql_jax.data.episodes import FlatEpisodes, FloatArray, IntArray
from iql_jax.data.find import datasets_root
from iql_jax.data.maze_task import known_maze, maze_kind, set_up_maze
from iql_jax.data.metadata import read_metadata
from iql_jax.data.requirements import unmet_requirements
from iql_jax.data.rewards import REWARD_TRANSFORMS, RewardTransform
from iql_jax.data.scores import ScoreRule, score_caveats, score_rule
from iql_jax.data.steps import Steps
from iql_jax.data.top_episodes import keep_top
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.specs import check_namespace, parse_spec
from iql_jax.training.config import Config
from iql_jax.utils.console import logger
from iql_jax.utils.errors import NoEnvironment, UserError

DATA_KEYS = (
    "dataset",
    "top_episodes",
    "reward_transform",
    "normalize_observations",
    "maze_goal",
    "maze_terminate_at_success",
    "maze_drop",
    "maze_walls",
)
"""The keys of a config that say which transitions it learns from."""

_STD_OFFSET = 1e-3
"""Added to each standard deviation (as TD3+BC does). Components that vary less are only centred: a
goal that never changes in the data, but by a metre in the environment, would be a thousand off."""


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
    recipe: EnvironmentDescription | None
    reward_transform: RewardTransform
    score_rule: ScoreRule
    terminates: bool
    discrete_actions: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class _Normalization:
    """Observations minus ``mean``, divided by ``std``; both [observation_dim]."""

    mean: FloatArray
    std: FloatArray

    def __call__(self, observations: FloatArray) -> FloatArray:
        return (observations - self.mean) / self.std

    def as_json(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}


def load_dataset(config: Config, source: str = "") -> Dataset:
    """Load the dataset that a config names, as the config wants it.

    Deterministic: the same files and the same config give the same bits.

    Args:
        config: reads dataset, objective, top_episodes, reward_transform, normalize_observations,
            maze_*, trust_environment, eval_episodes and progress.
        source: the id of a dataset that is on this disk; the config's by default.

    Raises:
        UserError: if the dataset cannot be found or read, or if a choice does not fit it.
    """
    source = source or config.dataset
    path = datasets_root() / source
    metadata = read_metadata(path)
    spec, unreadable = _evaluation_spec(metadata)
    if unreadable is not None and config.eval_episodes > 0:
        raise NoEnvironment(str(unreadable))
    if spec is not None and config.eval_episodes > 0 and not config.trust_environment:
        check_namespace(spec)  # Before the data are read: it fails early or not at all.
    episodes, digest = cache.load_episodes(path, config.progress)
    if unreadable is not None and set(episodes.observations) >= maze_data.ENTRIES:
        raise unreadable  # It may be a maze's, and says then what the data mean.
    kind = None if spec is None else maze_kind(spec)
    if spec is None or kind is None:
        steps = _plain_steps(episodes, spec)
    else:
        steps = _maze_steps(episodes, metadata, spec, config)
    steps = keep_top(steps, config.top_episodes)
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
    rule = score_rule(source, metadata, is_maze=kind is not None)
    notes = [
        *_environment_notes(spec, unreadable),
        *steps.notes,
        *actions.notes,
        *unmet_requirements(metadata),
    ]
    if spec is not None:
        notes += score_caveats(rule, spec, metadata)
    for note in notes:
        logger.info(f"{source}: {note}")
    choices = {
        "observation_keys": list(steps.observation_keys),
        "reward_transform": {"name": config.reward_transform, **dataclasses.asdict(transform)},
        "normalization": None if normalization is None else normalization.as_json(),
        **actions.choices(),
        "score": dataclasses.asdict(rule),
        **steps.choices,
    }
    record = {
        "id": source,
        "fingerprint": digest,
        "transitions": transitions.size,
        "episodes": len(steps.lengths),
        "observation_dim": int(steps.observations.shape[1]),
        "action_dim": int(actions.values.shape[1]),
        "choices": choices,
        "collection": metadata.get("collection"),
        "notes": notes,
    }
    recipe = None
    if spec is not None:
        recipe = _recipe(config, metadata, steps, normalization, actions)
    # A maze's episodes end at success, and what that means is the config's choice, unless the
    # stored terminations, which imported data have at the goal, are kept.
    terminates = (
        kind is None or config.maze_terminate_at_success or not bool(transitions.masks.all())
    )
    discrete = actions.discrete is not None
    return Dataset(transitions, record, recipe, transform, rule, terminates, discrete)


def layout(source: str, maze_goal: str) -> Hashable:
    """What the shapes of transitions follow from: configs with equal layouts have equal shapes.

    Looks at the dataset's metadata alone.

    Args:
        source: the id of a dataset that is on this disk.
        maze_goal: the config's.

    Raises:
        UserError: if the dataset cannot be found or read.
    """
    metadata = read_metadata(datasets_root() / source)
    spaces = (metadata.get("observation_space"), metadata.get("action_space"))
    return *spaces, _evaluation_text(metadata) is None, maze_goal == "episode"


def _next_actions(config: Config, actions: FloatArray, lengths: IntArray) -> dict[str, FloatArray]:
    """The fields of transitions that hold next actions, where the objective asks for them."""
    if config.objective not in NEEDS_NEXT_ACTIONS:
        return {}
    return next_actions(actions, lengths)


def _evaluation_spec(metadata: dict[str, Any]) -> tuple[EnvSpec | None, UserError | None]:
    """The specification of the evaluation environment, where there is one, or why it has none."""
    text = _evaluation_text(metadata)
    try:
        return None if text is None else parse_spec(text), None
    except UserError as error:
        return None, error


def _evaluation_text(metadata: dict[str, Any]) -> str | None:
    return metadata.get("eval_env_spec") or metadata.get("env_spec")


def _environment_notes(spec: EnvSpec | None, unreadable: UserError | None) -> list[str]:
    if spec is not None:
        return []
    return [f"{unreadable or 'it names no environment'}: nothing can be evaluated"]


def _plain_steps(episodes: FlatEpisodes, spec: EnvSpec | None) -> Steps:
    """Every transition as stored; the mask is 0 at terminations alone.

    Entries of a Dict observation are concatenated in their order, but for FrankaKitchen's: its
    goals are constant and its achieved goals a part of 'observation'.
    """
    keys = tuple(episodes.observations)
    if spec is not None and "franka_kitchen" in str(spec.entry_point):
        keys = ("observation",)
    rows = np.concatenate([episodes.observations[key] for key in keys], axis=1)
    row = episodes.step_index()
    return Steps(
        observations=np.take(rows, row, axis=0),
        next_observations=np.take(rows, row + 1, axis=0),
        actions=episodes.actions,
        rewards=episodes.rewards,
        masks=(~episodes.terminations).astype(np.float32),
        lengths=episodes.lengths,
        observation_keys=keys if episodes.is_dict else (),
    )


def _maze_steps(
    episodes: FlatEpisodes, metadata: dict[str, Any], evaluation: EnvSpec, config: Config
) -> Steps:
    """Transitions of a maze dataset, with the config's semantics."""
    maze_data.check_maze_entries(episodes, evaluation)
    entries = episodes.observations
    setup = set_up_maze(
        evaluation,
        known_maze(metadata.get("env_spec")) or evaluation,
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
        drop=config.maze_drop,
        own_goals=metadata.get("rewarded_goal") is None,
    )
    choices = {
        "maze_goal": config.maze_goal,
        "maze_terminate_at_success": config.maze_terminate_at_success,
        "maze_drop": config.maze_drop,
        "maze_walls": config.maze_walls,
        "maze_map": [list(row) for row in setup.task.map.cells],
        "positions_in_walls": setup.in_walls,
        "evaluation_goal": setup.task.goal and list(setup.task.goal),
        "maze_reward": "dense" if setup.dense else "sparse",
    }
    return dataclasses.replace(
        found,
        notes=(*setup.notes, *found.notes),
        maze=setup.task,
        kwargs=setup.kwargs,
        choices=choices,
    )


def _normalization(observations: FloatArray) -> _Normalization:
    """Mean 0 and standard deviation 1 over the observations of all transitions."""
    mean = observations.mean(axis=0, dtype=np.float64)
    spread = observations.std(axis=0, dtype=np.float64)
    std = np.where(spread > _STD_OFFSET, spread + _STD_OFFSET, 1.0)
    return _Normalization(mean.astype(np.float32), std.astype(np.float32))


def _recipe(
    config: Config,
    metadata: dict[str, Any],
    steps: Steps,
    normalization: _Normalization | None,
    actions: LearnableActions,
) -> EnvironmentDescription:
    low, high = actions.bounds or (None, None)
    return EnvironmentDescription(
        spec=str(_evaluation_text(metadata)),
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
