"""A dataset as the algorithm takes it: arrays of transitions, and how they came about."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.data.actions import LearnableActions, learnable_actions, next_action_fields
from iql_jax.data.config import DataConfig
from iql_jax.data.episodes import Source, Steps
from iql_jax.data.file_arrays import open_arrays
from iql_jax.data.find import datasets_root, is_file, is_local
from iql_jax.data.maze_steps import maze_steps
from iql_jax.data.maze_task import maze_kind
from iql_jax.data.metadata import read_metadata
from iql_jax.data.read_d4rl import read_d4rl, read_memory
from iql_jax.data.read_minari import read_minari
from iql_jax.data.read_ogbench import read_ogbench
from iql_jax.data.rewards import RewardTransform, reward_transform
from iql_jax.data.scores import ScoreRule
from iql_jax.data.top_episodes import keep_top
from iql_jax.envs.description import EnvironmentDescription, Layout, to_json
from iql_jax.envs.specs import check_spec, parse_spec
from iql_jax.utils.arrays import Float32
from iql_jax.utils.console import logger
from iql_jax.utils.errors import NoEnvironment, UserError
from iql_jax.utils.files import reading

Arrays = Mapping[str, npt.ArrayLike]

_STD_OFFSET = 1e-3
"""Added to each standard deviation (as TD3+BC does). Components that vary less are only centered: a
goal that never changes in the data, but by a meter in the environment, would be a thousand off."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset ready for training."""

    transitions: dict[str, Float32]  # By the names of the fields of ``Transitions``, C-contiguous.
    record: dict[str, Any]  # Its content, and every choice made on the way; JSON-able.
    layout: Layout  # An ``EnvironmentDescription`` where there is an evaluation environment.
    reward_transform: RewardTransform  # Apply it to new rewards as well.
    score_rule: ScoreRule
    terminates: bool  # A termination in the environment ends the bootstrap, as in the data.
    no_environment: str = ""  # Why there is no evaluation environment.
    may_lack_environment: bool = False  # A run without one trains, unevaluated.

    @property
    def size(self) -> int:
        """The number of transitions."""
        return len(self.transitions["rewards"])

    @property
    def environment(self) -> EnvironmentDescription | None:
        """The environment of the evaluation."""
        return self.layout if isinstance(self.layout, EnvironmentDescription) else None

    def require_environment(self) -> EnvironmentDescription:
        """Returns ``environment``, or raises ``NoEnvironment`` (untrusted: a subclass of it)."""
        if self.environment is None:
            raise NoEnvironment(f"{self.record['id']}: {self.no_environment}")
        check_spec(parse_spec(self.environment.spec), self.environment.trusted)
        return self.environment


def load_dataset(
    config: DataConfig,
    source: str | Arrays,
    *,
    next_actions: bool = False,
    trusted: bool = False,
    progress: bool = True,
) -> Dataset:
    """Loads a dataset that is on this disk, and logs notes on it.

    Deterministic: the same files and the same config give the same bits.

    ``config.dataset`` is not looked at: ``source`` is a Minari id, the path of a file, or arrays as
    ``read_memory`` takes them.
    ``next_actions`` adds the action that follows each transition (for SARSA); ``trusted`` allows
    environments from namespaces that are not known to be safe.

    Raises:
        UserError: if the dataset cannot be read, or if a choice does not fit it.
    """
    found = read_source(config, source, progress)
    is_maze = found.evaluation is not None and maze_kind(found.evaluation) is not None
    steps = maze_steps(found, config) if is_maze else _plain_steps(found)
    steps = keep_top(steps, config.top_episodes)
    actions = learnable_actions(steps.actions, found.action_space, found.name)
    transform, notes = reward_transform(config.reward_transform, steps.rewards, steps.lengths)
    mean, std = _moments(steps.observations) if config.normalize_observations else (None, None)
    layout = _layout(found, steps, actions, (mean, std), trusted)
    rule = ScoreRule("success" if is_maze else "none")
    if found.references is not None and not is_maze:
        rule = ScoreRule("normalized", *found.references)
    transitions = {
        "observations": layout.normalized(steps.observations),
        "actions": actions.values,
        "rewards": transform(steps.rewards),
        "masks": steps.masks,
        "next_observations": layout.normalized(steps.next_observations),
    }
    if next_actions:
        transitions |= next_action_fields(actions.values, steps.lengths)
    notes = [*found.notes, *steps.notes, *actions.notes, *notes]
    if found.evaluation is None:
        notes.insert(0, f"{found.no_environment}: nothing can be evaluated")
    for note in notes:
        logger.info(f"{found.name}: {note}")
    choices = {
        "observation_keys": list(steps.observation_keys),
        "reward_transform": {"name": config.reward_transform, **dataclasses.asdict(transform)},
        "normalization": None
        if mean is None or std is None
        else {"mean": mean.tolist(), "std": std.tolist()},
        **actions.choices(),
        "score": dataclasses.asdict(rule),
        **steps.choices,
    }
    record = {
        "id": found.name,
        "fingerprint": found.episodes.fingerprint(),
        "transitions": len(steps.rewards),
        "episodes": len(steps.lengths),
        "choices": choices,
        "layout": to_json(layout),
        **found.about,
        "notes": notes,
    }
    return Dataset(
        transitions=transitions,
        record=record,
        layout=layout,
        reward_transform=transform,
        score_rule=rule,
        # A maze's episodes end at success, and what that means is the config's choice, unless the
        # stored terminations, which D4RL's files have at the goal, are kept.
        terminates=bool(steps.choices.get("maze_terminate_at_success", True))
        or not bool(steps.masks.all()),
        no_environment="" if found.evaluation else found.no_environment,
        may_lack_environment=not isinstance(source, str) or is_file(source),
    )


