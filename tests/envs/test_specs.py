"""Environments from specifications: nothing of a stranger's is imported, and failures say why."""

import json
import sys

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
from minari_datasets import spec_json

from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.make import make_environment
from iql_jax.envs.specs import KNOWN_NAMESPACES, check_spec, parse_spec
from iql_jax.utils.errors import NoEnvironment, UntrustedEnvironment, UserError

gym.register_envs(gymnasium_robotics)

PENDULUM = spec_json("gymnasium.envs.classic_control.pendulum:PendulumEnv", "Pendulum-v1", 200)


def described(spec, **fields):
    """The description of an environment as large as the pendulum."""
    bounds = {"action_low": np.float32([-2]), "action_high": np.float32([2])}
    fields = {"spec": spec, "observation_dim": 3, "action_dim": 1, **bounds, **fields}
    return EnvironmentDescription(**fields)


def wrapped(entry_point, **kwargs):
    """The pendulum's specification with a wrapper."""
    wrapper = {"name": "W", "entry_point": entry_point, "kwargs": kwargs}
    return json.dumps({**json.loads(PENDULUM), "additional_wrappers": [wrapper]})


# What may be imported.


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module that leaves a trace as soon as it is imported."""
    trace = tmp_path / "trace"
    (tmp_path / "stranger_envs.py").write_text(
        f"open({str(trace)!r}, 'w').close()\n"
        "import gymnasium as gym\n"
        "class StrangerEnv(gym.Env):\n"
        "    observation_space = gym.spaces.Box(-1, 1, (3,))\n"
        "    action_space = gym.spaces.Box(-2, 2, (1,))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield trace
    sys.modules.pop("stranger_envs", None)


def test_a_strangers_code_is_imported_only_with_trust(stranger):
    for spec in (
        spec_json("stranger_envs:StrangerEnv", "Stranger-v0"),
        wrapped("stranger_envs:StrangerEnv"),
    ):
        with pytest.raises(UntrustedEnvironment, match=r"stranger_envs.*only with trust_env"):
            make_environment(described(spec))
    assert not stranger.exists()
    env = make_environment(described(spec_json("stranger_envs:StrangerEnv"), trusted=True))
    assert stranger.exists()
    assert type(env.unwrapped).__name__ == "StrangerEnv"


@pytest.mark.parametrize(
    "entry_point",
    [
        "gymnasium.envs.registration:make",  # Would import the module that its id names.
        "gymnasium.utils.env_checker:check_env",
        "gymnasium_robotics_evil.envs:Env",
        "gymnasium.envs.mujoco_evil:Env",
        "os:system",
        "None",
    ],
)
def test_known_namespaces_are_whole_packages_of_environments(entry_point):
    with pytest.raises(UntrustedEnvironment, match="not in a known namespace"):
        check_spec(parse_spec(spec_json(entry_point, "X-v0")), trusted=False)


@pytest.mark.parametrize("name", ["expand_model_path", "Space"])
def test_only_classes_of_environments_are_called(name):
    with pytest.raises(UserError, match=r"is no <class 'gymnasium\.core\.Env'>"):
        make_environment(described(spec_json(f"gymnasium.envs.mujoco.mujoco_env:{name}", "X-v0")))


def test_every_environment_of_the_known_packages_passes():
    for spec in gym.registry.values():
        if str(spec.entry_point).startswith(KNOWN_NAMESPACES):
            check_spec(parse_spec(spec.to_json()), trusted=False)


@pytest.mark.parametrize(
    "entry_point",
    [
        "gymnasium.wrappers:RecordVideo",  # Writes files.
        "gymnasium.wrappers.rendering:HumanRendering",
        "gymnasium.wrappers_evil:TimeLimit",
        "os:TimeLimit",
    ],
)
def test_other_wrappers_need_trust(entry_point):
    with pytest.raises(UntrustedEnvironment, match=r"harmless ones.*only with trust_environment"):
        make_environment(described(wrapped(entry_point)))


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("name", ["NormalizeReward", "NormalizeObservation"])
def test_wrappers_that_remember_earlier_episodes_are_refused(name, trusted):
    with pytest.raises(NoEnvironment, match=f"{name}.*carry over from episode to episode"):
        check_spec(parse_spec(wrapped(f"gymnasium.wrappers:{name}")), trusted)


# What is no specification.


def test_specifications_of_older_gymnasiums():
    fields = json.loads(PENDULUM)
    fields |= {"autoreset": True, "apply_api_compatibility": False, "kwargs": None}
    del fields["additional_wrappers"]
    spec = parse_spec(json.dumps(fields))
    assert (spec.id, spec.max_episode_steps, spec.kwargs) == ("Pendulum-v1", 200, {})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"id": "no version"}', '{"id": "A-v0", "new": 1}', "[" * 200_000],
)
def test_what_is_no_specification(text):
    with pytest.raises(UserError, match="specification cannot be read"):
        parse_spec(text)


def test_a_stored_render_mode_opens_no_window():
    spec = PENDULUM.replace('"kwargs": {}', '"kwargs": {"render_mode": "human"}')
    assert make_environment(described(spec)).render_mode is None
    assert make_environment(described(spec), "rgb_array").render_mode == "rgb_array"


# What does not build.


def test_an_environment_that_does_not_build_says_why():
    spec = spec_json("gymnasium_robotics.envs.franka_kitchen.v99:KitchenEnv", "Kitchen-v1")
    with pytest.raises(NoEnvironment) as caught:
        make_environment(described(spec, requirements=("mujoco==3.1.6",)))
    message = str(caught.value)
    for part in ("Kitchen-v1", "ModuleNotFoundError", "for: mujoco==3.1.6", "iql_jax[kitchen]"):
        assert part in message
    assert "\n" not in message


def test_a_harmless_wrapper_is_applied():
    env = make_environment(described(wrapped("gymnasium.wrappers:ClipReward", min_reward=-0.25)))
    env.reset(seed=0)
    assert all(env.step([1.0])[1] >= -0.25 for _ in range(20))
