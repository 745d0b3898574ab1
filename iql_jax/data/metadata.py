"""The metadata of a Minari dataset, and the action space that they declare."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import UserError

AGAIN = "delete its folder, and download or generate it again"

_KINDS: dict[str, Any] = {
    **dict.fromkeys(("action_space", "env_spec", "eval_env_spec"), str),
    **dict.fromkeys(("ref_min_score", "ref_max_score"), int | float),
    "collection": dict,
    "requirements": list,
}
"""Types of the optional entries that are used."""


@dataclasses.dataclass(frozen=True)
class DiscreteActions:
    """The integers from ``start`` on, ``n`` of them; to the policy they are one-hot vectors."""

    n: int
    start: int


@dataclasses.dataclass(frozen=True, eq=False)
class BoxActions:
    """Vectors between ``low`` and ``high``, each [action_dim]."""

    low: Float32
    high: Float32


def read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """Reads ``data/metadata.json`` of a Minari dataset's folder.

    Raises:
        UserError: if it is missing or broken.
    """
    file = path / "data" / "metadata.json"
    try:
        metadata = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): {AGAIN}") from error
    if not isinstance(metadata, dict) or not {"dataset_id", "total_episodes"} <= set(metadata):
        raise UserError(f"{file} lacks dataset_id or total_episodes: {AGAIN}")
    for key, kind in _KINDS.items():
        if not isinstance(metadata.get(key), kind | None):
            raise UserError(f"{file} holds {metadata[key]!r} as its {key}: {AGAIN}")
    return metadata


def action_space(metadata: dict[str, Any]) -> DiscreteActions | BoxActions | None:
    """Returns a dataset's action space; None where the metadata have none.

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
            if low.size != high.size:
                raise ValueError(f"{low.size} lower and {high.size} upper bounds")
            return BoxActions(low, high)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(
            f"{name} has an action space that cannot be read ({error!r}): {AGAIN}"
        ) from error
    raise UserError(f"{name} has {kind} actions; only Box and Discrete ones are supported")
