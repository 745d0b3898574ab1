"""Whether a dataset's environments can be built here, and fit its data."""

import json
from typing import Any

import gymnasium as gym
from minari.serialization import deserialize_space

from iql_jax.data.findings import Finding
from iql_jax.data.requirements import installed_version, unmet_requirements
from iql_jax.envs.make import check_time_limit
from iql_jax.envs.specs import make_from_spec
from iql_jax.utils.errors import UntrustedEnvironment, UserError

_ROLES = {"env_spec": "environment", "eval_env_spec": "evaluation"}


def check_environments(metadata: dict[str, Any], trusted: bool = False) -> list[Finding]:
    """Build the collecting and the evaluation environment, and compare their spaces.

    Args:
        metadata: the dataset's.
        trusted: whether environments from unknown namespaces may be imported.
    """
    findings = [
        _check_environment(metadata, key, topic, trusted)
        for key, topic in _ROLES.items()
        if metadata.get(key)
    ]
    if not findings:
        text = "the metadata name no environment: nothing can be evaluated"
        return [Finding("note", "environment", text)]
    return findings


def _check_environment(metadata: dict[str, Any], key: str, topic: str, trusted: bool) -> Finding:
    requirements = tuple(metadata.get("requirements") or ())
    try:
        env = make_from_spec(metadata[key], {}, trusted=trusted, requirements=requirements)
    except UntrustedEnvironment as error:  # The files may well be right.
        return Finding("note", topic, f"not looked at: {error}")
    except UserError as error:
        return Finding("defect", topic, str(error))
    try:
        found = {
            "observations": _shapes(env.observation_space),
            "actions": _shapes(env.action_space),
        }
        name = env.spec.id if env.spec is not None else "the environment"
        if key == ("eval_env_spec" if metadata.get("eval_env_spec") else "env_spec"):
            check_time_limit(env)
    except UserError as error:
        return Finding("defect", topic, str(error))
    finally:
        env.close()
    for what, shapes in found.items():
        stored = metadata.get(f"{what.removesuffix('s')}_space")
        if stored is None:
            continue
        try:
            expected = _shapes(deserialize_space(stored))
        except Exception as error:  # Minari raises whatever comes of broken text.
            text = f"the space of the {what} cannot be read ({type(error).__name__}: {error})"
            return Finding("defect", topic, text)
        if expected != shapes:
            text = f"{name} has {what} {shapes}, but those of the dataset are {expected}"
            return Finding("defect", topic, text)
    limit = json.loads(metadata[key]).get("max_episode_steps")
    return Finding(
        "ok", topic, f"{name} builds and has the dataset's spaces; {limit} steps at most"
    )


def _shapes(space: gym.Space[Any]) -> Any:
    """The shape of a space, or of each entry of a Dict space; a discrete one by its name."""
    if isinstance(space, gym.spaces.Discrete):
        return str(space)
    if isinstance(space, gym.spaces.Dict):
        return {key: _shapes(entry) for key, entry in sorted(space.spaces.items())}
    return list(space.shape) if space.shape is not None else str(space)


def check_versions(metadata: dict[str, Any]) -> list[Finding]:
    """Compare the installed packages with the dataset's requirements and recorded versions."""
    differences = unmet_requirements(metadata)
    versions = (metadata.get("collection") or {}).get("versions")
    recorded = dict(versions) if isinstance(versions, dict) else {}
    recorded.setdefault("minari", metadata.get("minari_version"))
    differences += [
        f"{name} {installed_version(name)} is installed, the data were made with {version}"
        for name, version in recorded.items()
        if version is not None and installed_version(name) not in (version, None)
    ]
    if differences:
        return [Finding("note", "versions", text) for text in differences]
    made_with = ", ".join(f"{name} {version}" for name, version in recorded.items() if version)
    return [Finding("ok", "versions", f"made with {made_with or 'versions not recorded'}")]
