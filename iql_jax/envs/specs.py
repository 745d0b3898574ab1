"""Specifications of the environments that datasets name, and which of them may be built.

A specification names an entry point, and building the environment imports it: a dataset from a
stranger could so run any code. ``check_spec`` looks at every module that is named before anything
is imported, and refuses those it does not know unless the user says that the dataset is trusted.
"""

import contextlib
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from iql_jax.utils.errors import NoEnvironment, UntrustedEnvironment, UserError
from iql_jax.utils.files import parse_json, reading

KNOWN_NAMESPACES = (
    "gymnasium.envs.box2d",
    "gymnasium.envs.classic_control",
    "gymnasium.envs.mujoco",
    "gymnasium_robotics.envs",
    "iql_jax.envs.d4rl_ant_maze",
    "iql_jax.envs.kitchen",
)
"""Packages whose environment classes may be imported for any dataset.

Not all of ``gymnasium``: ``gymnasium.envs.registration:make`` is a valid entry point, and imports
whatever module its arguments name.
"""

KNOWN_WRAPPERS = (
    "ClipAction",
    "ClipReward",
    "DtypeObservation",
    "FilterObservation",
    "FlattenObservation",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RescaleAction",
    "RescaleObservation",
    "ReshapeObservation",
    "TimeAwareObservation",
    "TimeLimit",
)
"""Classes of ``gymnasium.wrappers`` that any dataset may name; others write files, for example."""

_WITH_MEMORY = ("NormalizeObservation", "NormalizeReward")


def parse_spec(text: str) -> EnvSpec:
    """Parses an ``EnvSpec`` written by this or an older gymnasium; imports nothing.

    Raises:
        UserError: If it is no specification that this gymnasium understands.
    """
    with reading("the dataset's environment specification", repr(text)[:200]):
        fields = {"additional_wrappers": [], **parse_json(text), "vector_entry_point": None}
        for key in ("autoreset", "apply_api_compatibility"):  # Written by gymnasium < 1.0.
            fields.pop(key, None)
        fields["kwargs"] = dict(fields.get("kwargs") or {})
        fields["kwargs"].pop("render_mode", None)
        return EnvSpec.from_json(json.dumps(fields))


def check_spec(spec: EnvSpec, trusted: bool) -> None:
    """Refuses a specification that would import code that is not known to be safe.

    Raises:
        UntrustedEnvironment: If it names such code and is not trusted.
        NoEnvironment: If it names a wrapper that remembers earlier episodes.
    """
    for wrapper in spec.additional_wrappers:
        name = str(wrapper.entry_point).rpartition(":")[2]
        if name in _WITH_MEMORY:
            raise NoEnvironment(
                f"the dataset's environment {spec.id!r} has the wrapper {name}, whose statistics "
                "carry over from episode to episode: results would depend on earlier episodes"
            )
    if trusted:
        return
    refused = f"the dataset's environment {spec.id!r} would import and run"
    if not _is_in(str(spec.entry_point).partition(":")[0], KNOWN_NAMESPACES):
        raise UntrustedEnvironment(
            f"{refused} {str(spec.entry_point)!r}, which is not in a known namespace "
            f"({', '.join(KNOWN_NAMESPACES)}), and is trusted only with trust_environment"
        )
    for wrapper in spec.additional_wrappers:
        module, _, name = str(wrapper.entry_point).partition(":")
        if not _is_in(module, ("gymnasium.wrappers",)) or name not in KNOWN_WRAPPERS:
            raise UntrustedEnvironment(
                f"{refused} the wrapper {wrapper.entry_point!r}, which is none of gymnasium's "
                "harmless ones, and is trusted only with trust_environment"
            )


def check_classes(spec: EnvSpec) -> None:
    """Refuses entry points that are no environment or wrapper classes; imports them.

    Known packages hold functions too, which could do anything with the dataset's arguments.
    """
    named: list[tuple[str, type]] = [(str(spec.entry_point), gym.Env)]
    named += [(wrapper.entry_point, gym.Wrapper) for wrapper in spec.additional_wrappers]
    for entry_point, base in named:
        creator: Any = load_env_creator(entry_point)
        if not (isinstance(creator, type) and issubclass(creator, base)):
            raise UserError(f"{entry_point!r}, named by environment {spec.id!r}, is no {base}")


def build(spec: EnvSpec, **kwargs: Any) -> gym.Env:
    """Builds an environment, without the checker and without the file that a maze leaves behind."""
    env = gym.make(spec, disable_env_checker=True, **kwargs)
    model_file = getattr(env.unwrapped, "tmp_xml_file_path", None)
    if model_file is not None:
        Path(model_file).unlink(missing_ok=True)
    return env


def register_robotics() -> None:
    """Makes gymnasium_robotics' environments, and those after D4RL, known to gymnasium."""
    with contextlib.redirect_stderr(io.StringIO()):  # It prints its news in every process.
        import gymnasium_robotics
    gym.register_envs(gymnasium_robotics)
    if "D4RLKitchen-v0" not in gym.registry:
        entry_point = "iql_jax.envs.kitchen:D4RLKitchen"
        gym.register("D4RLKitchen-v0", entry_point, max_episode_steps=280)
        gym.register("D4RLAntMaze-v0", "iql_jax.envs.d4rl_ant_maze:D4RLAntMaze")


def registered_spec(env_id: str) -> EnvSpec:
    """Returns a copy of a registered specification, whose arguments may be changed."""
    register_robotics()
    spec = gym.spec(env_id)
    return dataclasses.replace(spec, kwargs=dict(spec.kwargs))


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
