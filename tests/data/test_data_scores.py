"""Scores: their rules, and the reference returns that they need."""

import pytest
from minari_datasets import (
    change_metadata,
    load,
    spec_json,
    write_box,
)

from iql_jax.data.scores import D4RL_REFERENCES, ScoreRule, normalized_score, score_rule
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


def test_score_rules():
    references = {"ref_min_score": 1.0, "ref_max_score": 3.0}
    assert score_rule("any/thing-v0", references, False) == ScoreRule("normalized", 1.0, 3.0)
    assert score_rule("any/thing-v0", references, True) == ScoreRule("success")
    assert score_rule("any/thing-v0", {}, False) == ScoreRule("none")
    assert score_rule("any/thing-v0", {"ref_min_score": 1.0}, False) == ScoreRule("none")
    equal = {"ref_min_score": 1.0, "ref_max_score": 1.0}
    assert score_rule("any/thing-v0", equal, False) == ScoreRule("none")
    door = ScoreRule("normalized", *D4RL_REFERENCES["door"])
    assert score_rule("D4RL/door/human-v2", {}, False) == door
    assert score_rule("D4RL/door/human-v2", references, False).ref_min == 1.0
    # New data from other versions of the environments: D4RL's constants are not theirs.
    assert score_rule("mujoco/hopper/medium-v0", {}, False) == ScoreRule("none")


def test_references_that_do_not_rise_are_noted(folder):
    change_metadata(folder, ref_min_score=3.0, ref_max_score=3.0)
    found = load()
    assert found.score_rule.kind == "none"
    assert found.record["notes"] == [
        "no score: the reference scores do not rise, from 3.0 (random) to 3.0"
    ]


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
