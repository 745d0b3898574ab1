"""Builds the environment that a dataset names, without running code from strangers.

A dataset names its environment by an entry point, and building the environment imports that entry
point: a dataset from a stranger could so run any code. ``make_from_spec`` looks at every module
the specification names before anything is imported, and refuses those it does not know unless the
user says that the dataset is trusted.
"""

import contextlib
import importlib.metadata
import io
import json
import os
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from iql_jax.utils.errors import NoEnvironment, UntrustedEnvironment, UserError, one_line

KNOWN_NAMESPACES = (
    "gymnasium.envs.box2d",
    "gymnasium.envs.classic_control",
    "gymnasium.envs.mujoco",
    "gymnasium_robotics.envs",
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

_OBSOLETE_SPEC_KEYS = ("autoreset", "apply_api_compatibility")  # Written by gymnasium < 1.0.


def parse_spec(text: str) -> EnvSpec:
    """Parses an ``EnvSpec`` written by this or an older gymnasium; imports nothing.

    Raises:
        UserError: If it is no specification that this gymnasium understands.
    """
    try:
        fields = json.loads(text)
        for key in _OBSOLETE_SPEC_KEYS:
            fields.pop(key, None)
        fields.setdefault("additional_wrappers", [])
        fields["kwargs"] = fields.get("kwargs") or {}
        fields["kwargs"].pop("render_mode", None)
        fields["vector_entry_point"] = None
        return EnvSpec.from_json(json.dumps(fields))
    except Exception as error:
        raise UserError(
            f"the dataset's environment specification cannot be read ({one_line(error)}): "
            f"{text[:200]!r}"
        ) from error


def check_namespace(spec: EnvSpec) -> None:
    """Refuses a specification that would import code that is not known to be safe.

    Raises:
        UntrustedEnvironment: If it names such code.
        NoEnvironment: If it names a wrapper that remembers earlier episodes.
    """
    _check_memory(spec)
    entry_point = str(spec.entry_point)
    if not _is_in(entry_point.partition(":")[0], KNOWN_NAMESPACES):
        raise UntrustedEnvironment(
            f"the dataset's environment {spec.id!r} would import and run {entry_point!r}, which is "
            f"not in a known namespace ({', '.join(KNOWN_NAMESPACES)}), and is trusted only with "
            "trust_environment"
        )
    for wrapper in spec.additional_wrappers:
        module, _, name = str(wrapper.entry_point).partition(":")
        if not _is_in(module, ("gymnasium.wrappers",)) or name not in KNOWN_WRAPPERS:
            raise UntrustedEnvironment(
                f"the dataset's environment {spec.id!r} would apply the wrapper "
                f"{wrapper.entry_point!r}, which is none of gymnasium's harmless ones "
                f"({', '.join(KNOWN_WRAPPERS)}), and is trusted only with trust_environment"
            )


def make_from_spec(
    spec_json: str,
    kwargs: dict[str, Any],
    *,
    trusted: bool = False,
    render_mode: str | None = None,
    requirements: tuple[str, ...] = (),
) -> gym.Env:
    """Builds the environment that a specification describes, as it is.

    Args:
        spec_json: Gymnasium's ``EnvSpec`` as JSON.
        kwargs: Arguments of the constructor that replace those in the specification.
        trusted: Whether environments from unknown namespaces may be imported.
        render_mode: As in ``gymnasium.make``.
        requirements: The packages that the dataset asks for, for the error's hint.

    Raises:
        UserError: If it is no specification that this gymnasium understands.
        UntrustedEnvironment: If the namespace is unknown and not trusted.
        NoEnvironment: If it does not build.
    """
    spec = parse_spec(spec_json)
    _check_memory(spec)
    if not trusted:
        check_namespace(spec)
    if render_mode is not None:
        kwargs = {**kwargs, "render_mode": render_mode}
    try:
        if str(spec.entry_point).startswith("gymnasium_robotics."):
            register_robotics()
        if not trusted:
            _check_classes(spec)
        # The checker would only repeat, at every step, what DatasetLayout looks at once.
        env = gym.make(spec, disable_env_checker=True, **kwargs)
    except UserError:
        raise
    except Exception as error:
        raise NoEnvironment(_why_not_built(spec, error, requirements)) from error
    # A maze environment writes a model file for its constructor and leaves it behind.
    model_file = getattr(env.unwrapped, "tmp_xml_file_path", None)
    if model_file is not None:
        with contextlib.suppress(OSError):
            os.remove(model_file)
    return env


def register_robotics() -> None:
    """Makes gymnasium_robotics' environments known to gymnasium."""
    with contextlib.redirect_stderr(io.StringIO()):  # It prints its news in every process.
        import gymnasium_robotics
    gym.register_envs(gymnasium_robotics)


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _check_memory(spec: EnvSpec) -> None:
    for wrapper in spec.additional_wrappers:
        name = str(wrapper.entry_point).rpartition(":")[2]
        if name in _WITH_MEMORY:
            raise NoEnvironment(
                f"the dataset's environment {spec.id!r} has the wrapper {name}, whose statistics "
                "carry over from episode to episode: what an episode gives would depend on those "
                "before it"
            )


def _check_classes(spec: EnvSpec) -> None:
    """Known packages hold more than environments: refuse anything that is no such class."""
    named: list[tuple[str, type]] = [(str(spec.entry_point), gym.Env)]
    named += [(wrapper.entry_point, gym.Wrapper) for wrapper in spec.additional_wrappers]
    for entry_point, base in named:
        creator: Any = load_env_creator(entry_point)
        if not (isinstance(creator, type) and issubclass(creator, base)):
            raise UserError(f"{entry_point!r}, named by environment {spec.id!r}, is no {base}")


def _why_not_built(spec: EnvSpec, error: Exception, requirements: tuple[str, ...]) -> str:
    versions = []
    for package in ("gymnasium", "gymnasium-robotics", "mujoco"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    message = (
        f"environment {spec.id!r} ({spec.entry_point}) does not build: {one_line(error)}; "
        f"installed: {', '.join(versions)}"
    )
    if requirements:
        message += f"; the dataset asks for: {', '.join(requirements)}"
    if "franka_kitchen" in str(spec.entry_point):
        message += (
            "; FrankaKitchen does not build under mujoco 3.12 or newer: pip install 'mujoco<3.12'"
        )
    return message
