"""The metadata of a Minari dataset: reading them, and what they say of actions and packages."""

import dataclasses
import importlib.metadata
import json
import pathlib
from typing import Any

import numpy as np
from packaging.requirements import InvalidRequirement, Requirement

from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import UserError

AGAIN = "delete its folder, and download or generate it again"

_KINDS: dict[str, Any] = {
    "action_space": str,
    "collection": dict,
    "data_format": str,
    "env_spec": str,
    "eval_env_spec": str,
    "ref_max_score": int | float,
    "ref_min_score": int | float,
    "requirements": list,
}
"""Entries of the metadata, which may be missing, and what they are in JSON."""


@dataclasses.dataclass(frozen=True)
class DiscreteActions:
    """The integers from ``start`` on, ``n`` of them; to the policy they are one-hot vectors."""

    n: int
    start: int

    @property
    def columns(self) -> int:
        """How many numbers a dataset stores of an action."""
        return 1


@dataclasses.dataclass(frozen=True, eq=False)
class BoxActions:
    """Vectors between ``low`` and ``high``, each [action_dim]."""

    low: Float32
    high: Float32

    @property
    def columns(self) -> int:
        """How many numbers a dataset stores of an action."""
        return self.low.size


def read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """Reads a Minari dataset's metadata.

    Args:
        path: the dataset's folder, which holds ``data/metadata.json``.

    Raises:
        UserError: if they are missing or broken.
    """
    file = path / "data" / "metadata.json"
    try:
        metadata = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): {AGAIN}") from error
    if not isinstance(metadata, dict):
        raise UserError(f"{file} holds no metadata: {AGAIN}")
    missing = {"dataset_id", "total_episodes"} - set(metadata)
    if missing:
        raise UserError(f"{file} lacks {', '.join(sorted(missing))}: {AGAIN}")
    for key, kind in _KINDS.items():
        if not isinstance(metadata.get(key), kind | None):
            raise UserError(f"{file} holds {metadata[key]!r} as its {key}: {AGAIN}")
    return metadata


def action_space(metadata: dict[str, Any]) -> DiscreteActions | BoxActions | None:
    """What a dataset's actions are; None where the metadata do not tell.

    Raises:
        UserError: if the entry is broken, or names another kind of space.
    """
    text = metadata.get("action_space")
    if not text:
        return None
    name = f"dataset {metadata['dataset_id']}"
    try:
        space = json.loads(text)
        kind = space["type"]
        if kind == "Discrete":
            return DiscreteActions(int(space["n"]), int(space.get("start", 0)))
        if kind == "Box":
            low, high = (np.array(space[key], np.float32).reshape(-1) for key in ("low", "high"))
            width = int(np.prod(space.get("shape", low.shape)))
            if not low.size == high.size == width:
                raise ValueError(f"{low.size} and {high.size} bounds of {width} numbers")
            return BoxActions(low, high)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{name} has an action space that cannot be read ({reason}): {AGAIN}"
        ) from error
    raise UserError(f"{name} has {kind} actions; only Box and Discrete ones are supported")


def unmet_requirements(metadata: dict[str, Any]) -> list[str]:
    """Returns a line for each requirement that the installed packages do not meet."""
    lines = (_unmet(str(item)) for item in metadata.get("requirements") or ())
    return [line for line in lines if line is not None]


def _unmet(item: str) -> str | None:
    try:
        requirement = Requirement(item)
        version = importlib.metadata.version(requirement.name)
    except InvalidRequirement:
        return f"the requirement {item!r} cannot be read"
    except importlib.metadata.PackageNotFoundError:
        return f"{item} is asked for, {requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{item} is asked for, {version} is installed: results may differ"
    return None
