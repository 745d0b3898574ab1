"""Scores: their rules, and the reference returns that they need."""

import pytest
from minari_datasets import (
    change_metadata,
    load,
    spec_json,
    write_box,
)

from iql_jax.data.scores import (
    D4RL_REFERENCES,
    ScoreRule,
    d4rl_reference,
    minari_references,
    normalized_score,
)
from iql_jax.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("data_folders")


@pytest.fixture
def folder():
    return write_box()


def test_scores():
    rule = ScoreRule("normalized", 10.0, 30.0)
    assert rule.score([10, 20], None) == 25
    assert rule.score([40], [True]) == 150
    assert ScoreRule("success").score([0, 0, 0, 9], [True, False, False, False]) == 25
    assert ScoreRule("success").score([1.0], None) is None
    assert ScoreRule("none").score([1.0], [True]) is None
    with pytest.raises(UserError, match="reference scores must rise"):
        normalized_score(1, 2, 2)


def test_references_of_minari_datasets():
    stored = {"ref_min_score": 1.0, "ref_max_score": 3.0}
    assert minari_references({"dataset_id": "any/thing-v0", **stored}) == (1, 3)
    assert minari_references({"dataset_id": "any/thing-v0", "ref_min_score": 1.0}) == (None, None)
    door = {"dataset_id": "D4RL/door/human-v2"}
    assert minari_references(door) == D4RL_REFERENCES["door"]
    assert minari_references(door | stored) == (1, 3)
    # New data from other versions of the environments: D4RL's constants are not theirs.
    assert minari_references({"dataset_id": "mujoco/hopper/medium-v0"}) == (None, None)


def test_references_that_do_not_rise_are_noted(folder):
    change_metadata(folder, ref_min_score=3.0, ref_max_score=3.0)
    found = load()
    assert found.score_rule.kind == "none"
    assert "do not rise, from 3.0" in found.record["notes"][0]


def test_d4rls_references():
    assert all(high > low for low, high in D4RL_REFERENCES.values())
    # Half way between hopper's references, -20.272305 and 3234.3.
    assert normalized_score(1607.0138475, *D4RL_REFERENCES["hopper"]) == pytest.approx(50)


def test_pens_references_are_for_another_time_limit(folder):
    spec = spec_json("gymnasium_robotics.envs.adroit_hand:Pen", "AdroitHandPen-v1", 200)
    change_metadata(folder, env_spec=spec, ref_min_score=96.0, ref_max_score=3076.0)
    assert "are for 100 steps" in load().record["notes"][0]


@pytest.mark.parametrize(("version", "said"), [(1, True), (2, False)])
def test_the_first_version_of_adroits_door_rewards_the_palms_distance(folder, version, said):
    entry_point = "gymnasium_robotics.envs.adroit_hand.adroit_door:AdroitHandDoorEnv"
    spec = spec_json(entry_point, f"AdroitHandDoor-v{version}", 200)
    change_metadata(folder, env_spec=spec, ref_min_score=-56.5, ref_max_score=2880.6)
    assert any("where D4RL punishes it" in note for note in load().record["notes"]) == said


SOURCE = {
    "hopper-random-v0": (-20.272305, 3234.3),
    "halfcheetah-full-replay-v2": (-280.178953, 12135.0),
    "walker2d-medium-expert-v1": (1.629008, 4592.3),
    "ant-medium-replay-v2": (-325.6, 3879.7),
    "antmaze-large-diverse-v0": (0.0, 1.0),
    "maze2d-umaze-v0": (0.94, 62.6),
    "maze2d-umaze-v1": (23.85, 161.86),
    "maze2d-large-dense-v1": (30.569041, 303.4857382709002),
    "maze2d-medium-dense-v0": (19.477620, 96.03474232952358),
    "pen-human-v1": (96.262799, 3076.8331017826877),
    "relocate-human-longhorizon-v1": (-6.425911, 4233.877797728884),
    "kitchen-mixed-v0": (0.0, 4.0),
}
"""A sample of d4rl/infos.py and of the registrations."""


def test_references_by_d4rls_names():
    assert {name: d4rl_reference(name) for name in SOURCE} == SOURCE
    for name in ("ant2-medium-v0", "minigrid-fourrooms-v0", "hopper2", ""):
        assert d4rl_reference(name) is None
