"""Gymnasium-Robotics' maze environments, without what collection does not need."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.specs import register_robotics

REQUIREMENTS = ("gymnasium>=1.0", "gymnasium-robotics>=1.4", "mujoco>=3.0")
"""What a dataset of Gymnasium-Robotics' environments asks to be installed."""


def registered_spec(env_id: str) -> EnvSpec:
    """Get a copy of a registered specification, whose arguments may be changed."""
    register_robotics()
    spec = gym.spec(env_id)
    return dataclasses.replace(spec, kwargs=dict(spec.kwargs))


def first_registered(env_ids: Sequence[str]) -> EnvSpec | None:
    """Returns the specification of the first environment that the installed packages have."""
    for env_id in env_ids:
        with contextlib.suppress(gym.error.Error):
            return registered_spec(env_id)
    return None


def bare_environment(spec: EnvSpec) -> Any:
    """Build a maze environment without wrappers, which would cost more than the physics."""
    env: Any = gym.make(spec, disable_env_checker=True).unwrapped
    os.unlink(env.tmp_xml_file_path)  # Loaded already; the environment leaves it behind.
    return env