def read_source(config: DataConfig, source: str | Arrays, progress: bool = True) -> Source:
    """Reads a Minari dataset that is on this disk, a file, or arrays."""
    if not isinstance(source, str):
        return read_memory(source, config)
    if is_file(source):
        read = read_ogbench if source.lower().endswith(".npz") else read_d4rl
        return read(pathlib.Path(source).expanduser(), config)
    root = datasets_root()
    if not is_local(source):
        raise UserError(
            f"dataset {source!r} is not in {root}; python -m iql_jax.datasets list names those "
            "that are, and those that can be generated"
        )
    return read_minari(root / source, progress)


def layout(config: DataConfig, source: str) -> Hashable:
    """Returns what the shapes of transitions follow from, by the dataset's metadata alone."""
    sees_goal = config.maze_goal == "episode"
    if is_file(source):
        return _file_widths(source), sees_goal
    metadata = read_metadata(datasets_root() / source)
    is_known = bool(metadata.get("eval_env_spec") or metadata.get("env_spec"))
    return metadata.get("observation_space"), metadata.get("action_space"), is_known, sees_goal


def _file_widths(source: str) -> tuple[int, ...]:
    """Returns how many numbers a file's observations and actions have."""
    path = pathlib.Path(source).expanduser()
    with contextlib.suppress(UserError), reading(path, ""), open_arrays(path) as file:
        return tuple(file[key].shape[1] for key in ("observations", "actions"))
    return ()  # Loading reports what is wrong.


def _plain_steps(source: Source) -> Steps:
    """Takes every transition as stored; the mask is 0 at terminations alone.

    Entries of a Dict observation are concatenated in their order, but for FrankaKitchen's: its
    goals are constant and its achieved goals a part of 'observation'.
    """
    episodes, spec = source.episodes, source.evaluation
    keys = tuple(episodes.observations)
    if spec is not None and "franka_kitchen" in str(spec.entry_point):
        keys = ("observation",)
    entries = [episodes.observations[key] for key in keys]
    rows = entries[0] if len(entries) == 1 else np.concatenate(entries, axis=1)
    return Steps(
        observations=np.take(rows, episodes.rows, axis=0),
        next_observations=np.take(rows, episodes.next_rows, axis=0),
        actions=episodes.actions,
        rewards=episodes.rewards,
        masks=(~episodes.terminations).astype(np.float32),
        lengths=episodes.lengths,
        observation_keys=keys if episodes.is_dict else (),
    )


def _moments(observations: Float32) -> tuple[Float32, Float32]:
    """Returns mean and standard deviation over the observations of all transitions."""
    mean = observations.mean(axis=0, dtype=np.float64)
    spread = observations.std(axis=0, dtype=np.float64)
    std = np.where(spread > _STD_OFFSET, spread + _STD_OFFSET, 1.0)
    return mean.astype(np.float32), std.astype(np.float32)


def _layout(
    source: Source,
    steps: Steps,
    actions: LearnableActions,
    moments: tuple[Float32 | None, Float32 | None],
    trusted: bool,
) -> Layout:
    """Describes the evaluation environment, or what is known of it without one."""
    low, high = actions.bounds or (None, None)
    layout: dict[str, Any] = {
        "observation_dim": int(steps.observations.shape[1]),
        "action_dim": int(actions.values.shape[1]),
        "observation_keys": steps.observation_keys,
        "observation_mean": moments[0],
        "observation_std": moments[1],
        "action_low": low,
        "action_high": high,
        "discrete_start": None if actions.discrete is None else actions.discrete.start,
    }
    if source.evaluation is None:
        return Layout(**layout)
    return EnvironmentDescription(
        **layout,
        spec=source.evaluation.to_json(),
        kwargs=steps.kwargs,
        maze=steps.maze,
        trusted=trusted,
        requirements=source.requirements,
        model_xml=source.model_xml,
    )
