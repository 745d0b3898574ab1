"""Where the randomness of collected data comes from, and what they were made with."""

import hashlib
import importlib.metadata
import pathlib
from typing import Any

import numpy as np

from iql_jax import __version__

COLLECTING, SCORING = 0, 1
"""The streams of randomness: for the data, and for the reference scores."""

_PACKAGES = ("gymnasium", "gymnasium-robotics", "minari", "mujoco", "numpy")


_OF_THE_CONTROLLER = ("ant_direction_env", "distill_ant", "evaluate_ant", "train_ant")
"""Modules that trained the packaged ant controller: no dataset depends on their code."""


def randomness(seed: int, stream: int, index: int) -> tuple[int, np.random.Generator]:
    """Derive the seed of a reset and a generator that no other stream or index shares.

    Args:
        seed: the dataset's.
        stream: ``COLLECTING`` or ``SCORING``.
        index: the shard, lane or episode.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(stream, index))
    return int(sequence.generate_state(1)[0]), np.random.default_rng(sequence)


def package_versions() -> dict[str, str]:
    """The versions that the content of a dataset may depend on."""
    return {"iql_jax": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}


def provenance(module: str, **collection: Any) -> dict[str, Any]:
    """What the metadata of a dataset of this package say about where it comes from.

    Args:
        module: the name of the module that makes it.
        collection: all that its content depends on, besides the versions.
    """
    return {
        "author": {"iql_jax"},
        "code_permalink": f"iql_jax {__version__}: {module.replace('.', '/')}.py",
        "collection": {**collection, "versions": package_versions()},
    }


def code_digest() -> str:
    """Sum up the code that makes data: between two releases it changes under one version."""
    folder = pathlib.Path(__file__).parent
    files = [file for file in sorted(folder.glob("*.py")) if file.stem not in _OF_THE_CONTROLLER]
    files.append(folder.parent / "envs" / "mazes.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
