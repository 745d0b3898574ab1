"""The metadata of a Minari dataset, and the action space that they declare."""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import parse_json, read_json, reading

AGAIN = "move its folder away, and download or generate it again"

REALS, INTEGERS = "f", "iub"
"""Kinds of NumPy's types."""

_MOST = 10_000
"""Discrete actions above which their one-hot vectors would fill the memory."""


def _is_whole(number: Any, least: int = 0, most: int = 2**62) -> bool:
    return type(number) is int and least <= number <= most


def _is_finite(number: Any) -> bool:
    return type(number) in (int, float) and math.isfinite(number)


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and text.isprintable() and text != ""


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "dataset_id": _is_name,
    **dict.fromkeys(("total_episodes", "total_steps"), _is_whole),
    **dict.fromkeys(("ref_min_score", "ref_max_score"), _is_finite),
    **dict.fromkeys(
        ("data_format", "observation_space", "action_space", "env_spec", "eval_env_spec"),
        lambda entry: isinstance(entry, str),
    ),
    "requirements": lambda entry: isinstance(entry, list) and all(map(_is_name, entry)),
    "collection": lambda entry: isinstance(entry, dict),
}
"""Kinds of the entries that are used."""

_REQUIRED = ("dataset_id", "total_episodes", "total_steps")


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
    why = "" if file.exists() else "it is incomplete, or Minari before 0.5 wrote and reads it; "
    metadata = read_json(file, why + AGAIN)
    for key, fits in _ENTRIES.items():
        entry = metadata.get(key)
        if not (fits(entry) or (entry is None and key not in _REQUIRED)):
            raise UserError(f"{file} holds {repr(entry)[:200]} as its {key}: {AGAIN}")
    return metadata


def action_space(metadata: dict[str, Any]) -> DiscreteActions | BoxActions | None:
    """Returns a dataset's action space; None where the metadata have none.

    Raises:
        UserError: if the entry is broken, or names another kind of space.
    """
    with reading(f"the action space of {metadata['dataset_id']}", AGAIN):
        text = metadata.get("action_space")
        if not text:
            return None
        space = parse_json(text)
        kind = space["type"]
        if kind == "Discrete":
            n, start = space["n"], space.get("start", 0)
            if not (_is_whole(n, 1, _MOST) and _is_whole(start, -_MOST, _MOST)):
                raise ValueError(f"n {n!r} and start {start!r}")
            return DiscreteActions(n, start)
        if kind == "Box":
            with np.errstate(over="ignore"):  # Such a bound is none.
                low, high = (np.array(space[key], np.float32).ravel() for key in ("low", "high"))
            if low.size != high.size:
                raise ValueError(f"{low.size} lower and {high.size} upper bounds")
            return BoxActions(low, high)
        raise UserError(
            f"dataset {metadata['dataset_id']} has {kind!r} actions; only Box and Discrete ones "
            "are supported"
        )


def observation_entries(metadata: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Returns the width of each entry of an observation, and the kinds of NumPy's types it may be.

    Entries are 'observations' or 'observations/...'; there are none without such a space.

    Raises:
        UserError: if the entry is broken, or names observations that are no vectors of numbers.
    """
    with reading(f"the observation space of {metadata['dataset_id']}", AGAIN):
        found = dict[str, tuple[int, str]]()
        text = metadata.get("observation_space")
        spaces = [("observations", parse_json(text))] if text else []
        for path, space in spaces:
            kind = space["type"]
            if kind == "Dict":
                spaces += [(f"{path}/{key}", inner) for key, inner in space["subspaces"].items()]
                continue
            shape = [space["n"]] if kind == "MultiBinary" else space.get("shape", [])
            is_vector = len(shape) < 2 and all(_is_whole(n, 1) for n in shape)
            if kind not in ("Box", "MultiBinary") or not is_vector:
                raise UserError(
                    f"dataset {metadata['dataset_id']} has {kind!r} observations of shape {shape}; "
                    "only vectors of numbers can be learned from (discrete ones: as one-hot)"
                )
            is_real = kind == "Box" and np.dtype(space["dtype"]).kind == "f"
            found[path] = math.prod(shape), REALS if is_real else INTEGERS
        return found
