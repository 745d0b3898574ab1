"""Actions as the policy makes them: inside [-1, 1], whatever the environment's range."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.data.episodes import FloatArray
from iql_jax.errors import UserError

ACTION_LIMIT = 1 - 1e-5
"""Actions of the data are clipped to this size, as the official implementation does."""

Bounds = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def action_bounds(metadata: dict[str, Any]) -> Bounds | None:
    """The range of the environment's actions, where it is not [-1, 1].

    Args:
        metadata: a Minari dataset's metadata.

    Returns:
        (low, high), each [action_dim], or None where no change of scale is needed.

    Raises:
        UserError: if a component has no bounds.
    """
    text = metadata.get("action_space")
    if not text:
        return None
    space = json.loads(text)
    low, high = (np.array(space[key], dtype=np.float32).reshape(-1) for key in ("low", "high"))
    if (low == -1).all() and (high == 1).all():
        return None
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise UserError(
            f"dataset {metadata['dataset_id']} has actions between {low} and {high}; every "
            "component needs finite bounds, for the policy acts in [-1, 1]"
        )
    return low, high


def to_unit_box(actions: FloatArray, bounds: Bounds | None) -> tuple[FloatArray, list[str]]:
    """Bring actions [N, action_dim] from the environment's range into [-1, 1], and clip them.

    Returns:
        Actions of size at most ``ACTION_LIMIT``, and notes on what was changed.
    """
    notes = []
    if bounds is not None:
        low, high = bounds
        actions = (actions - low) / (high - low) * 2 - 1
        notes.append("actions are rescaled from the environment's range to [-1, 1]")
    outside = int((np.abs(actions) > 1 + 1e-6).any(axis=1).sum())
    if outside:
        share = f"{100 * outside / len(actions):.2g} %"
        notes.append(f"{outside} actions ({share}) lay outside the action space and are clipped")
    return np.clip(actions, -ACTION_LIMIT, ACTION_LIMIT, dtype=np.float32), notes
