"""The configs of this package, by the names of their files in ``configs/``."""

import runpy
from pathlib import Path

import ml_collections

from iql_jax.training.config import Config, from_mapping, kind_of
from iql_jax.utils.errors import UserError


def beside_package(name: str) -> Path:
    """Returns a file or folder beside the package in a clone, and within it where installed."""
    package = Path(__file__).parents[1]
    return package / name if (package / name).exists() else package.parent / name


def preset_file(name: str) -> Path:
    """Returns the file of a config, such as 'antmaze'; raises UserError if there is none."""
    folder = beside_package("configs")
    if not (folder / f"{name}.py").is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.py")))
        raise UserError(f"there is no config {name!r}; give a file, or one of {known}")
    return folder / f"{name}.py"


def preset(name: str) -> ml_collections.ConfigDict:
    """Returns a config by its name, for another config to start from."""
    return runpy.run_path(str(preset_file(name)))["get_config"]()


def load_config(name: str, **changes: object) -> Config:
    """Returns the settings of a config by its name, but for ``changes``, by key.

    A ``FinetuneConfig`` for the configs of fine-tuning. Raises UserError for unknown names and
    keys, and for values out of range.
    """
    settings = preset(name).to_dict()
    return from_mapping({**settings, **changes}, kind_of(settings))
