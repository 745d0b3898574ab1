"""The checks of a dataset's environments and versions: what builds, what fits, what differs."""

import json

import gymnasium as gym
import pytest
from minari_datasets import maze_spec

from iql_jax.data import environment_checks

CORRIDOR = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]


class TestVersions:
    @pytest.mark.parametrize("versions", ["x", 3, [1]])
    def test_a_broken_record_is_none(self, versions):
        (finding,) = environment_checks.check_versions({"collection": {"versions": versions}})
        assert finding.level == "ok"

    def test_no_requirement_no_record(self):
        (finding,) = environment_checks.check_versions({})
        assert finding.level == "ok"

    def test_differences_are_noted(self):
        metadata = {
            "requirements": ["numpy>=99", "no-such-package>=1", "???", "numpy>=1"],
            "collection": {"versions": {"numpy": "1.0.0"}},
        }
        findings = environment_checks.check_versions(metadata)
        assert {finding.level for finding in findings} == {"note"}
        texts = " | ".join(finding.text for finding in findings)
        assert len(findings) == 4
        for part in (
            "numpy>=99 is asked for",
            "no-such-package is not installed",
            "'???' cannot be read",
            "made with 1.0.0",
        ):
            assert part in texts


class TestEnvironments:
    def test_without_any(self):
        (finding,) = environment_checks.check_environments({})
        assert finding.level == "note"

    def test_a_stranger_is_imported_only_if_trusted(self):
        spec = json.dumps({"id": "Lab-v0", "entry_point": "no_such_module:Env", "kwargs": {}})
        (finding,) = environment_checks.check_environments({"env_spec": spec})
        assert finding.level == "note"  # The files may well be right.
        assert "'no_such_module:Env', which is not in a known namespace" in finding.text
        (finding,) = environment_checks.check_environments({"env_spec": spec}, trusted=True)
        assert finding.level == "defect"
        assert "ModuleNotFoundError" in finding.text

    def test_other_spaces_than_the_datasets(self):
        spaces = {
            "observation_space": _box(4),
            "action_space": _box(2),
            "env_spec": maze_spec(CORRIDOR),
        }
        (finding,) = environment_checks.check_environments(spaces)
        assert finding.level == "defect"
        assert "those of the dataset are [4]" in finding.text

    def test_without_a_time_limit(self):
        limited = gym.spec("HalfCheetah-v4").to_json()
        endless = json.dumps(json.loads(limited) | {"max_episode_steps": None})
        assert environment_checks.check_environments({"env_spec": limited})[0].level == "ok"
        (finding,) = environment_checks.check_environments({"env_spec": endless})
        assert finding.level == "defect"
        assert "HalfCheetah-v4 has no time limit" in finding.text
        # Of the one that is only collected in, it does not matter.
        specs = {"env_spec": endless, "eval_env_spec": limited}
        assert [f.level for f in environment_checks.check_environments(specs)] == ["ok", "ok"]

    @pytest.mark.parametrize("space", ['{"type": "Box", "sha', '{"type": "Knob"}'])
    @pytest.mark.parametrize("key", ["observation_space", "action_space"])
    def test_a_space_that_cannot_be_read(self, key, space):
        (finding,) = environment_checks.check_environments(
            {"env_spec": maze_spec(CORRIDOR), key: space}
        )
        assert finding.level == "defect"
        what = key.replace("_space", "s")
        assert f"the space of the {what} cannot be read" in finding.text


def _box(size):
    space = {"type": "Box", "dtype": "float32", "shape": [size]}
    return json.dumps(space | {"low": [-1.0] * size, "high": [1.0] * size})
